/**
 * Takes what a host sends in shares, so that a chunk full of tiny documents holds up nobody else's, and no faster than its
 * pages are written.
 *
 *   resting ── chunk ──► taking ── all taken ──► resting
 *                          │ ▲
 *       share taken, or full ▼ │ next turn, or room again
 *                        waiting (the socket is paused: there is never more than one chunk)
 */
import type { Framer, FramerEvent } from "./framing.ts";

/** Documents handed on in one turn of the event loop, but for the last slice's. */
const SHARE_DOCUMENTS = 64;
/** The shortest documents there are take 4 bytes. */
const SLICE_BYTES = 2_048;
/** A peer whose documents say nothing is read no faster than a share in this time. */
const SLOW_MS = 100;

export type Intake = {
  push(chunk: Buffer): void;
  /** There may be room again. */
  goOn(): void;
  /** Bytes wait for room or their turn. */
  waiting(): boolean;
  stop(): void;
};

export function makeIntake(
  framer: Framer,
  ports: {
    readonly receive: (event: FramerEvent) => void;
    /** No more may be handed on now; `goOn` follows when that has changed. */
    readonly full: () => boolean;
    /** This peer deserves no haste. Asked once a share. */
    readonly slow: () => boolean;
    /** After each share: `documents` begun and ended in it. */
    readonly taken: (documents: number) => void;
  },
): Intake {
  let rest: Buffer | null = null;
  let timer: NodeJS.Timeout | NodeJS.Immediate | null = null;
  let stopped = false;

  function take(): void {
    timer = null;
    let documents = 0;
    while (rest !== null && documents < SHARE_DOCUMENTS && !stopped && !ports.full()) {
      const slice: Buffer = rest.subarray(0, SLICE_BYTES);
      rest = rest.length > SLICE_BYTES ? rest.subarray(SLICE_BYTES) : null;
      const events = framer.push(slice);
      for (const event of events) ports.receive(event);
      documents += events.length;
    }
    const slow = ports.slow();
    if (!stopped && slow) timer = setTimeout(take, SLOW_MS);
    else if (!stopped && rest !== null && !ports.full()) timer = setImmediate(take);
    ports.taken(documents);
  }

  return {
    push(chunk) {
      rest = rest === null ? chunk : Buffer.concat([rest, chunk]);
      if (timer === null) take();
    },
    goOn() {
      if (timer === null && !stopped) take();
    },
    waiting: () => rest !== null || timer !== null,
    stop() {
      stopped = true;
      rest = null;
    },
  };
}
