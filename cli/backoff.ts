/** Pauses between attempts: doubling with a third of chance, so that many clients do not come back in step. */
import { setTimeout as sleep } from "node:timers/promises";

export type Backoff = {
  /** The next pause in ms. */
  next(): number;
  /** After a success. */
  reset(): void;
};

export function makeBackoff(minMs: number, maxMs: number): Backoff {
  let pauseMs = minMs;
  return {
    next() {
      const ms = pauseMs * (2 / 3 + Math.random() / 3);
      pauseMs = Math.min(pauseMs * 2, maxMs);
      return ms;
    },
    reset() {
      pauseMs = minMs;
    },
  };
}

/** Resolves after so long, or at once when the signal is aborted: callers look at the signal anyway. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}
