/** Documents to pages: `gateways/mxpp/document.ts`. */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type MxppDocument, readDocument } from "../gateways/mxpp/document.ts";
import { makeFramer } from "../gateways/mxpp/framing.ts";

const SEED = readFileSync(new URL("./corpus/mxpp/seed-new-message.xml", import.meta.url), "utf8");

/** Through the framer, as every document comes. */
function read(xml: string): MxppDocument {
  const [event] = makeFramer().push(Buffer.from(xml));
  if (event?.kind !== "document") throw new Error(`not framed: ${JSON.stringify(event)}`);
  return readDocument(event.xml);
}

function pageIn(xml: string) {
  const document = read(xml);
  if (document.kind !== "newMessage") throw new Error(`no page: ${document.kind} ${document.reason}`);
  return document;
}

/** The seed's document with another value, or none, in an element. */
function withElement(name: string, markup: string): string {
  const replaced = SEED.replace(new RegExp(`<${name}( /|>[^<]*</${name})>`), () => markup);
  if (replaced === SEED) throw new Error(`the seed has no ${name}`);
  return replaced;
}
const withValue = (name: string, value: string) => withElement(name, `<${name}>${value}</${name}>`);

const ADDRESS = { origin: "LAB", trackingId: "T-1", systemId: "LAB", destination: "5551234" };

function refusal(xml: string): string {
  const document = read(xml);
  return document.kind === "refused" ? document.reason : document.kind;
}

test("the seed's document is a page with every field", () => {
  assert.equal(read(SEED), {
    kind: "newMessage",
    page: {
      ...ADDRESS,
      deviceId: "0b9d7a52-6d7c-4b0e-9d0e-0c5a1d3c7f11",
      conversationId: "C-9",
      siteId: "S-1",
      fromId: "-4711",
      fromName: "Nurse Joy",
      messageType: "ALERT",
      priority: "1",
      sentAt: Date.UTC(2026, 2, 1, 7, 5, 9, 123),
      sentAtText: "2026-03-01T07:05:09.123Z",
      timeoutDeviceSeconds: 120,
      timeoutUserSeconds: 300,
      controls: {
        beepCode: "2",
        messageVersion: "1",
        deviceType: "IOS",
        deviceBrand: "",
        deviceOS: "17.4",
        devicePort: "0",
        deviceCarrier: "",
      },
      outputGateway: "SPOK",
      text: "Code blue, ICU 4",
      responseChoices: [],
    },
    ignored: [],
  });
});

test("the least a page needs is an origin, a trackingId, a destination and a text", () => {
  const { page, ignored } = pageIn(
    "<amcomMessage><header><origin>LAB</origin></header><newMessage><conversationId><trackingId>T</trackingId></conversationId>" +
      "<recipient><destination>5</destination></recipient><messageBody><textMessage>x</textMessage></messageBody></newMessage></amcomMessage>",
  );
  assert.equal(page, {
    origin: "LAB",
    trackingId: "T",
    systemId: "LAB",
    deviceId: null,
    conversationId: "",
    siteId: "",
    fromId: "",
    fromName: "",
    messageType: "",
    priority: "",
    sentAt: null,
    sentAtText: "",
    timeoutDeviceSeconds: null,
    timeoutUserSeconds: null,
    controls: {},
    outputGateway: null,
    destination: "5",
    text: "x",
    responseChoices: [],
  });
  assert.equal(ignored, []);
});

const TEXTS: readonly (readonly [what: string, written: string, expected: string])[] = [
  ["leading and trailing white space", "  \n a \t ", "  \n a \t "],
  ["what looks like a number", "007.50", "007.50"],
  ["what looks like a truth value", "true", "true"],
  ["emoji, right-to-left and combining characters", "😀👩🏽‍⚕️ שלום e\u0301", "😀👩🏽‍⚕️ שלום e\u0301"],
  ["CDATA between text and comments, in order", "a<![CDATA[<b>&amp;]]>c<!-- d -->e<![CDATA[f]]>", "a<b>&amp;cef"],
  ["the five entities and numeric references", "&lt;&gt;&amp;&quot;&apos;&#65;&#x1F600;", "<>&\"'A😀"],
  ["a reference that spells another reference", "&amp;lt; &#38;amp;", "&lt; &amp;"],
  ["line ends as XML itself makes them", "a\r\nb\rc\n&#13;&#10;d", "a\nb\nc\n\r\nd"],
  ["text that JavaScript would replace with", "$1 $$ $'", "$1 $$ $'"],
];
for (const [what, written, expected] of TEXTS) {
  test(`a text keeps ${what}`, () => assert.is(pageIn(withValue("textMessage", written)).page.text, expected));
}

test("a text of 50,000 characters passes, whatever their size in bytes, and one more is refused by name", () => {
  for (const character of ["x", "é", "😀"]) {
    assert.is(pageIn(withValue("textMessage", character.repeat(50_000))).page.text, character.repeat(50_000));
    assert.is(
      refusal(withValue("textMessage", character.repeat(50_001))),
      "messageBody/textMessage is over 50000 characters",
    );
  }
});

