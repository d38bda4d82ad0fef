import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type NotificationId, PRIORITIES } from "../domain.ts";
import { androidMessage, appleNotification } from "../gateways/push/payload.ts";
import type { Push } from "../gateways/push/provider.ts";

const NOW = 1_790_000_000_000;
const PUSH: Push = {
  id: "0b5c2f0e-5b0f-4b8e-9d43-4a8f6f0f7f11" as NotificationId,
  gatewayType: "GCM",
  notificationAddress: "device-1",
  urls: ["https://a.example", "https://b.example"],
  messageCount: 2,
  priority: "medium",
  coreVersion: "4.2",
  expiresAt: NOW + 3_600_000,
};

const pushes = fc.record<Push>({
  id: fc.uuid() as fc.Arbitrary<NotificationId>,
  gatewayType: fc.constantFrom("GCM", "APNS"),
  notificationAddress: fc.string({ minLength: 1 }),
  urls: fc.array(fc.webUrl(), { maxLength: 3 }),
  messageCount: fc.nat(1000),
  priority: fc.constantFrom(...PRIORITIES),
  coreVersion: fc.string(),
  expiresAt: fc.integer({ min: NOW - 1e9, max: NOW + 1e12 }),
});

test("an Android push carries the seed's message to the letter", () => {
  assert.equal(androidMessage(PUSH, NOW), {
    token: "device-1",
    data: {
      message:
        '{"ClientMessagingUrls":["https://a.example","https://b.example"],"CoreVersion":"4.2","MessageCount":2,"Priority":2}',
      time: "1790000000000",
    },
    android: { collapseKey: "AMC", ttl: 3_600_000, priority: "high" },
  });
});

test("an Apple push is a generic alert and a wake-up", () => {
  const common = { collapseId: "AMC", expiration: 1_790_003_600 };
  assert.equal(appleNotification(PUSH, NOW, false), {
    ...common,
    pushType: "alert",
    priority: 10,
    payload: {
      aps: { "content-available": 1, alert: "2 new pages", sound: "default", "interruption-level": "time-sensitive" },
      DeviceRequestType: "GetMessages",
    },
  });
  assert.is(appleNotification({ ...PUSH, messageCount: 1 }, NOW, false).payload.aps.alert, "New page");
});

test("a push without a page rings on no phone: silent for Apple, of ordinary priority and with MessageCount 0 for Google", () => {
  const none = { ...PUSH, messageCount: 0 };
  assert.equal(appleNotification(none, NOW, false), appleNotification(PUSH, NOW, true));
  const { data, android } = androidMessage(none, NOW);
  assert.is(JSON.parse(data!.message!).MessageCount, 0);
  assert.is(android!.priority, "normal");
});

test("a silent Apple push is the seed's, with the type and priority Apple asks for", () => {
  assert.equal(appleNotification(PUSH, NOW, true), {
    collapseId: "AMC",
    expiration: 1_790_003_600,
    pushType: "background",
    priority: 5,
    payload: { aps: { "content-available": 1 }, DeviceRequestType: "GetMessages" },
  });
});

test("no push outlives three days or its page, and none has a negative life", () => {
  fc.assert(
    fc.property(pushes, fc.boolean(), (push, silent) => {
      const left_s = (push.expiresAt - NOW) / 1000;
      const ttl_s = Number(androidMessage(push, NOW).android?.ttl) / 1000;
      assert.ok(Number.isInteger(ttl_s) && ttl_s >= 0 && ttl_s <= 259_200 && ttl_s <= Math.max(0, left_s));
      assert.ok(left_s < 1 || ttl_s >= Math.min(259_200, left_s - 1));
      const { expiration } = appleNotification(push, NOW, silent);
      assert.is(expiration, ttl_s === 0 ? 0 : NOW / 1000 + ttl_s);
    }),
  );
});

test("nothing but the wake-up's own fields reaches a push, whatever else its object holds", () => {
  fc.assert(
    fc.property(pushes, fc.boolean(), (push, silent) => {
      const laden = { ...push, text: "CODE BLUE room 7", name: "Meredith Grey" };
      const sent = JSON.stringify([androidMessage(laden, NOW), appleNotification(laden, NOW, silent)]);
      assert.not.match(sent, /CODE BLUE|Meredith/);
      assert.not.match(JSON.stringify(appleNotification(laden, NOW, silent).payload), /https?:/);
    }),
  );
});

test.run();
