/**
 * Cuts the bytes of an MXPP connection into XML documents (CONTRACT: MXPP). Chunks may end anywhere; work is constant a
 * byte, memory at most `documentBytes` beyond the chunk.
 *
 *   between ──`<` and one byte judge the encoding──► reading ──root ends──► document, between
 *                                                       │ over documentBytes
 *                                                       ▼
 *                                                    skipping ──root ends──► oversize, between
 *   any of them ──fault──► dead: everything after is ignored, the connection must end
 */
import { type Decoder, decode, type Encoding, INCOMPLETE, INVALID, makeDecoder, makeJudge } from "./encoding.ts";
import { makeTokeniser, type Tokeniser, type TokeniserLimits, type XmlFault } from "./tokeniser.ts";

/** A document's bytes count from its `<` to its last `>`. */
export type FramerLimits = TokeniserLimits & {
  /** Longer documents are skipped to their end. */
  readonly documentBytes: number;
  /** Longer ones than this end the connection. */
  readonly skippedBytes: number;
};

export const MXPP_LIMITS: FramerLimits = {
  depth: 16,
  elements: 512,
  attributes: 64,
  nameCharacters: 128,
  valueCharacters: 4096,
  documentBytes: 256 * 1024,
  skippedBytes: 1024 * 1024,
};

/** What the state of reading takes, of the shortest too. */
const STATE_BYTES = 4 * 1024;

export type FramerFault = {
  readonly kind: "fault";
  readonly code: XmlFault["code"] | "encoding" | "too-large";
  /** A fixed phrase, fit for a log: it never quotes the document. */
  readonly detail: string;
};

export type FramerEvent =
  /** A well-formed document, its `<` first, as sent but for the encoding. */
  | { readonly kind: "document"; readonly xml: string; readonly bytes: number }
  /**
   * A document over `documentBytes`, skipped. `head` is its beginning up to the last whole token that fitted, with end
   * tags for what was open: `refuseOversize` finds in it who must hear FAILED. It may hold part of a text; never page it.
   */
  | { readonly kind: "oversize"; readonly head: string; readonly bytes: number }
  | FramerFault;

export type Framer = {
  push(chunk: Uint8Array): FramerEvent[];
  /** Bytes of the document that has begun and not ended; more than 0 when a peer left in the middle of one. */
  pending(): number;
  /** Bytes of memory that it takes; 0: none has begun. */
  held(): number;
  /** Lets that go; everything after is ignored. */
  drop(): void;
};

type Reading = {
  readonly encoding: Encoding;
  readonly decoder: Decoder;
  readonly tokeniser: Tokeniser;
  /** The last byte ended a character. */
  whole: boolean;
  bytes: number;
  /** Where the last whole token ended, counted like `bytes`. */
  cut: number;
  head: string | null;
};

export function makeFramer(limits: FramerLimits = MXPP_LIMITS): Framer {
  const kept = makeStore(limits.documentBytes);
  let judge = makeJudge();
  let reading: Reading | null = null;
  let dead = false;

  function push(chunk: Uint8Array): FramerEvent[] {
    const events: FramerEvent[] = [];
    // Where the bytes not yet kept begin. The `<` is never among them: every document has it, and it is added as text.
    let start = 0;
    for (let at = 0; at < chunk.length && !dead; at++) {
      const byte = chunk[at]!;
      if (reading === null) {
        const verdict = judge(byte);
        if (verdict === "between") continue;
        if (verdict === "stray") {
          events.push(fault("malformed", "neither white space nor < between documents"));
          dead = true;
          break;
        }
        reading = begin(verdict, limits);
        start = verdict === "utf-16le" ? at + 1 : at;
        if (verdict === "utf-16le") continue;
      }
      if (reading.head === null && reading.bytes === limits.documentBytes) {
        kept.add(chunk.subarray(start, at));
        reading.head = headOf(reading, kept.bytes());
        kept.clear();
      }
      if (reading.whole && reading.encoding === "utf-8") {
        const room = (reading.head === null ? limits.documentBytes : limits.skippedBytes) - reading.bytes;
        const plain = reading.tokeniser.plain(chunk, at, Math.min(chunk.length, at + room));
        if (plain > 0) {
          reading.bytes += plain;
          at += plain - 1;
          continue;
        }
      }
      const progress = advance(reading, byte, limits);
      if (progress === "more") continue;
      if (progress === "end") {
        events.push(eventOf(reading, chunk.subarray(start, at + 1), kept));
        kept.clear();
        judge = makeJudge();
        reading = null;
      } else {
        events.push(fault(progress.code, progress.detail));
        reading = null;
        kept.clear();
        dead = true;
      }
    }
    if (reading !== null && reading.head === null) kept.add(chunk.subarray(start));
    return events;
  }

  return {
    push,
    pending: () => reading?.bytes ?? 0,
    // A head with one sign beyond Latin-1 takes two bytes for each.
    held: () => (reading === null ? 0 : STATE_BYTES + kept.held() + 2 * (reading.head?.length ?? 0)),
    drop() {
      reading = null;
      kept.clear();
      dead = true;
    },
  };
}