const REFUSED: readonly (readonly [reason: string, xml: string])[] = [
  ["header/origin is missing or empty", withElement("origin", "")],
  ["header/origin is missing or empty", withValue("origin", " \n ")],
  ["conversationId/trackingId is missing or empty", withElement("trackingId", "<trackingId/>")],
  ["recipient/destination is missing or empty", withElement("destination", "")],
  ["messageBody/textMessage is missing or empty", withElement("textMessage", "")],
  ["messageBody/textMessage is missing or empty", withValue("textMessage", " \t\n<![CDATA[ ]]>&#160;")],
  ["messageBody/textMessage holds elements", withValue("textMessage", "Do <b>not</b> go")],
  ["messageControls/encryptionType is not 0", withValue("encryptionType", "1")],
  ["messageControls/encryptionType is not 0", withValue("encryptionType", "00")],
  ["messageControls/dateTime is not a date and time", withValue("dateTime", "yesterday")],
  ["messageControls/dateTime is not a date and time", withValue("dateTime", "2026-02-29T00:00:00")],
  ...["-1", "1.5", "604801", "9999999999", "1e2", "ten", "0x10"].flatMap((value): [string, string][] => [
    [
      "messageControls/timeoutDevice is not a whole number of seconds from 0 to 604800",
      withValue("timeoutDevice", value),
    ],
    ["messageControls/timeoutUser is not a whole number of seconds from 0 to 604800", withValue("timeoutUser", value)],
  ]),
  ...["trackingId", "systemId", "deviceId", "siteId"].map((name): [string, string] => [
    `conversationId/${name} is over 256 characters`,
    withValue(name, "x".repeat(257)),
  ]),
  ["from/id is over 256 characters", withValue("id", "x".repeat(257))],
  ["from/name is over 256 characters", withValue("name", "x".repeat(257))],
  ["recipient/destination is over 256 characters", withValue("destination", "5".repeat(257))],
  ...[
    "origin",
    "trackingId",
    "dateTime",
    "beepCode",
    "encryptionType",
    "destination",
    "outputGateway",
    "textMessage",
  ].map((name): [string, string] => [
    `${parentOf(name)}/${name} is given more than once`,
    withElement(name, `<${name}>0</${name}><${name}>0</${name}>`),
  ]),
  ...["header", "from", "conversationId", "messageControls", "recipient", "messageBody"].map(
    (name): [string, string] => [
      `${name === "header" ? "amcomMessage" : "newMessage"}/${name} is given more than once`,
      SEED.replace(`</${name}>`, `</${name}><${name}/>`),
    ],
  ),
  [
    "messageBody/responseChoices is given more than once",
    withElement("responseChoices", "<responseChoices/><responseChoices/>"),
  ],
  ["responseChoice is empty", choices(["Yes", ""])],
  ["responseChoice is empty", choices([" "])],
  ["responseChoice is over 200 characters", choices(["x".repeat(201)])],
  ["responseChoice holds elements", choices(["<b>Yes</b>"])],
  ["responseChoices holds over 32 responseChoice", choices(Array.from({ length: 33 }, String))],
];

function parentOf(name: string): string {
  const parents = { origin: "header", trackingId: "conversationId", textMessage: "messageBody" } as Record<
    string,
    string
  >;
  return parents[name] ?? (/^(destination|outputGateway)$/.test(name) ? "recipient" : "messageControls");
}

function choices(texts: readonly string[]): string {
  const inside = texts.map((text) => `<responseChoice>${text}</responseChoice>`).join("\n");
  return withElement("responseChoices", `<responseChoices>\n${inside}\n</responseChoices>`);
}

REFUSED.forEach(([reason, xml], at) => {
  test(`refused, and says why: ${reason} (${at})`, () => assert.is(refusal(xml), reason));
});

test("a refusal says who must hear it, with what the host sent", () => {
  assert.equal(read(withValue("encryptionType", "2")), {
    kind: "refused",
    reason: "messageControls/encryptionType is not 0",
    ...ADDRESS,
    others: [],
  });
  const unnamed = read(withElement("systemId", "<systemId> </systemId>").replace("Code blue", "<b/>"));
  assert.is(unnamed.kind === "refused" ? unnamed.systemId : unnamed.kind, "LAB");
  const blank = read(withElement("trackingId", ""));
  assert.is(blank.kind === "refused" ? blank.trackingId : blank.kind, "");
  const long = read(withValue("trackingId", "😀".repeat(300)));
  assert.is(long.kind === "refused" ? long.trackingId : long.kind, "😀".repeat(256));
});

test("of two newMessages neither is taken and both must hear so", () => {
  const second =
    "<newMessage><conversationId><trackingId>T-2</trackingId><systemId>X</systemId></conversationId>" +
    "<recipient><destination>7</destination></recipient></newMessage>";
  assert.equal(read(SEED.replace("</newMessage>", `</newMessage>${second}<newMessage/>`)), {
    kind: "refused",
    reason: "newMessage is given more than once",
    ...ADDRESS,
    others: [{ origin: "LAB", trackingId: "T-2", systemId: "X", destination: "7" }],
  });
});

