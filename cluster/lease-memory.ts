/**
 * What the main loop and the renewal thread must know of each other at this instant, in memory both see. The thread writes
 * the right to drive, the main loop that it turns and what is to be told of it.
 *
 * The tenure is written before the deadline and read after it: a deadline that is good is never met with the tenure of an
 * older one.
 */
import type { Lease } from "./lease.ts";

const [UNTIL, TENURE, TICKS, LOAD, WEIGHT] = [0, 1, 2, 3, 4] as const;
const FIELDS = 5;
/** Times in µs and shares in millionths, since only whole numbers are written undivided. */
const PARTS = 1_000;
const MILLION = 1_000_000;

export function newLeaseBuffer(): SharedArrayBuffer {
  return new SharedArrayBuffer(FIELDS * BigInt64Array.BYTES_PER_ELEMENT);
}

export function openLeaseMemory(buffer: SharedArrayBuffer) {
  const fields = new BigInt64Array(buffer);
  const read = (field: number) => Number(Atomics.load(fields, field));
  const write = (field: number, value: number) => Atomics.store(fields, field, BigInt(Math.round(value)));
  return {
    /** Whether, at `now` (monotonic ms), this node may drive what it read the owners of in this tenure; null: in any. */
    holds(now: number, tenure: number | null): boolean {
      const until = read(UNTIL) / PARTS;
      return now < until && (tenure === null || read(TENURE) === tenure);
    },
    /** ms until the right to drive ends; 0 when it has. */
    leftMs: (now: number): number => Math.max(0, read(UNTIL) / PARTS - now),
    tenure: () => read(TENURE),
    publish({ tenure, until }: Pick<Lease, "tenure" | "until">): void {
      write(TENURE, tenure);
      write(UNTIL, Math.max(0, until) * PARTS);
    },

    tick: () => Atomics.add(fields, TICKS, 1n),
    ticks: () => read(TICKS),
    say(load: number, weight: number): void {
      write(LOAD, load * MILLION);
      write(WEIGHT, weight * MILLION);
    },
    said: () => ({ load: read(LOAD) / MILLION, weight: read(WEIGHT) / MILLION }),
  };
}
