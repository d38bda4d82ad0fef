/**
 * Finds the end of one XML document, code point by code point, and refuses what is not well-formed, not needed by
 * MXPP, or over a limit, before any parser sees it. Each state is a function; `<` comes first:
 *
 *   prolog ──<──► markup ──name──► startName ─► inTag ─► attributeName ─► beforeValue ─► value ─► afterValue
 *     ▲  │          │ │ │              │          ▲ │                                   │ ▲  └──► inTag
 *     │  └ space    │ │ └ ? (first token only) ─► declaration          reference ◄──────┘ │
 *     │             │ └ ! ─► bang ─► comment | cdata        (D: DOCTYPE is a fault)       └ after its `;`
 *     │             └ / ─► endName ─► endSpace
 *     └── a token ends: back to prolog or content by depth; the end tag of the root ends the document
 *   content ──<──► markup        content ──&──► reference
 *
 * Details of a fault are fixed phrases: they are logged, and what a host sent may be a page's text.
 */
import { isCharacter, isNameCharacter, isNameStart, isSpace } from "./characters.ts";

export type TokeniserLimits = {
  readonly depth: number;
  readonly elements: number;
  readonly attributes: number;
  readonly nameCharacters: number;
  readonly valueCharacters: number;
};

export type XmlFault = { readonly code: "doctype" | "depth" | "elements" | "malformed"; readonly detail: string };

/** `token`: a tag, comment, CDATA section or the declaration is complete; `end`: so is the document. */
type Step = "more" | "token" | "end" | XmlFault;

export type Tokeniser = {
  feed(point: number): Step;
  /**
   * How many of the bytes from `from` on, up to `to`, are ASCII that changes nothing but the length of a text or name: taken all at
   * once, and not to be fed. Most of a document is.
   */
  plain(bytes: Uint8Array, from: number, to: number): number;
  /** Names of the elements that were open at the end of the last whole token, the root first. */
  readonly open: readonly string[];
};

type State = (point: number) => Step;

const LESS_THAN = 0x3c;
const GREATER_THAN = 0x3e;
const SLASH = 0x2f;
const AMPERSAND = 0x26;
const HYPHEN = 0x2d;
const BRACKET = 0x5d;
const EQUALS = 0x3d;

const ENTITIES: ReadonlySet<string> = new Set(["amp", "lt", "gt", "quot", "apos"]);
/** `#x10FFFF` and a few leading zeros. */
const REFERENCE_CHARACTERS = 12;
const DECLARATION_CHARACTERS = 256;
// Only ASCII characters that XML allows reach this pattern, so its `\s` is XML's own white space.
const DECLARATION =
  /^xml\s+version\s*=\s*(?:"1\.\d+"|'1\.\d+')(?:\s+encoding\s*=\s*(?:"[A-Za-z][\w.-]*"|'[A-Za-z][\w.-]*'))?(?:\s+standalone\s*=\s*(?:"(?:yes|no)"|'(?:yes|no)'))?\s*\?>$/;

const ASCII = Array.from({ length: 256 }, (_, byte) => byte).map((byte) => byte < 0x80 && isCharacter(byte));
const PLAIN_TEXT = Uint8Array.from(ASCII, (is, byte) =>
  Number(is && ![LESS_THAN, AMPERSAND, GREATER_THAN, BRACKET].includes(byte)),
);
const PLAIN_NAME = Uint8Array.from(ASCII, (is, byte) => Number(is && isNameCharacter(byte)));
const LETTERS = ASCII.map((_, byte) => String.fromCharCode(byte));
/** What has grown by a character at a time takes thirty times as much for as long as it is kept. */
const copied = (name: string) => Buffer.from(name).toString();
/** Not worth a copy, and what MXPP's own are. */
const SHORT_NAME = 24;

const malformed = (detail: string): XmlFault => ({ code: "malformed", detail });

