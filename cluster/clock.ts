/**
 * This node's wall clock: the database's, carried on between its words by the monotonic clock. What a node dates, signs and
 * lets expire is then right however wrong its machine's own clock is.
 *
 *   machine's ── the database's first word ──► database's ── each prompt word, or any after 10 s ──► database's, corrected
 */
import type { Clock } from "../domain.ts";
import type { Log } from "../log.ts";

export type DatabaseClock = Clock & {
  /** The database said that it is `now` (ms since 1970), at some instant between `asked` and `answered` (monotonic ms). */
  heard(now: number, asked: number, answered?: number): void;
};

/** A word that took longer says too little of when it was spoken. */
const PROMPT_MS = 100;
const STALE_MS = 10_000;
/** The machine's own clock is called wrong past this: certificates are still judged by it. */
const WRONG_MS = 5_000;

export function openDatabaseClock(machine: Clock, ports: { readonly log: Log }): DatabaseClock {
  /** Between the monotonic clock and the database's. */
  let offset: number | null = null;
  let heardAt = Number.NEGATIVE_INFINITY;
  let wrong = false;
  const wall = () => (offset === null ? machine.wall() : machine.monotonic() + offset);

  return {
    wall,
    monotonic: machine.monotonic,
    heard(now, asked, answered = machine.monotonic()) {
      if (answered - asked > PROMPT_MS && answered - heardAt < STALE_MS) return;
      offset = now - (asked + answered) / 2;
      heardAt = answered;
      const aheadMs = Math.round(machine.wall() - wall());
      if (Math.abs(aheadMs) > WRONG_MS === wrong) return;
      wrong = !wrong;
      if (wrong) ports.log.error({ aheadMs }, "this machine's clock is wrong; the database's is used");
      else ports.log.info({ aheadMs }, "this machine's clock is right again");
    },
  };
}
