/** What Tocsin writes over MXPP, and that it is read back: `gateways/mxpp/notification.ts` and `new-message.ts`. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { StatusText } from "../domain.ts";
import { readDocument } from "../gateways/mxpp/document.ts";
import { makeFramer } from "../gateways/mxpp/framing.ts";
import { type NewMessage, renderNewMessage } from "../gateways/mxpp/new-message.ts";
import { type Notification, readNotification, renderNotification } from "../gateways/mxpp/notification.ts";

const seed = (name: string) => readFileSync(new URL(`./corpus/mxpp/seed-${name}.xml`, import.meta.url), "utf8");

const AT = Date.UTC(2026, 2, 1, 7, 5, 9, 123);
const ACCEPTED: Notification = {
  origin: "LAB",
  source: "5551234",
  trackingId: "T-1",
  systemId: "LAB",
  at: AT,
  status: "ACCEPTED",
  reason: null,
};
const STATUSES: readonly StatusText[] = [
  ...(["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"] as const),
  ...(["ACKNOWLEDGED", "IGNORED", "FAILED"] as const),
];

function framed(bytes: Uint8Array): string {
  const [event, ...more] = makeFramer().push(bytes);
  if (event?.kind !== "document" || more.length > 0) throw new Error(`not one document: ${JSON.stringify(event)}`);
  return event.xml;
}

test("each of the seed's notifications is written to the letter", () => {
  for (const status of ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"] as const) {
    const written = renderNotification({ ...ACCEPTED, status }, "utf-16-label").toString("utf8");
    assert.is(written, seed(status.toLowerCase()));
  }
});

test("real UTF-16 is the same document, little-endian behind a byte-order mark", () => {
  const bytes = renderNotification(ACCEPTED, "utf-16");
  assert.equal([...bytes.subarray(0, 4)], [0xff, 0xfe, 0x3c, 0x00]);
  assert.is(bytes.subarray(2).toString("utf16le"), seed("accepted"));
});

test("UTF-8 declares itself and nothing else changes", () => {
  const bytes = renderNotification(ACCEPTED, "utf-8");
  assert.is(bytes.toString("utf8"), seed("accepted").replace('encoding="utf-16"', 'encoding="utf-8"'));
});

test("the reason is one more element after statusText, and absent when there is none to tell", () => {
  const failed = renderNotification({ ...ACCEPTED, status: "FAILED", reason: "no device" }, "utf-16-label").toString();
  const expected = seed("accepted").replace(
    "<statusText>ACCEPTED</statusText>",
    "<statusText>FAILED</statusText>\n            <statusReason>no device</statusReason>",
  );
  assert.is(failed, expected);
  assert.not.match(renderNotification({ ...ACCEPTED, status: "FAILED" }, "utf-8").toString(), "statusReason");
});

/** Every string JavaScript can hold: controls, lone surrogates, markup. */
const anyString = fc.string({
  unit: fc.oneof(
    fc.nat({ max: 0xffff }).map((u) => String.fromCharCode(u)),
    fc.constantFrom(..."<>&'\"]]>\r\n\t😀"),
  ),
  maxLength: 20,
});
/** What remains of it in XML. */
const asXml = (text: string) =>
  text.toWellFormed().replace(/[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "\uFFFD");

test("whatever a notification says is framed and read back, in every encoding; what XML cannot hold becomes U+FFFD", () => {
  const notification = fc.record({
    origin: anyString,
    source: anyString,
    trackingId: anyString,
    systemId: anyString,
    at: fc.integer({ min: 0, max: 4e12 }),
    status: fc.constantFrom(...STATUSES),
    reason: fc.option(anyString),
  });
  fc.assert(
    fc.property(notification, fc.constantFrom("utf-8", "utf-16", "utf-16-label"), (sent, encoding) => {
      assert.equal(readNotification(framed(renderNotification(sent, encoding))), {
        ...sent,
        origin: asXml(sent.origin),
        source: asXml(sent.source),
        trackingId: asXml(sent.trackingId),
        systemId: asXml(sent.systemId),
        reason: sent.reason === null ? null : asXml(sent.reason),
      });
    }),
    { numRuns: 500 },
  );
});

test("notifications written one after another in any encodings are framed apart", () => {
  const bytes = Buffer.concat([
    renderNotification(ACCEPTED, "utf-8"),
    renderNotification({ ...ACCEPTED, status: "QUEUED" }, "utf-16"),
    renderNotification({ ...ACCEPTED, status: "ENROUTE" }, "utf-16-label"),
    renderNotification({ ...ACCEPTED, status: "DELIVERED" }, "utf-16"),
  ]);
  const read = makeFramer()
    .push(bytes)
    .map((event) => (event.kind === "document" ? readNotification(event.xml)?.status : event.kind));
  assert.equal(read, ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
});

test("what is no notification is none", () => {
  const good = seed("accepted");
  for (const xml of [
    seed("new-message"),
    good.replaceAll("amcomMessage", "other"),
    good.replace("ACCEPTED", "PERHAPS"),
    good.replace("2026", "soon"),
    good.replace("</status>", "</status><status/>"),
  ]) {
    assert.is(readNotification(framed(Buffer.from(xml))), null);
  }
});

const SEED_PAGE: NewMessage = {
  origin: "LAB",
  trackingId: "T-1",
  systemId: "LAB",
  deviceId: "0b9d7a52-6d7c-4b0e-9d0e-0c5a1d3c7f11",
  conversationId: "C-9",
  siteId: "S-1",
  fromId: "-4711",
  fromName: "Nurse Joy",
  messageType: "ALERT",
  priority: "1",
  sentAt: AT,
  sentAtText: "2026-03-01T07:05:09.123Z",
  timeoutDeviceSeconds: 120,
  timeoutUserSeconds: 300,
  controls: {
    deviceType: "IOS",
    beepCode: "2",
    messageVersion: "1",
    deviceBrand: "",
    deviceOS: "17.4",
    devicePort: "0",
    deviceCarrier: "",
  },
  outputGateway: "SPOK",
  destination: "5551234",
  text: "Code blue, ICU 4",
  responseChoices: [],
};

test("a page is written as the seed's, to the letter", () => {
  assert.is(renderNewMessage(SEED_PAGE), seed("new-message"));
});

test("a page of the least is read back with the moment it was sent", () => {
  const least = { origin: "LAB", trackingId: "T-1", destination: "5551234", text: "x", sentAt: AT };
  const read = readDocument(framed(Buffer.from(renderNewMessage(least))));
  if (read.kind !== "newMessage") return assert.unreachable(read.reason);
  assert.is(read.page.sentAt, AT);
  assert.is(read.page.systemId, "LAB");
  assert.is(read.page.timeoutDeviceSeconds, null);
  assert.equal(read.page.controls, {});
});

test("whatever a page says is framed and read back", () => {
  const said = anyString.map((text) => asXml(text));
  const needed = said.map((text) => `${text}x`);
  const orNull = said.map((text) => (text.trim() === "" ? null : text));
  const seconds = fc.option(fc.nat({ max: 604_800 }));
  const page = fc
    .record({
      origin: needed,
      trackingId: needed,
      systemId: needed,
      deviceId: orNull,
      conversationId: said,
      siteId: said,
      fromId: said,
      fromName: said,
      messageType: said,
      priority: said,
      sentAt: fc.option(fc.integer({ min: 0, max: 4e12 })),
      timeoutDeviceSeconds: seconds,
      timeoutUserSeconds: seconds,
      controls: fc.dictionary(fc.constantFrom("beepCode", "deviceOS", "ringTone", "x-y.z"), said, {
        noNullPrototype: true,
      }),
      outputGateway: orNull,
      destination: needed,
      text: needed,
      responseChoices: fc.array(needed, { maxLength: 4 }),
    })
    .map(
      (fields): NewMessage => ({
        ...fields,
        sentAtText: fields.sentAt === null ? "" : new Date(fields.sentAt).toISOString(),
      }),
    );
  fc.assert(
    fc.property(page, (sent) => {
      assert.equal(readDocument(framed(Buffer.from(renderNewMessage(sent)))), {
        kind: "newMessage",
        page: sent,
        ignored: [],
      });
    }),
    { numRuns: 500 },
  );
});

test.run();
