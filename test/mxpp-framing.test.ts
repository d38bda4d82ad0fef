/** Bytes to documents: `gateways/mxpp/framing.ts` with its encodings, chunks and limits. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { refuseOversize } from "../gateways/mxpp/document.ts";
import { decode, type Encoding, INVALID, makeDecoder } from "../gateways/mxpp/encoding.ts";
import { MXPP_LIMITS, makeFramer } from "../gateways/mxpp/framing.ts";
import { renderNewMessage } from "../gateways/mxpp/new-message.ts";
import { BOM, bytewise, encode, faults, frame, frameChunks, outcomeOf, saxesTree } from "./helpers/mxpp.ts";
import { aDocument } from "./helpers/mxpp-documents.ts";

const anEncoding = fc.constantFrom<Encoding>("utf-8", "utf-16le", "utf-16be");
/** White space and NUL in the document's own encoding, with or without a byte-order mark. */
const aSending = fc
  .record({
    xml: aDocument,
    encoding: anEncoding,
    space: fc.constantFrom("", "\n", " \t\r\n", "\0", "\0\0\n"),
    marks: fc.nat({ max: 2 }),
  })
  .map(({ xml, encoding, space, marks }) => {
    const before = encode(space, encoding);
    // Without a mark, UTF-16 is known by the zero half of the character after the first `<`, so that must be ASCII.
    const needed = encoding !== "utf-8" && /^<[^\0-\x7f]/.test(xml) ? marks + 1 : marks;
    const marked = Array.from({ length: needed }, () => Buffer.from(BOM[encoding]));
    return {
      xml,
      bytes: Buffer.concat([before, ...marked, needed > 0 ? before : Buffer.alloc(0), encode(xml, encoding)]),
    };
  });

test("any documents in any encodings, cut into any chunks, are framed as they were written", () => {
  const cuts = fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(fc.array(aSending, { maxLength: 4 }), cuts, (sendings, sizes) => {
      const bytes = Buffer.concat(sendings.map((sending) => sending.bytes));
      const chunks: Uint8Array[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = turn > 500 ? bytes.length : sizes[turn % sizes.length]!;
        chunks.push(bytes.subarray(at, at + size));
        at += size;
      }
      const expected = sendings.map(({ xml }) => xml);
      for (const events of [frame(bytes), frameChunks(chunks), frameChunks(bytewise(bytes))]) {
        assert.equal(
          events.map((event) => (event.kind === "document" ? event.xml : event.kind)),
          expected,
        );
      }
    }),
    { numRuns: 500 },
  );
});

test("UTF-8 is valid here if and only if the platform's strict decoder takes it", () => {
  const byte = fc.constantFrom(
    0x00,
    0x41,
    0x7f,
    0x80,
    0x8f,
    0x90,
    0x9f,
    0xa0,
    0xbf,
    0xc0,
    0xc1,
    0xc2,
    0xdf,
    0xe0,
    0xe1,
  );
  const later = fc.constantFrom(0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff);
  fc.assert(
    fc.property(fc.array(fc.oneof(byte, later), { maxLength: 8 }), (list) => {
      const bytes = Uint8Array.from([...list, 0x3e]);
      const decoder = makeDecoder("utf-8");
      const points = Array.from(bytes, decoder);
      let expected: string | null = null;
      try {
        expected = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
      } catch {}
      if (expected === null) assert.ok(points.includes(INVALID));
      else assert.is(String.fromCodePoint(...points.filter((point) => point >= 0)), expected);
    }),
    { numRuns: 5000 },
  );
});

test("UTF-16 is valid here if and only if it holds no lone surrogate", () => {
  const unit = fc.oneof(fc.constantFrom(0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000), fc.nat({ max: 0xffff }));
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 6 }), fc.boolean(), (units, little) => {
      const text = `${String.fromCharCode(...units)}>`;
      const encoding = little ? "utf-16le" : "utf-16be";
      const bytes = encode(text, encoding);
      const points = Array.from(bytes, makeDecoder(encoding));
      if (!text.isWellFormed()) return assert.ok(points.includes(INVALID));
      assert.is(String.fromCodePoint(...points.filter((point) => point >= 0)), text);
      assert.is(decode(bytes, encoding), text);
    }),
    { numRuns: 2000 },
  );
});

