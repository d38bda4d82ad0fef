/**
 * How much of what it can bear this node has to do: 0 idle, 1 as much as it should, above 1 more than that. The highest of its
 * parts, each in proportion to what is still good; smoothed, so that a busy moment is no load.
 */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";

export type LoadPart = "loop" | "mailboxes" | "commits" | "late";

/** What waits at this instant. */
export type Waiting = {
  /** Messages in all mailboxes. */
  readonly mailboxes: number;
  /** How long the oldest page, change or receipt has waited to be committed, ms. */
  readonly commitMs: number;
  /** How late the oldest row was that the last look took, ms. */
  readonly lateMs: number;
};

export type Load = {
  score(): number;
  /** The part that makes the score. */
  worst(): LoadPart;
  /** What else than the event loop is to be looked at, once it is there. */
  watch(waiting: () => Waiting): void;
  close(): void;
};

/** As much of each as is still good. A loop that is always busy is at 1, and what it is behind comes on top. */
const GOOD = { delayMs: 200, mailboxes: 20_000, commitMs: 600, lateMs: 5_000 };
/** What may be the database's doing makes no load for which callers are sent away. */
const DATABASE_MAX = 1.2;
const LOOK_MS = 500;
/** In which a change is seen to two thirds. */
const SMOOTH_MS = 1_500;
const DELAY_RESOLUTION_MS = 10;

export function openLoad(): Load {
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  delay.enable();
  let waiting: (() => Waiting) | null = null;
  let before = performance.eventLoopUtilization();
  let lookedAt = performance.now();
  let parts: Readonly<Record<LoadPart, number>> = { loop: 0, mailboxes: 0, commits: 0, late: 0 };

  function look(): void {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    const at = performance.now();
    const share = 1 - Math.exp((lookedAt - at) / SMOOTH_MS);
    lookedAt = at;
    const { mailboxes, commitMs, lateMs } = waiting?.() ?? { mailboxes: 0, commitMs: 0, lateMs: 0 };
    // NaN where nothing was measured since the last look.
    const delayMs = Math.max(0, (Number.isNaN(delay.mean) ? 0 : delay.mean / 1e6) - DELAY_RESOLUTION_MS);
    delay.reset();
    const present: Record<LoadPart, number> = {
      loop: utilization + delayMs / GOOD.delayMs,
      mailboxes: mailboxes / GOOD.mailboxes,
      commits: Math.min(DATABASE_MAX, commitMs / GOOD.commitMs),
      late: Math.min(DATABASE_MAX, lateMs / GOOD.lateMs),
    };
    const smoothed = (part: LoadPart) => parts[part] + (Math.max(0, present[part]) - parts[part]) * share;
    parts = {
      ...{ loop: smoothed("loop"), mailboxes: smoothed("mailboxes") },
      ...{ commits: smoothed("commits"), late: smoothed("late") },
    };
  }

  const timer = setInterval(look, LOOK_MS);
  const worst = () => (Object.keys(parts) as LoadPart[]).reduce((a, b) => (parts[b] > parts[a] ? b : a));
  return {
    score: () => parts[worst()],
    worst,
    watch(asked) {
      waiting = asked;
    },
    close() {
      clearInterval(timer);
      delay.disable();
    },
  };
}
