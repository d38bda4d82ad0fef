/**
 * Looks at a server again and again, for commands that follow something. One that cannot be reached is asked again with a growing
 * pause, and said to be away once; only if the very first look fails is there nothing to follow.
 */
import { makeBackoff, pause } from "./backoff.ts";
import { CommandFault, EXIT } from "./exit.ts";
import type { Output } from "./output.ts";

export type Looks<T> = {
  /** What was seen already, if anything. */
  readonly first?: T;
  look(): Promise<T>;
  /** Before the next one. */
  pauseMs(seen: T): number;
  readonly signal: AbortSignal;
  readonly output: Pick<Output, "note">;
};

const AWAY_MIN_MS = 500;
const AWAY_MAX_MS = 10_000;

/** Ends with the signal. */
export async function* looks<T>({ first, look, pauseMs, signal, output }: Looks<T>): AsyncGenerator<T, void, void> {
  const backoff = makeBackoff(AWAY_MIN_MS, AWAY_MAX_MS);
  let reached = first !== undefined;
  let away = false;
  if (first !== undefined) {
    yield first;
    await pause(pauseMs(first), signal);
  }
  while (!signal.aborted) {
    let seen: T;
    try {
      seen = await look();
    } catch (error) {
      if (!reached || !(error instanceof CommandFault) || error.exitCode !== EXIT.unavailable) throw error;
      if (!away) output.note(`${error.message}; trying again`);
      away = true;
      await pause(backoff.next(), signal);
      continue;
    }
    if (away) output.note("the server is there again");
    reached = true;
    away = false;
    backoff.reset();
    yield seen;
    await pause(pauseMs(seen), signal);
  }
}
