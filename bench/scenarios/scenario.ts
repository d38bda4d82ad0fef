/** What all scenarios share: how they are told what to do, and a load played on a stage with what it cost. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Orders, Seen } from "../load/orders.ts";
import type { Figures } from "../report/figures.ts";
import { openProgram } from "../stage/child.ts";
import { forgetPeak, memoryOf } from "../stage/measure.ts";
import { type Cpu, HOSTS, openStage, type Stage, type StageSlice } from "../stage/stage.ts";

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

/** The host systems that send; the last one has other things to send, or is silent. */
export const SENDERS = HOSTS.slice(0, 4);
/** Pages on their way at once in a closed loop. */
export const WINDOW = 4_000;
const LOAD_DEADLINE_MS = { tiny: 20_000, quick: 60_000, full: 300_000 } as const;
const PREPARING_MS = 60_000;
const ORIGINAL_MS = 500;

export type Cost = { readonly seen: Seen; readonly cpu: Cpu; readonly nowMb: number; readonly peakMb: number };
export type Load = {
  /** @throws Error when pages were lost, or the database says otherwise than the load */
  play(orders: Pick<Orders, "pages" | "pace"> & Partial<Orders>): Promise<Cost>;
  close(): Promise<void>;
};

/** Host systems and phones, connected until it is closed. Without `visitors` the phones stay away, unless they listen. */
export function openLoad(
  stage: Stage,
  size: Size,
  {
    phones,
    visitors,
    listening = false,
  }: { readonly phones: number; readonly visitors: number; readonly listening?: boolean },
): Load {
  const program = openProgram<Orders, Seen>("load.ts");
  const { server } = stage;
  let loads = 0;
  const away = visitors === 0 && !listening;
  const common = {
    ground: {
      nodes: stage.servers,
      ca: server.ca,
      hosts: HOSTS,
      wakeUps: away ? null : stage.emulator.address.url,
      visitors,
      listening,
      phones,
    },
    senders: SENDERS,
    inARow: 1,
    highEvery: 0,
    beside: null,
    until: away ? "ACCEPTED" : "DELIVERED",
    deadlineMs: LOAD_DEADLINE_MS[size],
  } as const;

  async function play(change: Pick<Orders, "pages" | "pace"> & Partial<Orders>): Promise<Cost> {
    const pid = server.pid();
    const earlier = await stage.rows.pages();
    loads += 1;
    const orders = { ...common, prefix: `bench-${loads}-`, ...change };
    let before = stage.cpu();
    const seen = await program.run(orders, {
      deadlineMs: orders.deadlineMs + PREPARING_MS,
      began() {
        forgetPeak(pid);
        before = stage.cpu();
      },
    });
    const after = stage.cpu();
    const { nowMb, peakMb } = memoryOf(pid);
    const { all, delivered, deliveredTwice } = await stage.rows.pages();
    if (all - earlier.all !== seen.pages)
      throw new Error(`${seen.pages} pages were sent, ${all - earlier.all} are stored`);
    if (orders.until === "DELIVERED" && delivered - earlier.delivered !== seen.pages)
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
  return { play, close: () => program.close() };
}

/** A stage and a load for one scenario, closed after it however it ends. */
export async function onStage<Result>(
  slice: StageSlice,
  size: Size,
  ground: { readonly phones: number; readonly visitors: number; readonly nodes?: number },
  scenario: (stage: Stage, load: Load) => Promise<Result>,
): Promise<Result> {
  const stage = await openStage(slice, ground.phones, { nodes: ground.nodes ?? 1 });
  try {
    const load = openLoad(stage, size, ground);
    try {
      return await scenario(stage, load);
    } finally {
      await load.close();
    }
  } finally {
    await stage.close();
  }
}

/** One page to a phone that stays away, to be copied, and what of its way is gone without it. */
export async function playOriginal(stage: Stage, size: Size): Promise<void> {
  const load = openLoad(stage, size, { phones: 1, visitors: 0 });
  try {
    await load.play({ pages: 1, pace: { window: 1 } });
    await sleep(ORIGINAL_MS);
  } finally {
    await load.close();
  }
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
