/** Looks for secrets in what was captured, as they were written and in every spelling in which they might pass unnoticed. */
import { randomBytes } from "node:crypto";

/** `place`: a word for where it was found, such as "the log". */
export type Capture = { readonly place: string; readonly bytes: Buffer };
export type Secret = {
  /** What a person calls it. */
  readonly what: string;
  readonly value: string;
  /** Places where it belongs. */
  readonly allowedIn?: readonly string[];
};

/** A word that comes about by itself nowhere: lower-case letters and digits, so that it passes every filter. */
export function makeMarker(kind: string): string {
  return `qz${randomBytes(3).toString("hex")}${kind}`;
}

/** Found by its beginning, so that a text cut short is found too. */
export function marked(what: string, marker: string, allowedIn: readonly string[] = []): Secret {
  return { what, value: marker.slice(0, SHORTEST), allowedIn };
}

/** A sentence for each secret found in each place; never the secret itself. */
export function leaks(captures: readonly Capture[], secrets: readonly Secret[]): string[] {
  return captures.flatMap(({ place, bytes }) => {
    const plain = bytes.toString("latin1");
    const folded = plain.toLowerCase();
    return secrets
      .filter(({ allowedIn = [] }) => !allowedIn.includes(place))
      .flatMap(({ what, value }) => {
        const found = spellings(value).find(({ text, anyCase }) => (anyCase ? folded : plain).includes(text));
        return found === undefined ? [] : [`${place} holds ${what} ${found.how}`];
      });
  });
}

/** Stands in every text and name that the helpers make up, so that each test's node can be searched for them. */
export const TEXT_MARK = "qzpatienttext";
export const NAME_MARK = "qzpersonname";

const SHORTEST = 8;

type Spelling = { readonly how: string; readonly text: string; readonly anyCase: boolean };

/** As latin1, which gives every byte a character of its own. */
function spellings(value: string): Spelling[] {
  if (value.length < SHORTEST) throw new Error("so short a secret would be found by chance");
  const bytes = Buffer.from(value, "utf8");
  const little = Buffer.from(value, "utf16le");
  const big = Buffer.from(value, "utf16le").swap16();
  const alike = [
    ["as it is", bytes.toString("latin1")],
    ["as UTF-16", little.toString("latin1")],
    ["as big-endian UTF-16", big.toString("latin1")],
    // Redis and others print a zero byte so.
    ["as UTF-16 printed", little.toString("latin1").replaceAll("\0", "\\x00")],
    ["as UTF-16 in JSON", little.toString("latin1").replaceAll("\0", "\\u0000")],
    ["in JSON", JSON.stringify(value).slice(1, -1)],
    ["in a URL", encodeURIComponent(value)],
    ["in XML", value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")],
    ["in hexadecimal", bytes.toString("hex")],
    ["as UTF-16 in hexadecimal", little.toString("hex")],
  ].map(([how, text]) => ({ how: how!, text: text!.toLowerCase(), anyCase: true }));
  const base64 = [bytes, little].flatMap(inBase64).map((text) => ({ how: "in base64", text, anyCase: false }));
  const base64url = base64.map(({ text }) => ({
    how: "in base64url",
    text: text.replaceAll("+", "-").replaceAll("/", "_"),
    anyCase: false,
  }));
  return [...alike, ...base64, ...base64url];
}

/** The characters that stand for these bytes and for no others, at each of the three places where they may begin in a group. */
function inBase64(bytes: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString("base64");
    const first = Math.ceil((before * 8) / 6);
    const whole = Math.floor(((before + bytes.length) * 8) / 6);
    return text.slice(first, whole);
  });
}
