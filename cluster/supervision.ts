/**
 * How often something may fail. Pure budget first, then the two things that are held to it: loops that run as long as
 * the node does, and leaves that are brought back by their due row.
 *
 *   failure ─► inside the budget: again after a pause that doubles
 *           ─► budget spent: the pause stays at its longest, and the fault is reported as lasting
 */
import type { Clock } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import { isPassing } from "../persistence/batch.ts";

export type RestartPolicy = {
  readonly failuresMax: number;
  readonly windowMs: number;
  readonly pauseMinMs: number;
  readonly pauseMaxMs: number;
};

export type FailureRecord = readonly number[];

/** Adds a failure at `now` (monotonic ms) and says how long to wait and whether the budget is spent. */
export function judge(
  record: FailureRecord,
  now: number,
  policy: RestartPolicy,
): { record: FailureRecord; pauseMs: number; spent: boolean } {
  const recent = [...record, now].filter((at) => at > now - policy.windowMs).slice(-policy.failuresMax - 1);
  const pauseMs = Math.min(policy.pauseMinMs * 2 ** (recent.length - 1), policy.pauseMaxMs);
  return { record: recent, pauseMs, spent: recent.length > policy.failuresMax };
}

export type Loop = {
  readonly name: string;
  /** Runs the next round now instead of at the end of the pause. */
  wake(): void;
  /** Runs a round from now on, behind one under way, and ends as it does. */
  run(): Promise<void>;
  /** null while the budget holds; else since when it is spent (monotonic ms). */
  failingSince(): number | null;
  /** Since when the round under way runs (monotonic ms); null in a pause. */
  roundSince(): number | null;
  /** Leaves a round that hangs behind, whatever may yet come of it, and begins the next one. */
  restart(): void;
  /** Ends after the round under way. */
  close(): Promise<void>;
};

class LoopClosed extends Error {
  override readonly name = "LoopClosed";
}

const LOOP_POLICY: RestartPolicy = { failuresMax: 5, windowMs: 60_000, pauseMinMs: 100, pauseMaxMs: 5_000 };

/**
 * Runs `round` again and again, `pauseMs` apart, for as long as the node lives. A round that throws is a failure.
 *
 * @param pauseMaxMs the longest pause behind failures
 */
export function superviseLoop(
  name: string,
  pauseMs: () => number,
  round: () => Promise<void>,
  ports: { readonly log: Log; readonly clock: Clock },
  pauseMaxMs = LOOP_POLICY.pauseMaxMs,
): Loop {
  const policy = { ...LOOP_POLICY, pauseMaxMs };
  let closed = false;
  let woken = false;
  let interrupt: (() => void) | null = null;
  let record: FailureRecord = [];
  let failingSince: number | null = null;
  let roundSince: number | null = null;
  /** Rises with each restart: a round of an earlier life changes nothing any more. */
  let life = 0;
  type Asker = { resolve(): void; reject(error: unknown): void };
  let asked: Asker[] = [];
  /** Those of the round under way. */
  let askers: Asker[] = [];

  function pause(ms: number): Promise<void> {
    if (woken || closed || asked.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      interrupt = done;
      function done(): void {
        clearTimeout(timer);
        interrupt = null;
        resolve();
      }
    });
  }

  async function run(own: number): Promise<void> {
    while (!closed) {
      woken = false;
      askers = asked;
      asked = [];
      roundSince = ports.clock.monotonic();
      try {
        await round();
        if (own !== life) return;
        roundSince = null;
        for (const asker of askers) asker.resolve();
        record = [];
        failingSince = null;
        await pause(pauseMs());
      } catch (error) {
        if (own !== life) return;
        roundSince = null;
        for (const asker of askers) asker.reject(error);
        const verdict = judge(record, ports.clock.monotonic(), policy);
        record = verdict.record;
        // A database that is away, or has enough to do, is no fault of the loop's, and said once where it belongs.
        if (verdict.spent && failingSince === null && !isPassing(error)) {
          failingSince = ports.clock.monotonic();
          ports.log.error({ loop: name, ...faultFields(error) }, "loop keeps failing");
        } else {
          ports.log.debug({ loop: name, ...faultFields(error) }, "loop round failed");
        }
        woken = false;
        await pause(verdict.pauseMs);
      }
      if (own !== life) return;
    }
    for (const asker of asked) asker.reject(new LoopClosed());
  }

  let running = run(life);
  return {
    name,
    wake() {
      woken = true;
      interrupt?.();
    },
    run() {
      if (closed) return Promise.reject(new LoopClosed());
      return new Promise((resolve, reject) => {
        asked.push({ resolve, reject });
        interrupt?.();
      });
    },
    failingSince: () => failingSince,
    roundSince: () => roundSince,
    restart() {
      if (closed) return;
      life += 1;
      // Whoever waits for the round that hangs waits for the next.
      asked = roundSince === null ? asked : [...askers, ...asked];
      interrupt?.();
      running = run(life);
    },
    async close() {
      closed = true;
      interrupt?.();
      await running;
    },
  };
}
