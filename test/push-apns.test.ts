import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Fault } from "../gateways/emulator/faults.ts";
import type { PushOutcome } from "../gateways/push/provider.ts";
import { countingSockets, push, pushClients, refused, retry } from "./helpers/push-clients.ts";
import { openRelay } from "./helpers/relay.ts";

const test = suite("push client of APNs");
const clients = await pushClients();
const { emulator, apns, script } = clients;
test.after.each(clients.forget);
test.after(emulator.close);

test("an Apple push arrives as an alert under its own id", async () => {
  const sent = push();
  assert.equal(await apns().send(sent), { kind: "accepted", providerId: sent.id.toUpperCase() });
  const [got] = await emulator.pushes();
  const { "apns-expiration": expiration, ...headers } = got?.headers ?? {};
  assert.is(expiration, String(Math.floor(Number(expiration))));
  assert.ok(Math.abs(Number(expiration) * 1000 - sent.expiresAt) < 2000);
  assert.equal(headers, {
    "apns-id": sent.id,
    "apns-topic": "org.tocsin.phone",
    "apns-push-type": "alert",
    "apns-priority": "10",
    "apns-collapse-id": "AMC",
  });
  assert.is((got?.payload.aps as { alert: string } | undefined)?.alert, "New page");
});

test("a silent Apple push passes as a background one", async () => {
  assert.is((await apns({}, { silent: true }).send(push())).kind, "accepted");
  const [got] = await emulator.pushes();
  assert.is(got?.headers["apns-push-type"], "background");
  assert.is(got?.headers["apns-priority"], "5");
  assert.equal(got?.payload, { aps: { "content-available": 1 }, DeviceRequestType: "GetMessages" });
});

const OURS =
  `BadCollapseId BadExpirationDate BadMessageId BadPriority BadTopic DeviceTokenNotForTopic DuplicateHeaders InvalidPushType
  MissingDeviceToken MissingTopic PayloadEmpty TopicDisallowed BadCertificate BadCertificateEnvironment Forbidden InvalidProviderToken
  MissingProviderToken UnrelatedKeyIdInToken BadEnvironmentKeyInToken BadPath MethodNotAllowed PayloadTooLarge`.split(
    /\s+/,
  );
const APNS_ROWS: readonly (readonly [Partial<Fault>, PushOutcome])[] = [
  ...OURS.map((reason) => [{ reason }, refused(reason)] as const),
  [{ reason: "BadDeviceToken" }, { kind: "token-dead", since: null, code: "BadDeviceToken" }],
  [
    { reason: "Unregistered", timestamp: 1_700_000_000_123 },
    { kind: "token-dead", since: 1_700_000_000_123, code: "Unregistered" },
  ],
  [
    { reason: "ExpiredToken", timestamp: 1_700_000_000_456 },
    { kind: "token-dead", since: 1_700_000_000_456, code: "ExpiredToken" },
  ],
  [{ reason: "IdleTimeout" }, retry("IdleTimeout")],
  [{ reason: "TooManyRequests", retryAfter: 7 }, retry("TooManyRequests", 7000)],
  [{ reason: "TooManyRequests" }, retry("TooManyRequests")],
  [{ reason: "TooManyProviderTokenUpdates" }, retry("TooManyProviderTokenUpdates")],
  [{ reason: "InternalServerError" }, retry("InternalServerError")],
  [{ reason: "ServiceUnavailable", retryAfter: 30 }, retry("ServiceUnavailable", 30_000)],
  [{ reason: "Shutdown" }, retry("Shutdown")],
  [{ status: 502 }, retry("http-502")],
  [{ status: 400 }, refused("http-400")],
];

test("every answer of APNs has its outcome, and the library retries none of them", async () => {
  const provider = apns();
  assert.is((await provider.send(push())).kind, "accepted");
  for (const [fault, outcome] of APNS_ROWS) {
    await script({ provider: "APNS", ...fault });
    assert.equal(await provider.send(push()), outcome, JSON.stringify(fault));
    assert.is((await emulator.faults()).length, 0);
  }
  assert.is((await emulator.pushes()).length, 1);
});

test("no device loses its token to BadDeviceToken before this connection has ever delivered", async () => {
  await script({ provider: "APNS", reason: "BadDeviceToken" });
  assert.equal(await apns().send(push()), refused("BadDeviceToken"));
});

test("an expired provider token is renewed and the push sent once more", async () => {
  const provider = apns();
  await script({ provider: "APNS", reason: "ExpiredProviderToken" });
  assert.is((await provider.send(push())).kind, "accepted");
  await script({ provider: "APNS", reason: "ExpiredProviderToken", times: 2 });
  assert.equal(await provider.send(push()), refused("ExpiredProviderToken"));
  assert.is((await emulator.faults()).length, 0);
});

test("a GOAWAY with the push in flight is a retry, and the next push connects anew", async () => {
  const provider = apns();
  assert.is((await provider.send(push())).kind, "accepted");
  await script({ provider: "APNS", action: "goaway" });
  assert.equal(await provider.send(push()), retry("connection-broken"));
  const count = await countingSockets(async () => {
    assert.is((await provider.send(push())).kind, "accepted");
  });
  assert.is(count, 1);
});

test("a slow push on a live Apple connection does not cost the others their connection", async () => {
  const provider = apns({ deadlineMs: 2_000 });
  await script({ provider: "APNS", action: "silent", token: "slow" });
  const slow = provider.send(push({ notificationAddress: "slow" }));
  await sleep(100);
  const count = await countingSockets(async () => {
    assert.is((await provider.send(push())).kind, "accepted");
    assert.equal(await slow, retry("no-answer"));
    assert.is((await provider.send(push())).kind, "accepted");
  });
  assert.is(count, 0);
});

test("an idle connection that died unnoticed is found before the deadline", async () => {
  const relay = await openRelay(Number(new URL(emulator.address.apnsUrl).port));
  const provider = apns({ deadlineMs: 20_000, idleMs: 50, pingMs: 1_000 }, { url: relay.url });
  assert.is((await provider.send(push())).kind, "accepted");
  await sleep(100);
  relay.freeze(true);
  assert.equal(await provider.send(push()), retry("connection-broken"));
  relay.freeze(false);
  assert.is((await provider.send(push())).kind, "accepted");
  await sleep(100);
  const count = await countingSockets(async () => {
    assert.is((await provider.send(push())).kind, "accepted");
    await sleep(1_200);
    assert.is((await provider.send(push())).kind, "accepted");
  });
  assert.is(count, 0, "a live connection that answers the ping is kept");
  await relay.close();
});

test("a connection that answered the ping is kept though its push was not answered", async () => {
  const provider = apns({ deadlineMs: 2_000, idleMs: 50 });
  assert.is((await provider.send(push())).kind, "accepted");
  await sleep(100);
  await script({ provider: "APNS", action: "silent" });
  const count = await countingSockets(async () => {
    assert.equal(await provider.send(push()), retry("no-answer"));
    assert.is((await provider.send(push())).kind, "accepted");
  });
  assert.is(count, 0);
});

test("a wrong topic or key is refused with an alarm", async () => {
  assert.equal(await apns({}, { topic: "org.other.app" }).send(push()), refused("TopicDisallowed"));
  assert.equal(await apns({}, { keyId: "OTHERKEY01" }).send(push()), refused("InvalidProviderToken"));
});

test.run();
