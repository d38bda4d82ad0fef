/** What the MXPP tests share: framing in one go or byte by byte, and a second, strict parser to compare with. */
import { SaxesParser } from "saxes";
import { readDocument, refuseOversize } from "../../gateways/mxpp/document.ts";
import type { Element } from "../../gateways/mxpp/elements.ts";
import type { Encoding } from "../../gateways/mxpp/encoding.ts";
import { type FramerEvent, makeFramer } from "../../gateways/mxpp/framing.ts";

export function frame(bytes: Uint8Array): FramerEvent[] {
  return frameChunks([bytes]);
}

export function frameChunks(chunks: readonly Uint8Array[]): FramerEvent[] {
  const framer = makeFramer();
  return chunks.flatMap((chunk) => framer.push(chunk));
}

export function bytewise(bytes: Uint8Array): Uint8Array[] {
  return Array.from(bytes, (byte) => Uint8Array.of(byte));
}

export function encode(xml: string, encoding: Encoding): Buffer {
  if (encoding === "utf-8") return Buffer.from(xml, "utf8");
  const bytes = Buffer.from(xml, "utf16le");
  return encoding === "utf-16le" ? bytes : bytes.swap16();
}

/** One line an event: what a session would do with it. */
export function outcomeOf(event: FramerEvent): string {
  if (event.kind === "fault") return `fault ${event.code}`;
  const read = event.kind === "oversize" ? refuseOversize(event.head) : readDocument(event.xml);
  if (read.kind === "newMessage") return `page ${read.page.trackingId} ${JSON.stringify(read.page.text)}`;
  return `${read.kind} ${read.reason}`;
}

export const faults = (event: FramerEvent | undefined) => (event?.kind === "fault" ? event.code : event?.kind);

export const BOM: Readonly<Record<Encoding, readonly number[]>> = {
  "utf-8": [0xef, 0xbb, 0xbf],
  "utf-16le": [0xff, 0xfe],
  "utf-16be": [0xfe, 0xff],
};

/** Null where the document is not well-formed. */
export function saxesTree(xml: string): Element | null {
  type Open = { name: string; children: Element[]; text: string };
  const parser = new SaxesParser({ xmlns: false, defaultXMLVersion: "1.0", forceXMLVersion: true });
  let root: Element | null = null;
  let failed = false;
  const open: Open[] = [];
  const add = (text: string) => {
    const last = open.at(-1);
    if (last !== undefined) last.text += text;
  };
  parser.on("error", () => {
    failed = true;
  });
  parser.on("opentag", ({ name }) => {
    open.push({ name, children: [], text: "" });
  });
  parser.on("text", add);
  parser.on("cdata", add);
  parser.on("closetag", () => {
    const closed = open.pop()!;
    const parent = open.at(-1);
    if (parent === undefined) root = closed;
    else parent.children.push(closed);
  });
  parser.write(xml).close();
  return failed ? null : root;
}
