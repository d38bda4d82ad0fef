/**
 * The encoding of one document of an MXPP stream: judged from its byte-order mark and first bytes, never from its XML
 * declaration, since hosts (and the seed itself) declare UTF-16 over UTF-8 bytes. Decoders take one byte at a time, so
 * a chunk may end anywhere, and refuse what the Unicode standard calls ill-formed (its table 3-7, and lone surrogates).
 */

export type Encoding = "utf-8" | "utf-16le" | "utf-16be";

/** More bytes are needed before the next code point is known. */
export const INCOMPLETE = -1;
/** The bytes are not valid in this encoding. */
export const INVALID = -2;

/** Takes the next byte; returns a code point that is no surrogate, INCOMPLETE or INVALID. */
export type Decoder = (byte: number) => number;

export function makeDecoder(encoding: Encoding): Decoder {
  return encoding === "utf-8" ? makeUtf8Decoder() : makeUtf16Decoder(encoding === "utf-16le");
}

function makeUtf8Decoder(): Decoder {
  let needed = 0;
  let point = 0;
  // The first continuation byte is narrowed for E0, ED, F0 and F4, which excludes overlong forms and surrogates.
  let lowest = 0x80;
  let highest = 0xbf;
  return (byte) => {
    if (needed === 0) {
      if (byte < 0x80) return byte;
      if (byte < 0xc2 || byte > 0xf4) return INVALID;
      lowest = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
      highest = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
      needed = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
      point = byte & (0x3f >> needed);
      return INCOMPLETE;
    }
    if (byte < lowest || byte > highest) return INVALID;
    lowest = 0x80;
    highest = 0xbf;
    point = (point << 6) | (byte & 0x3f);
    needed--;
    return needed === 0 ? point : INCOMPLETE;
  };
}

function makeUtf16Decoder(littleEndian: boolean): Decoder {
  let first = -1;
  let leading = -1;
  return (byte) => {
    if (first === -1) {
      first = byte;
      return INCOMPLETE;
    }
    const unit = littleEndian ? (byte << 8) | first : (first << 8) | byte;
    first = -1;
    if (leading !== -1) {
      if (unit < 0xdc00 || unit > 0xdfff) return INVALID;
      const point = 0x10000 + ((leading - 0xd800) << 10) + (unit - 0xdc00);
      leading = -1;
      return point;
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) return INVALID;
    if (unit < 0xd800 || unit > 0xdfff) return unit;
    leading = unit;
    return INCOMPLETE;
  };
}

/** The text of bytes that a decoder of the same encoding has found valid. */
export function decode(bytes: Uint8Array, encoding: Encoding): string {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (encoding === "utf-8") return view.toString("utf8");
  return encoding === "utf-16le" ? view.toString("utf16le") : Buffer.from(view).swap16().toString("utf16le");
}

/**
 * What a byte between two documents means: still between; not allowed there; or the encoding of the document that has
 * begun. That is known one byte after the `<`: for UTF-16LE this byte is the second half of the `<`, for the others
 * it is the first byte of what follows.
 */
export type Verdict = Encoding | "between" | "stray";

const LESS_THAN = 0x3c;
const BYTE_ORDER_MARKS: readonly (readonly number[])[] = [
  [0xef, 0xbb, 0xbf],
  [0xff, 0xfe],
  [0xfe, 0xff],
];

/**
 * Skips white space, NUL and byte-order marks, then judges. Bytes win over a mark that contradicts them. Without one,
 * `00 3C 00` may be the `<` of either UTF-16; it is big-endian when an odd number of bytes stands before the `3C`, so
 * separators of UTF-16 documents must be UTF-16 themselves, or a mark must follow them; and what follows the `<` must be
 * ASCII, as `?`, `!` and amcomMessage are.
 */
export function makeJudge(): (byte: number) => Verdict {
  let mark: readonly number[] = [];
  let matched = 0;
  let markedBigEndian = false;
  let odd = false;
  let last = -1;
  let begun = false;
  return (byte) => {
    if (begun) {
      if (odd && last === 0 && (byte === 0 || markedBigEndian)) return "utf-16be";
      return byte === 0 ? "utf-16le" : "utf-8";
    }
    if (matched > 0) {
      if (byte !== mark[matched]) return "stray";
      matched = matched + 1 === mark.length ? 0 : matched + 1;
      if (matched === 0) {
        markedBigEndian = mark[0] === 0xfe;
        odd = false;
      }
      return "between";
    }
    if (byte === LESS_THAN) {
      begun = true;
      return "between";
    }
    if (byte === 0 || byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d) {
      odd = !odd;
      last = byte;
      return "between";
    }
    const found = BYTE_ORDER_MARKS.find((candidate) => candidate[0] === byte);
    if (found === undefined) return "stray";
    mark = found;
    matched = 1;
    return "between";
  };
}
