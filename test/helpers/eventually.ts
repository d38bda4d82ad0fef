import { setTimeout as sleep } from "node:timers/promises";

/** What is waited for unless a test says otherwise: it ends with the condition, so a busy machine is given time. */
export const WITHIN_MS = 10_000;

/**
 * Asks until the probe answers something, and gives that back.
 * @param what a sentence of what should come about; the failure says that it did not
 * @throws Error after `limitMs`, with what the probe threw last, if it threw
 */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  limitMs = WITHIN_MS,
): Promise<T> {
  const until = performance.now() + limitMs;
  let last: unknown;
  do {
    try {
      const answer = await within(probe, Math.max(until - performance.now(), 1));
      if (answer !== undefined && answer !== false) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await sleep(20);
  } while (performance.now() < until);
  throw new Error(`within ${limitMs} ms it did not come about that ${what}`, { cause: last });
}

/** A probe that hangs counts as one that has not answered. */
async function within<T>(probe: () => Promise<T> | T, limit_ms: number): Promise<T | undefined> {
  const limit = new AbortController();
  try {
    return await Promise.race([probe(), sleep(limit_ms, undefined, { signal: limit.signal })]);
  } finally {
    limit.abort();
  }
}