const UNANSWERABLE: readonly (readonly [reason: string, xml: string])[] = [
  ["the root is not amcomMessage", "<html/>"],
  ["the root is not amcomMessage", "<AmcomMessage/>"],
  ["the root is not amcomMessage", "<x:amcomMessage/>"],
  ["there is no newMessage", "<amcomMessage/>"],
  ["there is no newMessage", "<amcomMessage><header><origin>LAB</origin></header></amcomMessage>"],
  ["origin is missing or empty", "<amcomMessage><newMessage/></amcomMessage>"],
  ["newMessage is given more than once", "<amcomMessage><newMessage/><newMessage/></amcomMessage>"],
];
for (const [reason, xml] of UNANSWERABLE) {
  test(`nobody could be told about ${xml}`, () => assert.equal(read(xml), { kind: "unanswerable", reason }));
}

test("what is no document at all is unanswerable and nothing is thrown", () => {
  for (const xml of ["", "text", "<", "<a", "<a><b></a>", "<![CDATA["])
    assert.is(readDocument(xml).kind, "unanswerable");
});

test("two roots are no document, though each could be", () => {
  assert.equal(readDocument(`${SEED}${SEED}`), { kind: "unanswerable", reason: "the document has no root element" });
});

test("unknown elements are ignored and named, at most 20 of them, each once, and never with their text", () => {
  const unknown = "<header2>secret</header2><header2/><from><id/></from>";
  const { ignored, page } = pageIn(SEED.replace("</header>", `<zone>secret</zone></header>${unknown}`));
  assert.equal(ignored, ["header2", "from", "zone"]);
  assert.is(page.text, "Code blue, ICU 4");
  const many = Array.from({ length: 30 }, (_, n) => `<u${n}/>`).join("");
  assert.is(pageIn(SEED.replace("</header>", `</header>${many}`)).ignored.length, 20);
});

test("text between elements is ignored and counted", () => {
  assert.equal(pageIn(SEED.replace("<newMessage>", "<newMessage>stray")).ignored, ["#text"]);
  assert.equal(pageIn(withElement("responseChoices", "<responseChoices>Yes, No</responseChoices>")).ignored, ["#text"]);
});

test("an unknown control is kept as sent; one that is repeated, too long or not plain is ignored", () => {
  const extra =
    "<ringTone> 7 </ringTone><a>1</a><a>2</a><b><c/></b><__proto__>p</__proto__><constructor>c</constructor>";
  const long = `<d>${"x".repeat(257)}</d>`;
  const { page, ignored } = pageIn(SEED.replace("<beepCode>", `${extra}${long}<beepCode>`));
  assert.is(page.controls.ringTone, " 7 ");
  assert.is(page.controls.constructor, "c");
  assert.ok(Object.hasOwn(page.controls, "__proto__"));
  assert.equal(ignored, ["a", "b", "d"]);
  const many = Array.from({ length: 40 }, (_, n) => `<u${n}/>`).join("");
  assert.is(Object.keys(pageIn(SEED.replace("<beepCode>", `${many}<beepCode>`)).page.controls).length, 32);
});

test("response choices are kept as sent and in order", () => {
  const texts = Array.from({ length: 32 }, (_, n) =>
    n === 0 ? " On my way " : n === 1 ? "😀".repeat(200) : `${n} &amp; on`,
  );
  assert.equal(
    pageIn(choices(texts)).page.responseChoices,
    texts.map((text) => text.replace("&amp;", "&")),
  );
});

test("empty elements are as absent ones", () => {
  const { page } = pageIn(
    ["systemId", "deviceId", "dateTime", "timeoutDevice", "timeoutUser", "encryptionType", "outputGateway"].reduce(
      (xml, name) => xml.replace(new RegExp(`<${name}>[^<]*</${name}>`), `<${name}> </${name}>`),
      SEED,
    ),
  );
  assert.is(page.systemId, "LAB");
  assert.equal(
    [page.deviceId, page.sentAt, page.timeoutDeviceSeconds, page.timeoutUserSeconds, page.outputGateway],
    [null, null, null, null, null],
  );
});

test("timeouts from nothing to a week are read", () => {
  assert.is(pageIn(withValue("timeoutDevice", "0")).page.timeoutDeviceSeconds, 0);
  assert.is(pageIn(withValue("timeoutUser", " 604800\n")).page.timeoutUserSeconds, 604_800);
});

test("white space around a date is no part of it, and is kept as sent beside it", () => {
  const { page } = pageIn(withValue("dateTime", "\n 2026-03-01T07:05:09Z "));
  assert.is(page.sentAt, AT);
  assert.is(page.sentAtText, "\n 2026-03-01T07:05:09Z ");
});

test("attributes mean nothing", () => {
  const { page } = pageIn(SEED.replace("<amcomMessage>", '<amcomMessage xmlns="urn:x" trackingId="Z">'));
  assert.is(page.trackingId, "T-1");
});

const AT = Date.UTC(2026, 2, 1, 7, 5, 9);
test.run();
