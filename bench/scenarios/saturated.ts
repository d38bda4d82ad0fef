/**
 * A node that is given all it can take. `accept`: the phones stay away, so that accepting is all there is to wait for, while
 * the pages' wake-ups go out beside it. `priority`: whole lifecycles, and of the pages 1 % of high priority, once among the
 * others on their connections, and once by the clock on a connection of their own.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { HOSTS } from "../stage/stage.ts";
import { countFigures, cpuFigures, onStage, type Scenario, SENDERS, type Size, WINDOW } from "./scenario.ts";

const PAGES: Readonly<Record<Size, number>> = { tiny: 400, quick: 6_000, full: 20_000 };
const WARM_UP: Readonly<Record<Size, number>> = { tiny: 20, quick: 1_000, full: 2_000 };
const PAGES_PER_PHONE = 20;
const VISITORS = 32;
const HIGH_EVERY = 100;
/** Enough of them to see a p99, and about 1 % of what a node takes. */
const BESIDE_PER_SECOND: Readonly<Record<Size, number>> = { tiny: 20, quick: 50, full: 50 };
/** The wake-ups of the first pages are out by then. */
const WARM_UP_MS = 1_500;

const common = { inARow: PAGES_PER_PHONE, pace: { window: WINDOW } };

export const ACCEPT: Scenario = {
  name: "accept",
  play(slice, size) {
    const pages = PAGES[size];
    const phones = pages / PAGES_PER_PHONE;
    return onStage(slice, size, { phones, visitors: 0 }, async (stage, load) => {
      await load.play({ ...common, pages: WARM_UP[size] });
      await sleep(WARM_UP_MS);
      const cost = await load.play({ ...common, pages });
      const { seen } = cost;
      return {
        what: `${pages} pages to ${phones} phones that stay away`,
        postgresSettings: stage.postgresSettings,
        figures: {
          pages,
          acceptedPerSecond: pages / seen.seconds,
          ...cpuFigures(cost),
          acceptP50Ms: seen.acceptMs!.p50,
          acceptP99Ms: seen.acceptMs!.p99,
          serverMb: cost.nowMb,
          serverPeakMb: cost.peakMb,
          twice: seen.twice,
          lost: seen.lost,
        },
      };
    });
  },
};

export const PRIORITY: Scenario = {
  name: "priority",
  play(slice, size) {
    const pages = PAGES[size];
    const phones = pages / PAGES_PER_PHONE;
    return onStage(slice, size, { phones, visitors: VISITORS }, async (stage, load) => {
      await load.play({ ...common, pages: WARM_UP[size] });
      const beside = { host: HOSTS[SENDERS.length]!, perSecond: BESIDE_PER_SECOND[size] };
      const cost = await load.play({ ...common, pages, highEvery: HIGH_EVERY, beside });
      const { seen } = cost;
      return {
        what: `1 % of ${pages} pages with high priority, and ${beside.perSecond} such a second on a connection of their own`,
        postgresSettings: stage.postgresSettings,
        figures: {
          pages: seen.pages,
          lifecyclesPerSecond: seen.pages / seen.seconds,
          highBesideP50Ms: seen.besideMs!.p50,
          highBesideP99Ms: seen.besideMs!.p99,
          highAmongP50Ms: seen.highMs!.p50,
          highAmongP99Ms: seen.highMs!.p99,
          acceptP50Ms: seen.acceptMs!.p50,
          acceptP99Ms: seen.acceptMs!.p99,
          ...cpuFigures(cost),
          serverMb: cost.nowMb,
          serverPeakMb: cost.peakMb,
          ...countFigures(cost),
        },
      };
    });
  },
};