function fault(code: FramerFault["code"], detail: string): FramerFault {
  return { kind: "fault", code, detail };
}

function begin(encoding: Encoding, limits: FramerLimits): Reading {
  const tokeniser = makeTokeniser(limits);
  tokeniser.feed(0x3c);
  const decoder = makeDecoder(encoding);
  return { encoding, decoder, tokeniser, whole: true, bytes: unitBytes(encoding), cut: 0, head: null };
}

function unitBytes(encoding: Encoding): number {
  return encoding === "utf-8" ? 1 : 2;
}

function advance(reading: Reading, byte: number, limits: FramerLimits): "more" | "end" | FramerFault {
  reading.bytes++;
  if (reading.bytes > limits.skippedBytes) return fault("too-large", `a document over ${limits.skippedBytes} bytes`);
  const point = reading.decoder(byte);
  reading.whole = point !== INCOMPLETE;
  if (point === INCOMPLETE) return "more";
  if (point === INVALID) return fault("encoding", `bytes that are not ${reading.encoding}`);
  const step = reading.tokeniser.feed(point);
  if (step === "more" || step === "end") return step;
  if (step !== "token") return fault(step.code, step.detail);
  reading.cut = reading.bytes;
  return "more";
}

function eventOf(reading: Reading, last: Uint8Array, kept: Store): FramerEvent {
  const { head, bytes, encoding } = reading;
  if (head !== null) return { kind: "oversize", head, bytes };
  // Most documents arrive in one chunk and are decoded from it without a copy.
  if (kept.bytes().length > 0) kept.add(last);
  const rest = kept.bytes().length > 0 ? kept.bytes() : last;
  return { kind: "document", xml: `<${decode(rest, encoding)}`, bytes };
}

function headOf(reading: Reading, kept: Uint8Array): string {
  if (reading.cut === 0) return "";
  const whole = decode(kept.subarray(0, reading.cut - unitBytes(reading.encoding)), reading.encoding);
  const endTags = reading.tokeniser.open.map((name) => `</${name}>`).reverse();
  return `<${whole}${endTags.join("")}`;
}

type Store = { add(bytes: Uint8Array): void; bytes(): Uint8Array; held(): number; clear(): void };

/** Grows by doubling up to `limit`, and holds nothing between documents: most connections are idle. */
function makeStore(limit: number): Store {
  let buffer = Buffer.alloc(0);
  let length = 0;
  return {
    add(bytes) {
      const needed = length + bytes.length;
      if (needed > buffer.length) {
        const grown = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(limit, 2 * needed)));
        grown.set(buffer.subarray(0, length));
        buffer = grown;
      }
      buffer.set(bytes, length);
      length = needed;
    },
    bytes: () => buffer.subarray(0, length),
    held: () => buffer.length,
    clear() {
      buffer = Buffer.alloc(0);
      length = 0;
    },
  };
}
