/**
 * The renewal thread, seen from the main loop: started, ticked for, asked, and started again when it dies.
 *
 *   running ── dies ──► void ── pause that doubles ──► running
 *      │                  └── budget spent ──► the process ends: nobody else can hold its lease
 *      └── close ──► closed
 */
import { Worker } from "node:worker_threads";
import type { BootId, Clock } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import { DatabaseDown } from "../persistence/database-faults.ts";
import { followPrimary } from "../persistence/primary.ts";
import type { Report } from "./lease.ts";
import { newLeaseBuffer, openLeaseMemory } from "./lease-memory.ts";
import type { FromThread, RenewalSlice, ThreadData, ToThread } from "./renewal-thread.ts";
import { type FailureRecord, judge, type RestartPolicy } from "./supervision.ts";

export type MemberSlice = RenewalSlice & {
  /** Servers of one cluster. */
  readonly urls: readonly string[];
  /** See persistence/database.ts. */
  readonly timelineFile: string | null;
};

export type Renewal = {
  /** Whether this node may drive at this instant what it read the owners of in this tenure; null: in any. */
  holds(tenure: number | null): boolean;
  tenure(): number;
  /** ms until the right to drive ends by this node's clock; 0 when it has. */
  leftMs(): number;
  /** Why this node gives its shards away, told from the next renewal on; null: it does not. */
  say(why: string | null): void;
  /** How much it is to have beside the others, told from the next renewal on. */
  weigh(weight: number): void;
  /** Renews now; rejects with DatabaseDown when that could not be written. */
  renew(): Promise<void>;
  /** Gives the lock up, and renews no more. */
  close(): Promise<void>;
};

const TICK_MS = 200;
/** A renewal under way has 1.5 s. */
const CLOSE_MS = 2_000;
const THREAD_POLICY: RestartPolicy = { failuresMax: 5, windowMs: 60_000, pauseMinMs: 100, pauseMaxMs: 5_000 };
/** A small program: what it holds is one row for each node. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 };

class RenewalThreadLost extends Error {
  override readonly name = "RenewalThreadLost";
}

export function openRenewal(
  slice: MemberSlice & { readonly boot: BootId; readonly lockKey: string },
  ports: {
    readonly log: Log;
    readonly clock: Clock;
    readonly load: () => number;
    readonly onReport: (report: Report) => void;
  },
): Renewal {
  const { log, clock } = ports;
  const { boot, lockKey, node, address, urls, timelineFile, logLevel } = slice;
  const buffer = newLeaseBuffer();
  const memory = openLeaseMemory(buffer);
  const asking = new Map<number, { resolve(): void; reject(error: unknown): void }>();
  const primary = followPrimary({ urls, node, timelineFile }, { log });
  primary.onLook(tell);
  let asked = 0;
  let before: ThreadData["before"] = null;
  let record: FailureRecord = [];
  let worker: Worker | null = null;
  let restart: NodeJS.Timeout | undefined;
  let closed = false;
  let why: string | null = null;
  let weight = 1;

  function start(): void {
    const workerData: ThreadData = {
      slice: { node, address, logLevel },
      boot,
      lockKey,
      buffer,
      before,
    };
    const started = new Worker(new URL("./renewal-thread.ts", import.meta.url), {
      workerData,
      name: "renewal",
      resourceLimits: RESOURCE_LIMITS,
    });
    worker = started;
    tell();
    started.postMessage({ kind: "why", why } satisfies ToThread);
    started.on("message", hear);
    started.on("error", (error) => log.error({ ...faultFields(error) }, "the renewal thread failed"));
    started.on("exit", (code) => {
      worker = null;
      for (const one of asking.values()) one.reject(new DatabaseDown(true));
      asking.clear();
      if (!closed) died(code);
    });
  }

  function tell(): void {
    worker?.postMessage({ kind: "primary", state: primary.state() } satisfies ToThread);
  }

  function died(code: number): void {
    // Its session has gone, and the lock with it.
    const tenure = memory.tenure() + 1;
    memory.publish({ tenure, until: Number.NEGATIVE_INFINITY });
    before = { server: before?.server ?? null, left: before?.left ?? [], tenure };
    const verdict = judge(record, clock.monotonic(), THREAD_POLICY);
    record = verdict.record;
    if (verdict.spent) throw new RenewalThreadLost("the renewal thread keeps dying");
    log.error({ exit: code }, "the renewal thread died, and is started again");
    restart = setTimeout(start, verdict.pauseMs);
  }

  function hear(message: FromThread): void {
    if (message.kind === "report") {
      before = message.lease;
      ports.onReport(message.report);
      return;
    }
    if (message.kind === "search") {
      primary.search();
      return;
    }
    const one = asking.get(message.id);
    asking.delete(message.id);
    if (message.well) one?.resolve();
    else one?.reject(new DatabaseDown(true));
  }

  const ticking = setInterval(() => {
    memory.tick();
    memory.say(ports.load(), weight);
  }, TICK_MS);
  memory.say(ports.load(), weight);
  start();

  return {
    holds: (tenure) => memory.holds(clock.monotonic(), tenure),
    leftMs: () => memory.leftMs(clock.monotonic()),
    tenure: memory.tenure,
    say(reason) {
      why = reason;
      worker?.postMessage({ kind: "why", why } satisfies ToThread);
    },
    weigh(share) {
      weight = share;
      memory.say(ports.load(), weight);
    },
    async renew() {
      if (worker === null || closed) throw new DatabaseDown(false);
      const id = ++asked;
      const over = new Promise<void>((resolve, reject) => asking.set(id, { resolve, reject }));
      worker.postMessage({ kind: "renew", id } satisfies ToThread);
      await over;
    },
    async close() {
      closed = true;
      clearTimeout(restart);
      const ending = worker;
      if (ending !== null) {
        let timer: NodeJS.Timeout | undefined;
        const ended = new Promise<void>((resolve) => ending.once("exit", () => resolve()));
        const late = new Promise<void>((resolve) => {
          timer = setTimeout(resolve, CLOSE_MS);
        });
        ending.postMessage({ kind: "close" } satisfies ToThread);
        await Promise.race([ended, late]);
        clearTimeout(timer);
        await ending.terminate();
      }
      clearInterval(ticking);
      primary.close();
      memory.publish({ tenure: memory.tenure() + 1, until: Number.NEGATIVE_INFINITY });
    },
  };
}
