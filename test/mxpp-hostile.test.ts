// limit: 180 s
/** What no honest host sends, over a real socket: it hurts the connection it came on at most, and nothing that was accepted. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePage } from "../cli/host-client.ts";
import { type Draft, renderNewMessage } from "../gateways/mxpp/new-message.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { metric } from "./helpers/process-facts.ts";
import { openRawHost, type RawHost } from "./helpers/raw-host.ts";

/** Stands in what is sent, and must stand in no line of the log. */
const MARK = `mark${randomUUID().replaceAll("-", "")}`;
const hospital = await openHospital();
const { node } = hospital;
const port = node.run().mxpp!.port;
for (const name of ["hostile", "honest", "second"]) await hospital.knows(name);
const phone = await hospital.phone();
const { destination } = phone.person;
const connect = (name = "hostile") => openRawHost({ port, name });
const honest = await connect("honest");
/** Everybody else's connection, from the first test to the last. */
async function othersGoOn(within = 5_000): Promise<void> {
  const trackingId = honest.sends({ destination, priority: "high" });
  await honest.awaits(trackingId, "ENROUTE", within);
}

const page = (more: Partial<Draft> = {}) => ({
  origin: "hostile",
  trackingId: randomUUID(),
  destination,
  text: `x ${randomUUID()}`,
  ...more,
});
/** A document that is right but for what stands in its text, as it is. */
const holding = (text: string, more: Partial<Draft> = {}) =>
  renderNewMessage(page({ ...more, text: "TEXT" })).replace("TEXT", () => text);

/** Sends a good page, then the bytes: the page must stand and the connection end. Gives what the node counted the fault as. */
async function ends(bytes: Uint8Array | string): Promise<void> {
  const host = await connect();
  const before = host.sends({ destination });
  host.writes(bytes);
  const after = randomUUID();
  host.writes(encodePage(page({ trackingId: after })));
  await host.gone;
  assert.equal(
    host.statuses(before).slice(0, 2),
    ["ACCEPTED", "QUEUED"],
    "what was accepted before stands, and is told",
  );
  assert.equal(host.statuses(after), [], "nothing after it is read");
}

/** Sends the bytes and a good page after them on one connection; gives the connection back. */
async function survives(bytes: Uint8Array | string): Promise<RawHost> {
  const host = await connect();
  host.writes(bytes);
  await host.awaits(host.sends({ destination }), "ENROUTE");
  return host;
}

/** Every text the phone has got so far. */
const texts: string[] = [];
async function shown(): Promise<readonly string[]> {
  for (let pages = await phone.fetches(); pages.length > 0; ) {
    texts.push(...pages.map(({ Text }) => Text));
    pages = await phone.fetches(pages.map(({ UniqueId }) => UniqueId));
  }
  return texts;
}

const DOCTYPES: Record<string, string> = {
  "a document type": `<!DOCTYPE amcomMessage><amcomMessage/>`,
  "a bomb of entities": `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "${MARK}">${Array.from({ length: 9 }, (_, n) => `<!ENTITY a${n} "${`&a${n === 0 ? "" : n - 1};`.repeat(10)}">`).join("")}]><amcomMessage>&a8;</amcomMessage>`,
  "an entity from a file": `<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]>${holding("&f;")}`,
  "an entity from elsewhere": `<!DOCTYPE a SYSTEM "http://127.0.0.1:1/${MARK}"><a/>`,
  "a parameter entity": `<!DOCTYPE a [<!ENTITY % p "<!ENTITY q '${MARK}'>"> %p;]><a>&q;</a>`,
  "an entity nobody declared": holding("&bomb;"),
  "a character that XML has not": holding("&#0;"),
  "half a pair of characters": holding("&#xD800;"),
};
const MALFORMED: Record<string, string> = {
  "text between documents": `</amcomMessage> ${MARK}`,
  "an end without a beginning": "</a>",
  "ends that are crossed": "<a><b></a></b>",
  "an attribute twice": '<a b="1" b="2"/>',
  "a value without quotes": "<a b=1/>",
  "a value with a tag in it": '<a b="<c/>"/>',
  "the end of CDATA in a text": holding("]]>"),
  "two hyphens in a comment": "<!-- -- --><a/>",
  "an instruction with a page in it": holding(`<?page ${holding("x").replaceAll("?>", "")} ?>`),
  "a second declaration": `<?xml version="1.0"?><?xml version="1.0"?><a/>`,
  depth: `${"<a>".repeat(17)}${"</a>".repeat(17)}`,
  breadth: `<a>${"<b/>".repeat(513)}</a>`,
  "a flood of attributes": `<a ${Array.from({ length: 70 }, (_, n) => `a${n}=""`).join(" ")}/>`,
  "an endless name": `<${"a".repeat(5_000)}/>`,
  "an endless value": `<a b="${"a".repeat(5_000)}"/>`,
  "2 MB": holding(MARK.repeat(60_000)),
  "2 MB of white space in a tag": `<a ${" ".repeat(2_000_000)}/>`,
};
const ENCODINGS: Record<string, Uint8Array> = {
  "overlong UTF-8": Buffer.from([0x3c, 0x61, 0x3e, 0xc0, 0xaf]),
  "UTF-8 beyond Unicode": Buffer.from([0x3c, 0x61, 0x3e, 0xf5, 0x80, 0x80, 0x80]),
  "a surrogate in UTF-8": Buffer.from([0x3c, 0x61, 0x3e, 0xed, 0xa0, 0x80]),
  "Latin-1": Buffer.from(holding("Käse"), "latin1"),
  "a lonely high surrogate in UTF-16": Buffer.from("\ufeff<a>\ud800x</a>", "utf16le"),
  "a lonely low surrogate in UTF-16": Buffer.from("\ufeff<a>\udc00</a>", "utf16le"),
  "UTF-32": Buffer.from([0xff, 0xfe, 0, 0, 0x3c, 0, 0, 0, 0x61, 0, 0, 0]),
  EBCDIC: Buffer.from([0x4c, 0x6f, 0xa7, 0x94, 0x93]),
  "a change of encoding within a document": Buffer.concat([Buffer.from("<a>"), Buffer.from("</a>", "utf16le")]),
};

