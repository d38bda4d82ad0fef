/**
 * The elements of a document that `framing.ts` has passed: it has judged every character, well-formedness and limits, so that
 * here only what was judged is taken apart. Nothing is trimmed, converted, expanded or merged, since every one of these would
 * change a page's text. `tree.ts` reads the same by fast-xml-parser; why there are two: docs/decisions/0013.
 */

export type Element = {
  readonly name: string;
  readonly children: readonly Element[];
  /** Character data and CDATA directly within this element, joined in order; line ends are LF (XML 1.0, 2.11). */
  readonly text: string;
};

type Open = { name: string; children: Open[]; text: string };

/** The root element, or null where there is not exactly one. Call it only with a document or head of the framer. */
export function readElements(document: string): Element | null {
  const xml = document.includes("\r") ? document.replace(/\r\n?/g, "\n") : document;
  const top: Open = { name: "", children: [], text: "" };
  const above: Open[] = [];
  let open = top;
  for (let at = xml.indexOf("<"); at >= 0; ) {
    const next = xml.charCodeAt(at + 1);
    let end: number;
    if (next === SLASH) {
      end = xml.indexOf(">", at);
      open = above.pop() ?? top;
    } else if (next === EXCLAMATION) {
      const cdata = xml.charCodeAt(at + 2) === BRACKET;
      end = cdata ? xml.indexOf("]]>", at) + 2 : xml.indexOf("-->", at + 4) + 2;
      if (cdata) open.text += xml.slice(at + CDATA.length, end - 2);
    } else if (next === QUESTION) {
      end = xml.indexOf("?>", at) + 1;
    } else {
      end = tagEnd(xml, at);
      const element: Open = { name: nameAt(xml, at + 1), children: [], text: "" };
      open.children.push(element);
      if (xml.charCodeAt(end - 1) !== SLASH) {
        above.push(open);
        open = element;
      }
    }
    if (end <= at) return null; // never of the framer's
    at = xml.indexOf("<", end + 1);
    if (open === top || at === end + 1) continue;
    const text = xml.slice(end + 1, at < 0 ? xml.length : at);
    open.text += text.includes("&") ? resolveReferences(text) : text;
  }
  return top.children.length === 1 ? top.children[0]! : null;
}

export function childrenOf(element: Element | null, name: string): readonly Element[] {
  return element === null ? [] : element.children.filter((child) => child.name === name);
}

const SLASH = 0x2f;
const EXCLAMATION = 0x21;
const BRACKET = 0x5b;
const QUESTION = 0x3f;
const CDATA = "<![CDATA[";
const NAME_END = /[\s/>]/g;

function nameAt(xml: string, from: number): string {
  NAME_END.lastIndex = from;
  return NAME_END.test(xml) ? xml.slice(from, NAME_END.lastIndex - 1) : "";
}

/** Where the start tag at `from` has its `>`, which a quoted value may hold too. */
function tagEnd(xml: string, from: number): number {
  const end = xml.indexOf(">", from);
  let quote = firstQuote(xml, from, end);
  while (quote >= 0) {
    const after = xml.indexOf(xml[quote]!, quote + 1) + 1;
    const found = after === 0 ? -1 : xml.indexOf(">", after);
    quote = firstQuote(xml, after, found);
    if (quote < 0) return found;
  }
  return end;
}

function firstQuote(xml: string, from: number, to: number): number {
  for (let at = from; at < to; at += 1) {
    const unit = xml.charCodeAt(at);
    if (unit === 0x22 || unit === 0x27) return at;
  }
  return -1;
}

const PREDEFINED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** The five predefined and the numeric ones, never anything a document defines. */
export function resolveReferences(text: string): string {
  return text.replace(/&(?:#x([0-9A-Fa-f]+)|#([0-9]+)|(amp|lt|gt|quot|apos));/g, (_, hexadecimal, decimal, name) => {
    if (name !== undefined) return PREDEFINED[name]!;
    return String.fromCodePoint(hexadecimal === undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16));
  });
}
