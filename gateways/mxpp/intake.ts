/**
 * Takes what a host sends in shares, when it is its peer's turn, so that a chunk full of tiny documents holds up nobody else's,
 * and no faster than its pages are written.
 *
 *   resting ── chunk ──► in line ── its turn ──► taking ── all taken ──► resting
 *                          ▲                       │
 *                          └── share taken ────────┼── full ──► waiting ── room again ──► in line
 *
 * But for resting the socket is paused: there is never more than one chunk.
 */
import type { Turns } from "../turns.ts";
import type { Beginning } from "./beginnings.ts";
import type { Framer, FramerEvent } from "./framing.ts";

/** Documents handed on in one share, but for the last slice's. */
const SHARE_DOCUMENTS = 64;
/** The shortest documents there are take 4 bytes. */
const SLICE_BYTES = 2_048;
/** Bytes that take about as long as a document, most of which is what is done with it. */
const COST_BYTES = 8_192;

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
    /** Whose turn it is to be, and in which line. Asked once a share. */
    readonly line: () => { readonly turns: Turns; readonly peer: string };
    /** The part of the document that has not ended. */
    readonly beginning: Beginning;
    /** After each share: `documents` begun and ended in it. */
    readonly taken: (documents: number) => void;
  },
): Intake {
  let rest: Buffer | null = null;
  let line: ReturnType<typeof ports.line> | null = null;
  let stopped = false;

  function take(): number {
    line = null;
    let documents = 0;
    let bytes = 0;
    while (rest !== null && documents < SHARE_DOCUMENTS && !stopped && !ports.full()) {
      const slice: Buffer = rest.subarray(0, SLICE_BYTES);
      rest = rest.length > SLICE_BYTES ? rest.subarray(SLICE_BYTES) : null;
      const events = framer.push(slice);
      for (const event of events) ports.receive(event);
      documents += events.length;
      bytes += slice.length;
    }
    ports.beginning.hold(framer.held(), documents > 0);
    if (rest !== null && !ports.full()) goOn();
    ports.taken(documents);
    return documents + bytes / COST_BYTES;
  }

  function goOn(): void {
    if (line !== null || stopped) return;
    line = ports.line();
    line.turns.enter(line.peer, take);
  }

  return {
    push(chunk) {
      rest = rest === null ? chunk : Buffer.concat([rest, chunk]);
      goOn();
    },
    goOn,
    waiting: () => rest !== null || line !== null,
    stop() {
      stopped = true;
      rest = null;
      framer.drop();
      ports.beginning.hold(0, false);
      line?.turns.leave(line.peer, take);
      line = null;
    },
  };
}
