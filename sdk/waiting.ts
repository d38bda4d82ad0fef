/** Pauses: between attempts by full jitter, so that ten thousand phones whose node went do not come back in step, and until a bell rings. */

export type Backoff = {
  /** The next pause in ms: any between none and a bound that doubles with each failure. */
  next(): number;
  /** After a success. */
  reset(): void;
};

export function fullJitter(firstMs: number, longestMs: number, random: () => number = Math.random): Backoff {
  let boundMs = firstMs;
  return {
    next() {
      const ms = random() * boundMs;
      boundMs = Math.min(boundMs * 2, longestMs);
      return ms;
    },
    reset() {
      boundMs = firstMs;
    },
  };
}

/** Resolves after so long, or when the signal is aborted: callers look at the signal anyway. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    function end(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    }
  });
}

export type Bell = {
  ring(): void;
  /** Until it rings, or has rung since the last wait; at most so long. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
};

export function makeBell(): Bell {
  let rung = false;
  let waiting: AbortController | null = null;
  return {
    ring() {
      rung = true;
      waiting?.abort();
    },
    async wait(ms, signal) {
      if (!rung && !signal.aborted) {
        const wait = new AbortController();
        const end = () => wait.abort();
        waiting = wait;
        signal.addEventListener("abort", end);
        await pause(ms, wait.signal);
        signal.removeEventListener("abort", end);
        waiting = null;
      }
      rung = false;
    },
  };
}

/** Rejects with `late` where the work does not end in time; the work's own signal is aborted then, or with the caller's. */
export async function within<T>(
  ms: number,
  late: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const control = new AbortController();
  return await new Promise<T>((resolve, reject) => {
    const end = () => {
      control.abort();
      reject(late());
    };
    const timer = setTimeout(end, ms);
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end);
    work(control.signal)
      .then(resolve, reject)
      .finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
      });
  });
}
