/** The tokeniser and both readers of the MXPP gateway against another, strict parser, on random, damaged and odd documents. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readElements } from "../gateways/mxpp/elements.ts";
import { readTree } from "../gateways/mxpp/tree.ts";
import { faults, frame, saxesTree } from "./helpers/mxpp.ts";
import { aDocument } from "./helpers/mxpp-documents.ts";

test("text and structure are read as a second, strict parser reads them", () => {
  fc.assert(
    fc.property(aDocument, (xml) => {
      const expected = saxesTree(xml);
      assert.ok(expected !== null, "the generator writes well-formed documents");
      const [event, ...more] = frame(Buffer.from(xml));
      assert.is(more.length, 0);
      if (event?.kind !== "document") return assert.unreachable(JSON.stringify(event));
      assert.equal(readElements(event.xml), expected);
      assert.equal(readTree(event.xml), expected);
    }),
    { numRuns: 1000 },
  );
});

test("a damaged document is framed if and only if a second, strict parser takes it", () => {
  let accepted = 0;
  let refused = 0;
  const damage = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    gone: fc.constantFrom(0, 0, 0, 0, 1, 2),
    put: fc.constantFrom(
      ...["", " ", "x", "y.", "é", "<!---->", "&lt;", "/", ";", ">", "]]>"],
      ...["<", "&", '"', "--", "=", "!", "<![CDATA[", "&#0;", "]", "'", "<a/>"],
    ),
  });
  fc.assert(
    fc.property(aDocument, damage, (xml, { at, gone, put }) => {
      const points = Array.from(xml);
      points.splice(Math.floor(at * points.length), gone, put);
      const damaged = points.join("");
      if (/<[?!](?!--|\[CDATA\[|xml )/.test(damaged)) return;
      // White space before a declaration, and comments after the root, are between documents here and errors there.
      const alone = damaged.trim();
      if (/-->$/.test(alone)) return;
      const events = frame(Buffer.from(damaged));
      const framed = events.length === 1 && events[0]?.kind === "document" && events[0].xml === alone;
      const expected = saxesTree(alone);
      const taken = expected !== null;
      if (framed && taken) {
        assert.equal(readElements(alone), expected);
        assert.equal(readTree(alone), expected);
      }
      assert.is(framed, taken, JSON.stringify(damaged));
      if (framed) accepted++;
      else refused++;
    }),
    { numRuns: 3000 },
  );
  assert.ok(accepted > 100 && refused > 100, `${accepted} accepted, ${refused} refused`);
});

// Small traps of the grammar that random documents seldom meet.

const WELL_FORMED = [
  "<a>]]&amp;></a>",
  "<a>]]<b/>></a>",
  "<a>]]<!-- b -->]]<![CDATA[>]]></a>",
  "<a><![CDATA[]]]]></a>",
  "<a><!----></a>",
  "<a><!--->--></a>",
  "<a b='>' c=\"'\"/>",
  "<a b='&#62;&lt;'\n>&#x00000041;</a\n>",
  "<!-- <!DOCTYPE a> --><a/>",
];
for (const xml of WELL_FORMED) {
  test(`${JSON.stringify(xml)} is a document`, () => {
    assert.ok(saxesTree(xml) !== null);
    assert.equal(frame(Buffer.from(xml)), [{ kind: "document", xml, bytes: xml.length }]);
  });
}

const MALFORMED = [
  "<![CDATA[a]]><a/>",
  "&#65;<a/>",
  "<a b='&none;'/>",
  "<a b='&#0;'/>",
  "<a b='1'c='2'/>",
  "<a/ >",
  "<a></a b='1'>",
  "<a></ a>",
  "< a/>",
  "<a>&;</a>",
  "<a>&#;</a>",
  "<a>&#x;</a>",
  "<a>&AMP;</a>",
  "<a><![cdata[b]]></a>",
  "<a><!- b --></a>",
  "<1a/>",
  "<a>\u{fffe}</a>",
  "</a>",
  "<?xml?><a/>",
  "<?xml version='2.0'?><a/>",
  "<?xml version='1.0' standalone='maybe'?><a/>",
  "<?xml version='1.0'\u00a0encoding='utf-8'?><a/>",
  `<?xml version='1.0'${" ".repeat(300)}?><a/>`,
  "<?xml version='1.0'?><?xml version='1.0'?><a/>",
];
for (const xml of MALFORMED) {
  test(`${JSON.stringify(xml)} is malformed`, () => assert.is(faults(frame(Buffer.from(xml))[0]), "malformed"));
}

test.run();
