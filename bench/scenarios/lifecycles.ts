/**
 * Whole lifecycles: ACCEPTED, QUEUED, ENROUTE and DELIVERED told over MXPP. `burst`: 20 pages to each phone, one after the
 * other, so that pushes coalesce and a visit takes many. `spread`: one page, one push and one visit to each phone. First as
 * fast as it goes, then at half the rate found, by the clock.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Stage } from "../stage/stage.ts";
import {
  type Cost,
  countFigures,
  cpuFigures,
  type Load,
  onStage,
  type Played,
  type Scenario,
  type Size,
  WINDOW,
} from "./scenario.ts";

type Lifecycles = {
  readonly name: string;
  readonly pagesPerPhone: number;
  readonly visitors: number;
  readonly pages: Readonly<Record<Size, number>>;
};

/** Not measured: what runs for the first time is compiled then. */
const WARM_UP: Readonly<Record<Size, number>> = { tiny: 20, quick: 1_000, full: 2_000 };
const CLOCK_SECONDS: Readonly<Record<Size, number>> = { tiny: 1, quick: 4, full: 15 };
/** A status stays in the outbox until the host is known to have had it for 30 s. */
const AFTERWARDS_MS = 90_000;

const burst: Lifecycles = {
  name: "burst",
  pagesPerPhone: 20,
  visitors: 32,
  pages: { tiny: 200, quick: 6_000, full: 20_000 },
};
const spread: Lifecycles = {
  name: "spread",
  pagesPerPhone: 1,
  visitors: 64,
  pages: { tiny: 100, quick: 3_000, full: 20_000 },
};
export const LIFECYCLES: readonly Scenario[] = [burst, spread].map((one) => ({
  name: one.name,
  play(slice, size, clockRate) {
    const phones = one.pages[size] / one.pagesPerPhone;
    return onStage(slice, size, { phones, visitors: one.visitors }, (stage, load) =>
      play(stage, load, size, one, clockRate),
    );
  },
}));

async function play(stage: Stage, load: Load, size: Size, one: Lifecycles, clockRate: number | null): Promise<Played> {
  const inARow = one.pagesPerPhone;
  await load.play({ inARow, pages: WARM_UP[size], pace: { window: WINDOW } });
  const full = await load.play({ inARow, pages: one.pages[size], pace: { window: WINDOW } });
  const afterwards = size === "full" ? await cpuUntilForgotten(stage) : null;
  const { seen } = full;
  const rate = seen.pages / seen.seconds;
  const perSecond = clockRate ?? rate / 2;
  const pages = Math.ceil(perSecond * CLOCK_SECONDS[size]);
  const clocked = await load.play({ inARow, pages, pace: { perSecond } });
  return {
    what: `${seen.pages} pages to ${seen.pages / inARow} phones, ${inARow} each`,
    postgresSettings: stage.postgresSettings,
    figures: {
      pages: seen.pages,
      lifecyclesPerSecond: rate,
      ...cpuFigures(full),
      ...(afterwards === null ? {} : { afterwardsCpuPer1000: (afterwards / seen.pages) * 1_000 }),
      ...latencies(full),
      clockRate: perSecond,
      ...clockLatencies(clocked),
      serverMb: full.nowMb,
      serverPeakMb: full.peakMb,
      ...countFigures(full),
    },
  };
}

function latencies({ seen: { acceptMs, deliveredMs } }: Cost) {
  return {
    acceptP50Ms: acceptMs!.p50,
    acceptP99Ms: acceptMs!.p99,
    deliveredP50Ms: deliveredMs!.p50,
    deliveredP99Ms: deliveredMs!.p99,
  };
}

function clockLatencies({ seen: { acceptMs, deliveredMs, lateMs } }: Cost) {
  return {
    clockAcceptP50Ms: acceptMs!.p50,
    clockAcceptP99Ms: acceptMs!.p99,
    clockDeliveredP50Ms: deliveredMs!.p50,
    clockDeliveredP99Ms: deliveredMs!.p99,
    clockLateP99Ms: lateMs!.p99,
  };
}

/** CPU seconds of server, Postgres and Redis from now until nothing of the pages is left to do. */
async function cpuUntilForgotten(stage: Stage): Promise<number> {
  const sum = () => {
    const { server, postgres, redis } = stage.cpu();
    return server + postgres + redis;
  };
  const before = sum();
  const until = performance.now() + AFTERWARDS_MS;
  while ((await stage.rows.outbox()) > 0) {
    if (performance.now() > until) throw new Error(`the outbox was not empty after ${AFTERWARDS_MS} ms`);
    await sleep(1_000);
  }
  return sum() - before;
}