for (const [kind, cases] of Object.entries({ DOCTYPES, MALFORMED, ENCODINGS })) {
  test(`${kind.toLowerCase()}: each ends the connection it comes on, what was accepted before stands, all others go on`, async () => {
    for (const [what, bytes] of Object.entries(cases)) {
      await ends(bytes).catch((error: Error) => {
        throw new Error(`${what}: ${error.message}`);
      });
    }
    await othersGoOn();
  });
}

test("a second page hidden in CDATA, a comment or entities is text of the first", async () => {
  const hidden = renderNewMessage(page({ trackingId: `hidden-${MARK}`, text: "hidden" }));
  const escaped = hidden.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const cases: [string, string | null][] = [
    [`<![CDATA[</textMessage></messageBody></newMessage></amcomMessage>${hidden}]]>`, hidden],
    [`before<!-- </textMessage></amcomMessage>${hidden.replaceAll("--", "")} -->after`, null],
    [escaped, hidden],
    [`<![CDATA[]]]]><![CDATA[>${hidden}]]>`, hidden],
  ];
  for (const [text, whole] of cases) {
    const host = await connect();
    const trackingId = randomUUID();
    host.writes(holding(text, { trackingId }));
    await host.awaits(trackingId, "ENROUTE");
    await host.awaits(host.sends({ destination }), "ENROUTE");
    assert.equal(host.statuses(`hidden-${MARK}`), []);
    if (whole !== null)
      assert.ok(
        (await shown()).some((one) => one.endsWith(whole)),
        "its text is whole",
      );
    assert.is((await shown()).includes("hidden"), false);
    host.cuts();
  }
});

test("a document with two newMessages is FAILED for both, and neither is paged", async () => {
  const [one, two] = [page(), page()];
  const body = (draft: Draft) => /<newMessage>.*<\/newMessage>/s.exec(renderNewMessage(draft))![0];
  const both = renderNewMessage(one).replace("</newMessage>", () => `</newMessage>${body(two)}`);
  const host = await survives(both);
  for (const { trackingId, text } of [one, two]) {
    await host.awaits(trackingId, "FAILED");
    assert.is((await shown()).includes(text), false);
  }
  host.cuts();
});

test("what a declaration says of the encoding counts for nothing against the bytes", async () => {
  const utf8 = () => renderNewMessage(page({ text: "Grüße ☎" }));
  const sent = [
    Buffer.from(utf8().replace("UTF-8", "UTF-16")),
    Buffer.from(utf8().replace("UTF-8", "ISO-8859-1")),
    Buffer.from(utf8().replace("UTF-8", MARK)),
    Buffer.from(utf8(), "utf16le"),
    Buffer.from(`\ufeff${utf8()}`, "utf16le").swap16(),
    Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(utf8()), Buffer.alloc(3), Buffer.from("\r\n \t")]),
  ];
  for (const bytes of sent) (await survives(bytes)).cuts();
  assert.is((await shown()).filter((text) => text === "Grüße ☎").length, sent.length);
});

test("a text or a document over its limit is FAILED, and the next page on that connection goes through", async () => {
  const text = page({ text: "y".repeat(50_001) });
  const document = page({ text: "z".repeat(300_000) });
  const wide = page({ text: "ü".repeat(140_000) });
  const just = page({ text: "w".repeat(50_000) });
  const host = await survives(Buffer.concat([text, document, wide, just].map((one) => encodePage(one))));
  assert.match((await host.awaits(text.trackingId, "FAILED")).reason ?? "", /50,?000/);
  assert.match((await host.awaits(document.trackingId, "FAILED")).reason ?? "", /256 KiB/);
  assert.match((await host.awaits(wide.trackingId, "FAILED")).reason ?? "", /256 KiB/);
  await host.awaits(just.trackingId, "ENROUTE");
  host.cuts();
});