test("a byte-order mark puts right whatever stood before it", () => {
  for (const before of [[], [0], [0, 0], [0x0a], [0x0a, 0]]) {
    for (const encoding of ["utf-8", "utf-16le", "utf-16be"] as const) {
      const bytes = Buffer.concat([Buffer.from([...before, ...BOM[encoding]]), encode("<a>é</a>", encoding)]);
      assert.equal(
        frame(bytes).map((event) => (event.kind === "document" ? event.xml : event)),
        ["<a>é</a>"],
      );
    }
  }
});

function wrap(inside: string): string {
  return `<amcomMessage>${inside}</amcomMessage>`;
}

// Limits: at the limit a document passes, one over it ends the connection.

const nested = (depth: number) => "<a>".repeat(depth) + "</a>".repeat(depth);
const withAttributes = (count: number) => `<a${Array.from({ length: count }, (_, n) => ` n${n}="v"`).join("")}/>`;
const LIMITS: readonly (readonly [limit: string, allowed: string, over: string, code: string])[] = [
  ["depth 16", nested(16), nested(17), "depth"],
  ["512 elements", wrap("<b/>".repeat(511)), wrap("<b/>".repeat(512)), "elements"],
  ["64 attributes", withAttributes(64), withAttributes(65), "malformed"],
  ["names of 128 characters", `<${"n".repeat(128)}/>`, `<${"n".repeat(129)}/>`, "malformed"],
  ["attribute names of 128 characters", `<a ${"n".repeat(128)}=""/>`, `<a ${"n".repeat(129)}=""/>`, "malformed"],
  ["attribute values of 4096 characters", `<a b="${"v".repeat(4096)}"/>`, `<a b="${"v".repeat(4097)}"/>`, "malformed"],
];
for (const [limit, allowed, over, code] of LIMITS) {
  test(`${limit} pass, one more is a fault`, () => {
    assert.equal(frame(Buffer.from(allowed)).map(faults), ["document"]);
    assert.equal(frame(Buffer.from(over)).map(faults), [code]);
  });
}

test("an empty element counts towards depth", () => {
  const open = "<a>".repeat(16);
  const close = "</a>".repeat(16);
  assert.equal(frame(Buffer.from(`${open}<b/>${close}`)).map(faults), ["depth"]);
});

/** A page of exactly so many bytes, filled up in its text. */
function pageOfBytes(bytes: number): Buffer {
  const page = (text: string) => renderNewMessage({ origin: "LAB", trackingId: "BIG", destination: "5551234", text });
  return Buffer.from(
    page("x".repeat(bytes - page("").length - "<textMessage></textMessage>".length + "<textMessage />".length)),
  );
}

test("a document of 256 KiB is framed, one byte more is skipped and its head still says who to answer", () => {
  const size = MXPP_LIMITS.documentBytes;
  const good = Buffer.from(
    renderNewMessage({ origin: "LAB", trackingId: "NEXT", destination: "5551234", text: "next" }),
  );
  assert.is(pageOfBytes(size).length, size);
  assert.equal(frame(pageOfBytes(size)).map(faults), ["document"]);
  // One byte over breaks off behind the text, the others within it, with four elements open.
  for (const over of [1, 100, 5000]) {
    const bytes = Buffer.concat([pageOfBytes(size + over), good]);
    for (const chunks of [[bytes], bytewise(bytes)]) {
      const [oversize, next, ...more] = frameChunks(chunks);
      assert.is(more.length, 0);
      if (oversize?.kind !== "oversize") return assert.unreachable(oversize?.kind);
      assert.is(oversize.bytes, size + over);
      assert.equal(refuseOversize(oversize.head), {
        kind: "refused",
        reason: "the document is over 256 KiB",
        origin: "LAB",
        trackingId: "BIG",
        systemId: "LAB",
        destination: "5551234",
        others: [],
      });
      assert.ok(saxesTree(oversize.head) !== null, "the head is well-formed");
      assert.is(next === undefined ? "" : outcomeOf(next), 'page NEXT "next"');
    }
  }
});

