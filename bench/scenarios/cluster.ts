/**
 * Three nodes beside one on the same cores and databases: what they cost while nothing is to be done, and whether they carry as
 * much. The pages of `burst`: 20 to each phone, so that pushes coalesce.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { HOSTS, type Stage, type StageSlice } from "../stage/stage.ts";
import { countFigures, cpuFigures, onStage, type Scenario, type Size, WINDOW } from "./scenario.ts";

const NODES = 3;
/** As many on each node: one that had more to bear than the others would send some of its callers to them. */
const EVEN_SENDERS = HOSTS.slice(0, NODES);
const PAGES_PER_PHONE = 20;
const VISITORS = 32;
const PAGES: Readonly<Record<Size, number>> = { tiny: 200, quick: 6_000, full: 20_000 };
/** Each node compiles for itself what runs for the first time. */
const WARM_UP: Readonly<Record<Size, number>> = { tiny: 20, quick: 3_000, full: 6_000 };
/** A node that has just come is given its shards after a while. */
const SETTLING_MS: Readonly<Record<Size, number>> = { tiny: 500, quick: 10_000, full: 15_000 };
const IDLE_MS: Readonly<Record<Size, number>> = { tiny: 500, quick: 10_000, full: 30_000 };

export const CLUSTER: Scenario = {
  name: "cluster",
  async play(slice, size) {
    const one = await playOn(1, slice, size);
    const three = await playOn(NODES, slice, size);
    const rates = [one, three].map(({ cost: { seen } }) => seen.pages / seen.seconds);
    return {
      what: `${three.cost.seen.pages} pages to ${three.cost.seen.pages / PAGES_PER_PHONE} phones over ${NODES} nodes, ${PAGES_PER_PHONE} each`,
      postgresSettings: three.postgresSettings,
      figures: {
        pages: three.cost.seen.pages,
        lifecyclesPerSecond: rates[1]!,
        oneNodeLifecyclesPerSecond: rates[0]!,
        ofOneNode: rates[1]! / rates[0]!,
        idleCpuPercent: three.idlePercent,
        ...cpuFigures(three.cost),
        ...countFigures(three.cost),
      },
    };
  },
};

function playOn(nodes: number, slice: StageSlice, size: Size) {
  const phones = PAGES[size] / PAGES_PER_PHONE;
  return onStage(slice, size, { phones, visitors: VISITORS, nodes }, async (stage, load) => {
    await sleep(SETTLING_MS[size]);
    const idlePercent = await idlePercentOf(stage, size, nodes);
    const common = { inARow: PAGES_PER_PHONE, pace: { window: WINDOW }, senders: EVEN_SENDERS };
    await load.play({ ...common, pages: WARM_UP[size] });
    const cost = await load.play({ ...common, pages: PAGES[size] });
    return { cost, idlePercent, postgresSettings: stage.postgresSettings };
  });
}

/** For each node, with what it asks of Postgres and Redis. */
async function idlePercentOf(stage: Stage, size: Size, nodes: number): Promise<number> {
  const sum = () => {
    const { server, postgres, redis } = stage.cpu();
    return server + postgres + redis;
  };
  const [before, begun] = [sum(), performance.now()];
  await sleep(IDLE_MS[size]);
  return ((sum() - before) / ((performance.now() - begun) / 1_000) / nodes) * 100;
}
