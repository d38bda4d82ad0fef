/**
 * A node that is given all it can take. `accept`: the phones stay away, so that accepting is all there is to wait for, while
 * the pages' wake-ups go out beside it. `priority`: whole lifecycles, and of the pages 1 % of high priority, once among the
 * others on their connections, and once by the clock on a connection of their own.
 */
import { HOSTS, openStage } from "../stage/stage.ts";
import { countFigures, cpuFigures, LINKS, playLoad, type Scenario, type Size, WINDOW } from "./scenario.ts";

const ACCEPT_PAGES: Readonly<Record<Size, number>> = { tiny: 200, quick: 6_000, full: 20_000 };
const PRIORITY_PAGES: Readonly<Record<Size, number>> = { tiny: 400, quick: 6_000, full: 20_000 };
const WARM_UP: Readonly<Record<Size, number>> = { tiny: 20, quick: 1_000, full: 2_000 };
const PAGES_PER_PHONE = 20;
const HIGH_EVERY = 100;
/** Enough of them to see a p99, and about 1 % of what a node takes. */
const BESIDE_PER_SECOND: Readonly<Record<Size, number>> = { tiny: 20, quick: 50, full: 50 };

export const ACCEPT: Scenario = {
  name: "accept",
  async play(slice, size) {
    const pages = ACCEPT_PAGES[size];
    const phones = pages / PAGES_PER_PHONE;
    const stage = await openStage(slice, phones);
    try {
      const away = {
        phones,
        inARow: PAGES_PER_PHONE,
        pace: { window: WINDOW },
        wakeUps: null,
        until: "ACCEPTED",
      } as const;
      await playLoad(stage, size, { ...away, pages: WARM_UP[size] });
      const cost = await playLoad(stage, size, { ...away, pages });
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
    } finally {
      await stage.close();
    }
  },
};

export const PRIORITY: Scenario = {
  name: "priority",
  async play(slice, size) {
    const pages = PRIORITY_PAGES[size];
    const phones = pages / PAGES_PER_PHONE;
    const stage = await openStage(slice, phones);
    try {
      const common = { phones, inARow: PAGES_PER_PHONE, pace: { window: WINDOW } };
      await playLoad(stage, size, { ...common, pages: WARM_UP[size] });
      const host = HOSTS[LINKS.length]!;
      const beside = { host, perSecond: BESIDE_PER_SECOND[size] };
      const cost = await playLoad(stage, size, { ...common, pages, highEvery: HIGH_EVERY, beside });
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
    } finally {
      await stage.close();
    }
  },
};