export function makeTokeniser(limits: TokeniserLimits): Tokeniser {
  const open: string[] = [];
  const attributes = new Set<string>();
  let elements = 0;
  let started = false;
  let name = "";
  let nameLength = 0;
  let elementName = "";
  let gathered = "";
  let run = 0;
  let valueLength = 0;
  let quote = 0;
  let expected = "";
  let afterExpected: State = prolog;
  let afterReference: State = content;
  let state: State = prolog;

  function go(next: State): Step {
    state = next;
    return "more";
  }

  function tokenEnds(): Step {
    started = true;
    run = 0;
    state = open.length === 0 ? prolog : content;
    return open.length === 0 && elements > 0 ? "end" : "token";
  }

  function prolog(point: number): Step {
    if (point === LESS_THAN) return go(markup);
    return isSpace(point) ? "more" : malformed("text outside the root element");
  }

  function content(point: number): Step {
    if (point === LESS_THAN) return go(markup);
    if (point === AMPERSAND) return startReference(content);
    if (point === GREATER_THAN && run >= 2) return malformed("]]> in text");
    run = point === BRACKET ? run + 1 : 0;
    return "more";
  }

  function markup(point: number): Step {
    if (point === SLASH) {
      if (open.length === 0) return malformed("an end tag without its start tag");
      name = "";
      nameLength = 0;
      return go(endName);
    }
    if (point === 0x21) return go(bang);
    if (point === 0x3f) {
      if (started) return malformed("a processing instruction");
      gathered = "";
      return go(declaration);
    }
    if (!isNameStart(point)) return malformed("< is not followed by a name");
    if (open.length >= limits.depth) return { code: "depth", detail: `elements nested over ${limits.depth} deep` };
    if (++elements > limits.elements) return { code: "elements", detail: `over ${limits.elements} elements` };
    attributes.clear();
    return startName(point, startTagName);
  }

  function startName(point: number, next: State): Step {
    name = String.fromCodePoint(point);
    nameLength = 1;
    return go(next);
  }

  function extendName(point: number): Step {
    if (++nameLength > limits.nameCharacters) return malformed(`a name over ${limits.nameCharacters} characters`);
    name += String.fromCodePoint(point);
    return "more";
  }

  function startTagName(point: number): Step {
    if (isNameCharacter(point)) return extendName(point);
    elementName = nameLength > SHORT_NAME ? copied(name) : name;
    return tagGoesOn(point);
  }

  /** After the element's name or an attribute's value: white space or the end of the tag. */
  function tagGoesOn(point: number): Step {
    if (isSpace(point)) return go(inTag);
    if (point === GREATER_THAN) return startTagEnds();
    return point === SLASH ? go(emptyTag) : malformed("a start tag with a stray character");
  }

  function inTag(point: number): Step {
    if (!isNameStart(point)) return tagGoesOn(point);
    if (attributes.size >= limits.attributes) return malformed(`over ${limits.attributes} attributes`);
    return startName(point, attributeName);
  }

  function attributeName(point: number): Step {
    return isNameCharacter(point) ? extendName(point) : beforeEquals(point);
  }

  function beforeEquals(point: number): Step {
    if (isSpace(point)) return go(beforeEquals);
    if (point !== EQUALS) return malformed("an attribute without a value");
    if (attributes.has(name)) return malformed("an attribute given twice");
    attributes.add(copied(name));
    return go(beforeValue);
  }

  function beforeValue(point: number): Step {
    if (isSpace(point)) return "more";
    if (point !== 0x22 && point !== 0x27) return malformed("an attribute value without quotes");
    quote = point;
    valueLength = 0;
    return go(value);
  }

  function value(point: number): Step {
    if (point === quote) return go(tagGoesOn);
    if (point === LESS_THAN) return malformed("< in an attribute value");
    if (++valueLength > limits.valueCharacters) {
      return malformed(`an attribute value over ${limits.valueCharacters} characters`);
    }
    return point === AMPERSAND ? startReference(value) : "more";
  }

  function startTagEnds(): Step {
    open.push(elementName);
    return tokenEnds();
  }

  function emptyTag(point: number): Step {
    return point === GREATER_THAN ? tokenEnds() : malformed("a start tag with a stray character");
  }

  function endName(point: number): Step {
    return isNameCharacter(point) ? extendName(point) : endSpace(point);
  }

  function endSpace(point: number): Step {
    if (isSpace(point)) return go(endSpace);
    if (point !== GREATER_THAN) return malformed("an end tag with a stray character");
    if (open.pop() !== name) return malformed("an end tag that does not match its start tag");
    return tokenEnds();
  }

  function bang(point: number): Step {
    if (point === HYPHEN) return expect("-", comment);
    if (point === 0x44) return { code: "doctype", detail: "a DOCTYPE" };
    if (point === 0x5b && open.length > 0) return expect("CDATA[", cdata);
    return malformed("<! begins neither a comment nor CDATA within the root");
  }

  function expect(text: string, next: State): Step {
    expected = text;
    afterExpected = next;
    run = 0;
    return go(literal);
  }

  function literal(point: number): Step {
    if (point !== expected.charCodeAt(0)) return malformed("<! begins neither a comment nor CDATA within the root");
    expected = expected.slice(1);
    return expected === "" ? go(afterExpected) : "more";
  }

  function comment(point: number): Step {
    if (run === 2) return point === GREATER_THAN ? tokenEnds() : malformed("-- in a comment");
    run = point === HYPHEN ? run + 1 : 0;
    return "more";
  }

  function cdata(point: number): Step {
    if (point === GREATER_THAN && run >= 2) return tokenEnds();
    run = point === BRACKET ? run + 1 : 0;
    return "more";
  }

  function declaration(point: number): Step {
    if (point > 0x7e) return malformed("a processing instruction or a wrong XML declaration");
    gathered += String.fromCodePoint(point);
    if (gathered.length > DECLARATION_CHARACTERS) return malformed("an XML declaration that does not end");
    if (!gathered.endsWith("?>")) return "more";
    return DECLARATION.test(gathered) ? tokenEnds() : malformed("a processing instruction or a wrong XML declaration");
  }

  function startReference(then: State): Step {
    gathered = "";
    run = 0;
    afterReference = then;
    return go(reference);
  }

  function reference(point: number): Step {
    if (point !== 0x3b) {
      gathered += String.fromCodePoint(point);
      return gathered.length > REFERENCE_CHARACTERS ? malformed("& without a reference") : "more";
    }
    if (!isReference(gathered)) return malformed("a reference to an unknown entity or to no character");
    return go(afterReference);
  }

  function plain(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    if (state === content && run === 0) {
      while (at < to && PLAIN_TEXT[bytes[at]!] === 1) at += 1;
    } else if (state === startTagName || state === endName || state === attributeName) {
      const end = Math.min(to, from + limits.nameCharacters - nameLength);
      let letters = "";
      for (; at < end && PLAIN_NAME[bytes[at]!] === 1; at += 1) letters += LETTERS[bytes[at]!]!;
      name += letters;
      nameLength += at - from;
    }
    return at - from;
  }

  return {
    plain,
    feed: (point) => (isCharacter(point) ? state(point) : malformed("a character that XML does not allow")),
    open,
  };
}

function isReference(text: string): boolean {
  const digits = /^#(?:x([0-9A-Fa-f]+)|([0-9]+))$/.exec(text);
  if (digits === null) return ENTITIES.has(text);
  const [, hexadecimal, decimal] = digits;
  const point = hexadecimal === undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16);
  return isCharacter(point);
}