test("a skipped UTF-16 document is answered too, and one that is complete before its limit is still never a page", () => {
  const page = renderNewMessage({ origin: "LAB", trackingId: "T-9", destination: "5551234", text: "Größe 😀" });
  const long = page.replace("</newMessage>", `</newMessage><!--${"x".repeat(150_000)}-->`);
  for (const encoding of ["utf-16le", "utf-16be"] as const) {
    const bytes = Buffer.concat([Buffer.from(BOM[encoding]), encode(long, encoding)]);
    assert.equal(frame(bytes).map(outcomeOf), ["refused the document is over 256 KiB"]);
  }
});

test("a document over 256 KiB whose first token does not end has an empty head and cannot be answered", () => {
  const bytes = Buffer.from(`<!--${"x".repeat(300_000)}--><a/>`);
  const events = frame(bytes);
  assert.equal(events.map(outcomeOf), ["unanswerable the document has no root element"]);
  assert.equal(events, [{ kind: "oversize", head: "", bytes: bytes.length }]);
});

test("what is over a limit in the skipped part still ends the connection", () => {
  assert.equal(frame(Buffer.from(`<a>${"x".repeat(300_000)}<!DOCTYPE b></a>`)).map(faults), ["doctype"]);
});

test("a document of 1 MiB is skipped, one byte more ends the connection, and nothing after it is heard", () => {
  const size = MXPP_LIMITS.skippedBytes;
  assert.equal(frame(pageOfBytes(size)).map(faults), ["oversize"]);
  const good = renderNewMessage({ origin: "LAB", trackingId: "T-1", destination: "5551234", text: "late" });
  const framer = makeFramer();
  assert.equal(framer.push(Buffer.concat([pageOfBytes(size + 1), Buffer.from(good)])).map(faults), ["too-large"]);
  assert.equal(framer.push(Buffer.from(good)), []);
  assert.is(framer.pending(), 0);
});

test("a document of 2 MB ends the connection", () => {
  assert.equal(frame(pageOfBytes(2_000_000)).map(faults), ["too-large"]);
});

test("a fault hides no document that was complete before it", () => {
  const page = renderNewMessage({ origin: "LAB", trackingId: "T-1", destination: "5551234", text: "first" });
  assert.equal(frame(Buffer.from(`${page}<!DOCTYPE x>${page}`)).map(outcomeOf), ['page T-1 "first"', "fault doctype"]);
});

test("tens of thousands of numeric references are characters like any others", () => {
  const text = "&#x41;".repeat(40_000);
  const xml = renderNewMessage({ origin: "LAB", trackingId: "T-1", destination: "5551234", text: "@" }).replace(
    "@",
    text,
  );
  const [event] = frame(Buffer.from(xml));
  assert.is(event === undefined ? "" : outcomeOf(event), `page T-1 "${"A".repeat(40_000)}"`);
});

test("a framer knows whether a document has begun and not ended", () => {
  const framer = makeFramer();
  assert.is(framer.pending(), 0);
  framer.push(Buffer.from(" \0\n"));
  assert.is(framer.pending(), 0);
  framer.push(Buffer.from("<amcom"));
  assert.is(framer.pending(), 6);
  framer.push(Buffer.from("Message/>"));
  assert.is(framer.pending(), 0);
});

test("a connection that only sends separators keeps nothing and hears nothing", () => {
  const framer = makeFramer();
  const noise = Buffer.concat([Buffer.from(" \r\n\t\0"), Buffer.from([0xef, 0xbb, 0xbf, 0xff, 0xfe, 0xfe, 0xff])]);
  for (let times = 0; times < 1000; times++) assert.equal(framer.push(noise), []);
  assert.is(framer.pending(), 0);
});

test("a byte-order mark that breaks off is a fault", () => {
  assert.equal(frame(Buffer.from([0xef, 0xbb, 0x20])).map(faults), ["malformed"]);
});

test("no fault quotes the document", () => {
  const secret = "Sternberg";
  for (const xml of [secret, `<${secret}>${secret}</x>`, `<a ${secret}=1>`, `<a>&${secret};</a>`, `<?${secret}?>`]) {
    const [event] = frame(Buffer.from(xml));
    assert.is(event?.kind, "fault");
    assert.not.ok(JSON.stringify(event).includes(secret));
  }
});

test.run();
