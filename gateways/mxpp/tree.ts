/**
 * The elements of a framed document, by fast-xml-parser: how a host reads what Tocsin tells it, and what `elements.ts`, which reads
 * what hosts send, is held against. `framing.ts` has judged well-formedness and limits before; here nothing is trimmed, converted,
 * expanded or merged.
 */
import { XMLParser } from "fast-xml-parser";
import { type Element, resolveReferences } from "./elements.ts";

/** The root element, or null where there is not exactly one. Call it only with a document or head of the framer. */
export function readTree(xml: string): Element | null {
  let pieces: readonly Piece[];
  try {
    pieces = parser.parse(xml);
  } catch {
    return null;
  }
  const { children } = elementOf("", pieces);
  return children.length === 1 ? children[0]! : null;
}

type Piece = { readonly [name: string]: readonly Piece[] | string };

/**
 * Stands before every element's name while it is in the parser's hands, so that no name sent by a host is one of
 * JavaScript's own properties, which the parser would refuse or rename. No XML name begins with it.
 */
const MARK = ".";
const TEXT = "#text";
const CDATA = "#cdata";

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: true,
  ignoreDeclaration: true,
  trimValues: false,
  parseTagValue: false,
  // References are resolved below: the five predefined and the numeric ones, never anything a document defines.
  processEntities: false,
  textNodeName: TEXT,
  cdataPropName: CDATA,
  jPath: false,
  // The parser transforms the name of an empty element twice.
  transformTagName: (name) => (name.startsWith(MARK) ? name : MARK + name),
});

function elementOf(name: string, pieces: readonly Piece[]): Element {
  const children: Element[] = [];
  let text = "";
  for (const piece of pieces) {
    for (const [key, value] of Object.entries(piece)) {
      if (key === TEXT && typeof value === "string") text += resolveReferences(value);
      else if (key === CDATA && typeof value !== "string") text += String(value[0]?.[TEXT] ?? "");
      else if (key.startsWith(MARK) && typeof value !== "string") children.push(elementOf(key.slice(1), value));
    }
  }
  return { name, children, text };
}
