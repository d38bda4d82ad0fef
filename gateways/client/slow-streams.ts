/**
 * Streams that have much unsent, or wait for room: looked at together, ten times a second while there are any.
 *
 *   held by what is unsent ─ half of it taken ─► released
 *   held by what is unconfirmed ─ the phone confirms: no affair of this ─► released
 *   held, and nothing taken or confirmed for 30 s ─► ended
 *
 * All together have as much unsent as hosts' pages may take; past that each has little, until they have taken it.
 */
import { budgetBytes } from "../budget.ts";
import { type Stream, SWOLLEN } from "./stream.ts";

export type SlowStreams = {
  held(stream: Stream, by: Stream["heldBy"]): void;
  swollen(stream: Stream): void;
  remove(stream: Stream): void;
  /** How much one stream may have unsent, bytes. */
  unsentMax(): number;
  close(): void;
};

const UNSENT_MAX = 1_000_000;
const EVERY_MS = 100;
const STALLED_MS = 30_000;

/** @param ports `ended`: it takes nothing */
export function openSlowStreams(ports: {
  readonly monotonic: () => number;
  readonly ended: (stream: Stream) => void;
}): SlowStreams {
  const all = new Set<Stream>();
  const budget = budgetBytes();
  let total = 0;
  let timer: NodeJS.Timeout | null = null;
  const unsentMax = () => (total > budget ? SWOLLEN : UNSENT_MAX);

  function watch(stream: Stream): void {
    if (!all.has(stream)) {
      stream.unsent = stream.socket.bufferedAmount;
      total += stream.unsent;
      all.add(stream);
    }
    timer ??= setInterval(look, EVERY_MS);
  }

  function look(): void {
    const now = ports.monotonic();
    total = 0;
    for (const stream of all) {
      const unsent = stream.socket.bufferedAmount;
      const took = unsent < stream.unsent;
      stream.unsent = unsent;
      total += unsent;
      if (stream.heldSince === null) {
        if (unsent <= SWOLLEN) all.delete(stream);
      } else if (took) stream.heldSince = now;
      else if (now - stream.heldSince > STALLED_MS) ports.ended(stream);
    }
    for (const stream of all)
      if (stream.heldSince !== null && stream.heldBy === "unsent" && stream.unsent <= unsentMax() / 2) stream.release();
    if (all.size > 0 || timer === null) return;
    clearInterval(timer);
    timer = null;
  }

  return {
    held(stream, by) {
      stream.heldSince ??= ports.monotonic();
      stream.heldBy = by;
      watch(stream);
    },
    swollen: watch,
    remove: (stream) => void all.delete(stream),
    unsentMax,
    close() {
      if (timer !== null) clearInterval(timer);
      all.clear();
    },
  };
}
