/** What all scenarios share: how they are told what to do, and a load played on a stage with what it cost. */
import type { Orders, Seen } from "../load/orders.ts";
import type { Figures } from "../report/figures.ts";
import { runProgram } from "../stage/child.ts";
import { forgetPeak, memoryOf } from "../stage/measure.ts";
import { type Cpu, HOSTS, type Stage, type StageSlice } from "../stage/stage.ts";

/** `tiny` is for trying the bench itself; its figures say nothing. */
export type Size = "tiny" | "quick" | "full";
export type Scenario = {
  readonly name: string;
  /** @param clockRate pages a second of the part by the clock; null: half of what was found. Not every scenario has one */
  play(slice: StageSlice, size: Size, clockRate: number | null): Promise<Played>;
};
export type Played = {
  /** In a sentence, with the numbers of this size. */
  readonly what: string;
  readonly figures: Figures;
  readonly postgresSettings: Readonly<Record<string, string>>;
};

/** Host connections of every load. */
export const LINKS = HOSTS.slice(0, 4);
/** Pages on their way at once in a closed loop. */
export const WINDOW = 4_000;
const LOAD_DEADLINE_MS = { tiny: 20_000, quick: 60_000, full: 300_000 } as const;
const PREPARING_MS = 60_000;
const DEFAULTS = { hosts: LINKS, visitors: 32, inARow: 1, highEvery: 0, beside: null, until: "DELIVERED" } as const;

export type Cost = { readonly seen: Seen; readonly cpu: Cpu; readonly nowMb: number; readonly peakMb: number };

let loads = 0;

/** @throws Error when pages were lost, or the database says otherwise than the load */
export async function playLoad(
  stage: Stage,
  size: Size,
  orders: Pick<Orders, "phones" | "pages" | "pace"> & Partial<Orders>,
): Promise<Cost> {
  const { server } = stage;
  const pid = server.pid();
  const earlier = await stage.rows.pages();
  const deadlineMs = LOAD_DEADLINE_MS[size];
  let before = stage.cpu();
  loads += 1;
  const seen = await runProgram<Orders, Seen>(
    "load.ts",
    {
      ...DEFAULTS,
      mxppPort: server.mxppPort,
      https: { port: server.httpsPort, ca: server.ca },
      wakeUps: stage.emulator.address.url,
      prefix: `bench-${loads}-`,
      deadlineMs,
      ...orders,
    },
    {
      deadlineMs: deadlineMs + PREPARING_MS,
      began() {
        forgetPeak(pid);
        before = stage.cpu();
      },
    },
  );
  const after = stage.cpu();
  const { nowMb, peakMb } = memoryOf(pid);
  const { all, delivered, deliveredTwice } = await stage.rows.pages();
  if (all - earlier.all !== seen.pages)
    throw new Error(`${seen.pages} pages were sent, ${all - earlier.all} are stored`);
  if ((orders.until ?? DEFAULTS.until) === "DELIVERED" && delivered - earlier.delivered !== seen.pages)
    throw new Error(`${seen.pages} pages were told DELIVERED, ${delivered - earlier.delivered} are`);
  if (deliveredTwice > 0) throw new Error(`${deliveredTwice} pages were delivered twice`);
  const cpu = {
    server: after.server - before.server,
    postgres: after.postgres - before.postgres,
    redis: after.redis - before.redis,
    emulator: after.emulator - before.emulator,
  };
  return { seen, cpu, nowMb, peakMb };
}

export function cpuFigures({ seen, cpu }: Cost): Figures {
  const per1000 = (seconds: number) => (seconds / seen.pages) * 1_000;
  return {
    cpuPer1000: per1000(cpu.server + cpu.postgres + cpu.redis),
    serverCpuPer1000: per1000(cpu.server),
    postgresCpuPer1000: per1000(cpu.postgres),
    ...(cpu.redis > 0 ? { redisCpuPer1000: per1000(cpu.redis) } : {}),
    emulatorCpuPer1000: per1000(cpu.emulator),
    loadCpuPer1000: per1000(seen.cpuSeconds),
  };
}

export function countFigures({ seen }: Cost): Figures {
  return {
    pushes: seen.pushes,
    visits: seen.visits,
    requests: seen.requests,
    pagesPerVisit: seen.received / Math.max(1, seen.visits - seen.emptyVisits),
    enroute: seen.told.ENROUTE ?? 0,
    twice: seen.twice,
    lost: seen.lost,
  };
}
