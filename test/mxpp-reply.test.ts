/** What a host hears of a reply: `gateways/mxpp/reply.ts`, read back by our own reader and by another's. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { ReplyId } from "../domain.ts";
import { readDocument } from "../gateways/mxpp/document.ts";
import { makeFramer } from "../gateways/mxpp/framing.ts";
import type { NewMessage } from "../gateways/mxpp/new-message.ts";
import { readNotification } from "../gateways/mxpp/notification.ts";
import { type Reply, renderReply } from "../gateways/mxpp/reply.ts";
import { faultOf } from "../persistence/replies.ts";
import { saxesTree } from "./helpers/mxpp.ts";

type Told = Parameters<typeof renderReply>[0];
const REPLY: Told = {
  kind: "reply",
  status: "REPLY",
  replyId: "r" as ReplyId,
  at: Date.UTC(2026, 2, 1, 7, 5, 9, 123),
  origin: "LAB",
  source: "5551234",
  trackingId: "T-1",
  systemId: "LAB",
  reply: {
    text: "On my way",
    destination: "555-1234",
    name: "Dr Ng",
    toId: "-4711",
    deviceId: "0b9d7a52-6d7c-4b0e-9d0e-0c5a1d3c7f11",
    conversationId: "C-9",
    siteId: "S-1",
    priority: "high",
  },
};
const PLAIN = { encoding: "utf-8", priorities: null } as const;
const saying = (words: Partial<Reply["reply"]>): Told => ({ ...REPLY, reply: { ...REPLY.reply, ...words } });

function framed(bytes: Uint8Array): string {
  const [event, ...more] = makeFramer().push(bytes);
  if (event?.kind !== "document" || more.length > 0) throw new Error(`not one document: ${JSON.stringify(event)}`);
  return event.xml;
}
function read(bytes: Uint8Array): NewMessage {
  const document = readDocument(framed(bytes));
  if (document.kind !== "newMessage") throw new Error(document.reason);
  assert.equal(document.ignored, []);
  return document.page;
}

test("a reply has every field of the seed's newMessage, in its order", () => {
  assert.is(
    renderReply(REPLY, PLAIN).toString("utf8"),
    `<?xml version="1.0" encoding="utf-8" standalone="no"?>
<amcomMessage>
    <header>
        <origin>LAB</origin>
    </header>
    <newMessage>
        <from>
            <id>555-1234</id>
            <name>Dr Ng</name>
        </from>
        <conversationId>
            <trackingId>T-1</trackingId>
            <systemId>LAB</systemId>
            <deviceId>0b9d7a52-6d7c-4b0e-9d0e-0c5a1d3c7f11</deviceId>
            <id>C-9</id>
            <siteId>S-1</siteId>
        </conversationId>
        <messageControls>
            <messageType>Reply</messageType>
            <priority>high</priority>
            <dateTime>2026-03-01T07:05:09.123Z</dateTime>
            <beepCode />
            <messageVersion>1</messageVersion>
            <timeoutDevice>0</timeoutDevice>
            <timeoutUser>0</timeoutUser>
            <deviceType />
            <deviceBrand />
            <deviceOS />
            <devicePort />
            <deviceCarrier />
            <encryptionType>0</encryptionType>
        </messageControls>
        <recipient>
            <outputGateway />
            <destination>-4711</destination>
        </recipient>
        <messageBody>
            <textMessage>On my way</textMessage>
            <responseChoices />
        </messageBody>
    </newMessage>
</amcomMessage>`,
  );
});

for (const [what, words, priorities, field, expected] of [
  ["a priority on the host system's own scale", {}, { 1: "low", 999: "high" }, "priority", "999"],
  ["the word where its scale has none", { priority: "medium" }, { 1: "low", 999: "high" }, "priority", "medium"],
  ["the host system where nobody said who he is", { toId: "" }, null, "destination", "LAB"],
  ["the host system where that was blank", { toId: " \n" }, null, "destination", "LAB"],
  ["who it is for, blanks and all", { toId: " -4711 " }, null, "destination", " -4711 "],
  ["no device where the page named none", { deviceId: null }, null, "deviceId", null],
] as const) {
  test(`a reply says ${what}`, () => {
    assert.is(read(renderReply(saying(words), { encoding: "utf-8", priorities }))[field], expected);
  });
}

test("in each encoding it is the same document, declared and written as notifications are", () => {
  const plain = renderReply(REPLY, PLAIN).toString("utf8");
  const labelled = plain.replace('encoding="utf-8"', 'encoding="utf-16"');
  assert.is(renderReply(REPLY, { ...PLAIN, encoding: "utf-16-label" }).toString("utf8"), labelled);
  const real = renderReply(REPLY, { ...PLAIN, encoding: "utf-16" });
  assert.equal([...real.subarray(0, 4)], [0xff, 0xfe, 0x3c, 0x00]);
  assert.is(real.subarray(2).toString("utf16le"), labelled);
});

/** Whatever may be said, and much that looks like markup, or like an end. */
const aText = fc
  .string({
    unit: fc.oneof(
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
      fc.constantFrom(..."<>&'\"\r\n\t😀\u202E\u0085\u2028"),
      fc.constantFrom(
        "]]>",
        "<![CDATA[",
        "</textMessage>",
        "</amcomMessage>",
        "<!DOCTYPE x>",
        "&#0;",
        "<!--",
        "-->",
        "<?xml?>",
      ),
    ),
    minLength: 1,
    maxLength: 40,
  })
  .filter((text) => faultOf({ text }) === null);

test("whatever a person replies, in whatever conversation, both readers find it as it was written", () => {
  const encodings = fc.constantFrom("utf-8", "utf-16", "utf-16-label");
  const words = fc.record({
    text: aText,
    name: aText,
    toId: aText,
    conversationId: aText,
    siteId: aText,
    destination: aText,
  });
  fc.assert(
    fc.property(words, encodings, (said, encoding) => {
      const bytes = renderReply(saying(said), { ...PLAIN, encoding });
      const { text, fromName, destination, conversationId, siteId, fromId } = read(bytes);
      assert.equal(
        { text, name: fromName, toId: destination, conversationId, siteId, destination: fromId },
        { ...said },
      );
      const xml = framed(bytes);
      assert.is(readNotification(xml), null);
      const other = JSON.stringify(saxesTree(xml));
      assert.ok(other.includes(JSON.stringify(said.text)), other);
    }),
    { numRuns: 500 },
  );
});

test.run();
