/** Random well-formed documents, within MXPP's limits and of any names, texts, CDATA, comments and attributes. */
import fc from "fast-check";

const anyCharacter = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(..."ab <>&'\"]]>-- \n\r\tüñ✓😀‏שלום\u0085\u2028\ufeff\ufffd") },
  {
    weight: 1,
    arbitrary: fc
      .integer({ min: 0x20, max: 0x10ffff })
      .filter((point) => (point < 0xd800 || point > 0xdfff) && point !== 0xfffe && point !== 0xffff)
      .map((point) => String.fromCodePoint(point)),
  },
);
const anyText = fc.string({ unit: anyCharacter, maxLength: 30 });

const escaped = anyText.map((text) =>
  Array.from(text, (c, at) => {
    const named = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;" }[c];
    if (named !== undefined && at % 2 === 0) return named;
    return named !== undefined || at % 5 === 4 ? `&#x${c.codePointAt(0)!.toString(16)};` : c;
  }).join(""),
);
const cdata = anyText.map((text) => `<![CDATA[${text.replaceAll("]]>", "]] >")}]]>`);
const comment = anyText.map((text) => `<!--${text.replaceAll("-", "=")}-->`);
const aName = fc.constantFrom("a", "b:c", "_x.1", "Größe", "名", "constructor", "__proto__", "toString", "newMessage");
const attributes = fc
  .uniqueArray(fc.tuple(aName, escaped, fc.constantFrom('"', "'"), fc.constantFrom("=", " = ", "\n=")), {
    maxLength: 3,
    selector: ([name]) => name,
  })
  .map((list) => list.map(([name, value, quote, equals]) => ` ${name}${equals}${quote}${value}${quote}`).join(" "));

const { element } = fc.letrec<{ element: string; inside: string }>((tie) => ({
  element: fc
    .tuple(aName, attributes, tie("inside"), fc.constantFrom("", " ", "\n"), fc.boolean())
    .map(([name, attrs, inside, space, short]) =>
      inside === "" && short ? `<${name}${attrs}${space}/>` : `<${name}${attrs}${space}>${inside}</${name}${space}>`,
    ),
  inside: fc
    .array(fc.oneof({ maxDepth: 3, withCrossShrink: true }, escaped, cdata, comment, tie("element")), { maxLength: 4 })
    .map((parts) => parts.join("")),
}));
const aDeclaration = fc.constantFrom(
  "",
  '<?xml version="1.0"?>',
  "<?xml version='1.0' encoding='utf-16' standalone='no' ?>\r\n",
);
export const aDocument = fc
  .tuple(aDeclaration, comment, fc.boolean(), element)
  .map(([declaration, prolog, withProlog, root]) => declaration + (withProlog ? `${prolog}\n` : "") + root)
  .filter((xml) => !/[\uD800-\uDFFF]/.test(xml.replace(/[\uD800-\uDBFF][\uDC00-\uDFFF]/g, "")));