test("a document that stops in the middle is no page, however its connection ends", async () => {
  const bytes = encodePage(page({ trackingId: `half-${MARK}` }));
  for (const end of ["says good-bye", "resets"] as const) {
    for (const part of [0.1, 0.5, 0.99]) {
      const host = await connect();
      const before = host.sends({ destination });
      host.writes(bytes.subarray(0, Math.floor(bytes.length * part)));
      await host.awaits(before, "ACCEPTED");
      if (end === "resets") host.cuts();
      else host.socket.end();
      await host.gone;
    }
  }
  const listed = await hospital.operator("GET", `/messages?trackingId=half-${MARK}`);
  assert.equal(listed.body.items, []);
});

test("documents that are no page are counted and answered by nothing; the page behind them goes through", async () => {
  const strange = [
    "<amcomMessage/>",
    `<${MARK}/>`,
    `<amcomMessage><header><origin>hostile</origin></header><messageNotification/></amcomMessage>`,
    `<amcomMessage xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/></amcomMessage>`,
    `<amcomMessage><newMessage><newMessage/></newMessage></amcomMessage>`,
  ].join("\n");
  (await survives(strange)).cuts();
});

test("the first page's origin says whose a connection is: another's is FAILED, and hears nothing meant for the first", async () => {
  const host = await connect();
  const first = host.sends({ destination });
  await host.awaits(first, "ENROUTE");
  const other = host.sends({ destination, origin: "second" });
  assert.match((await host.awaits(other, "FAILED")).reason ?? "", /contradicts/);
  host.cuts();
  const second = await connect("second");
  await second.awaits(second.sends({ destination }), "ENROUTE");
  assert.equal([second.statuses(first), second.statuses(other)], [[], []]);
  second.cuts();
});

test("garbage of any kind never hurts another connection", async () => {
  const bits = fc.constantFrom(
    "<",
    ">",
    "</",
    "/>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?",
    "?>",
    "&",
    ";",
    "&#",
    '"',
    "'",
    "=",
    "\u0000",
    "\ufeff",
    "<amcomMessage>",
    "<newMessage>",
    "</newMessage>",
    "</amcomMessage>",
    "<!DOCTYPE",
    "<origin>hostile</origin>",
    "xml",
    "\ud83d\ude00",
  );
  const garbage = fc.oneof(
    fc.array(bits, { maxLength: 60 }).map((parts) => Buffer.from(parts.join(""))),
    fc.array(bits, { maxLength: 60 }).map((parts) => Buffer.from(parts.join(""), "utf16le")),
    fc.uint8Array({ maxLength: 3_000 }).map((bytes) => Buffer.from(bytes)),
    fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 20 })).map(([at, bytes]) => {
      const whole = encodePage(page());
      Buffer.from(bytes).copy(whole, at % whole.length);
      return whole;
    }),
  );
  await fc.assert(
    fc.asyncProperty(garbage, fc.integer({ min: 1, max: 5 }), async (bytes, pieces) => {
      const host = await connect();
      for (let piece = 0; piece < pieces; piece += 1) {
        host.writes(
          bytes.subarray(
            Math.floor((bytes.length * piece) / pieces),
            Math.floor((bytes.length * (piece + 1)) / pieces),
          ),
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
      host.cuts();
      await host.gone;
    }),
    { numRuns: 400 },
  );
  await othersGoOn();
  await connectionsAre(1);
});

test("a flood of documents that are no pages holds up nobody else, and fills no log", async () => {
  const before = { said: node.said().length, counted: await unanswerable() };
  const floods = await Promise.all([connect(), connect(), connect()]);
  const chunk = Buffer.from("<a/>".repeat(16_384));
  let flooding = true;
  for (const host of floods) {
    const pour = () => {
      while (flooding && host.writes(chunk));
    };
    host.socket.on("drain", pour);
    pour();
  }
  const until = performance.now() + 5_000;
  let others = 0;
  while (performance.now() < until) {
    await othersGoOn(2_000);
    others += 1;
  }
  flooding = false;
  for (const host of floods) host.cuts();
  const counted = (await unanswerable()) - before.counted;
  // What they left behind is read first.
  await connectionsAre(1, 30_000);
  console.log(`  ${others} pages of another host went through beside ${counted} documents of the flood`);
  assert.ok(counted > 1_000, "the flood was read");
  assert.ok(node.said().length - before.said < 20_000, `${node.said().length - before.said} characters of log`);
});

test("after all of it the node serves, and its log holds nothing of what was sent", async () => {
  await othersGoOn();
  assert.is((await fetch(`${node.run().url}/readyz`)).status, 200);
  const said = node.said();
  for (const secret of [MARK, "Grüße", "/etc/passwd"]) assert.is(said.includes(secret), false, secret);
  assert.not.match(said, /"level":50/);
});

async function connectionsAre(count: number, within = 5_000): Promise<void> {
  await eventually(
    `${count} connections are open`,
    async () => metric(await hospital.metrics(), 'tocsin_sockets{kind="mxpp"}') === count,
    within,
  );
}

async function unanswerable(): Promise<number> {
  return metric(await hospital.metrics(), 'tocsin_xml_faults_total{gateway="mxpp",class="unanswerable"}');
}

test.after(async () => {
  honest.cuts();
  await hospital.close();
});
test.run();
