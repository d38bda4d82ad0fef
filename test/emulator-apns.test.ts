import { generateKeyPairSync } from "node:crypto";
import type { OutgoingHttpHeaders } from "node:http2";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { apnsProvider, NOTE } from "./helpers/apns-provider.ts";
import { startEmulator } from "./helpers/emulator.ts";
import { now_s } from "./helpers/jwt.ts";

const test = suite("push emulator: APNs");
const emulator = await startEmulator();
const { providerToken, send } = await apnsProvider(emulator);
test.before.each(emulator.forgets);
test.after(emulator.close);

test("APNs takes a sound push, keeps its id and gives one to a push without", async () => {
  const id = "0B5C2F0E-5B0F-4B8E-9D43-4A8F6F0F7F11";
  assert.equal(await send({ "apns-id": id.toLowerCase() }), { status: 200, id, reason: null });
  assert.match((await send()).id, /^[0-9A-F-]{36}$/);
  const [first] = await emulator.pushes();
  assert.equal(first?.payload, JSON.parse(NOTE));
  assert.not.match(JSON.stringify(await emulator.pushes()), /bearer/i);
});

const APPLE_REFUSALS: readonly (readonly [string, number, OutgoingHttpHeaders, string?])[] = [
  ["BadPath", 404, { ":path": "/3/devices/device-1" }],
  ["MethodNotAllowed", 405, { ":method": "PUT" }],
  ["MissingDeviceToken", 400, { ":path": "/3/device/" }],
  ["MissingProviderToken", 403, { authorization: undefined }],
  ["MissingProviderToken", 403, { authorization: "basic abc" }],
  ["MissingTopic", 400, { "apns-topic": undefined }],
  ["TopicDisallowed", 400, { "apns-topic": "org.other.app" }],
  ["InvalidPushType", 400, { "apns-push-type": "loud" }],
  ["BadPriority", 400, { "apns-priority": "7" }],
  ["BadPriority", 400, { "apns-push-type": "background", "apns-priority": "10" }],
  ["BadPriority", 400, { "apns-push-type": "background", "apns-priority": undefined }],
  ["BadMessageId", 400, { "apns-id": "17" }],
  ["BadCollapseId", 400, { "apns-collapse-id": "x".repeat(65) }],
  ["BadExpirationDate", 400, { "apns-expiration": "tomorrow" }],
  ["PayloadEmpty", 400, {}, ""],
  ["PayloadEmpty", 400, {}, "{not json"],
  ["PayloadEmpty", 400, {}, '{"alert":"no aps"}'],
  ["PayloadTooLarge", 413, {}, JSON.stringify({ aps: { alert: "x".repeat(4096) } })],
];

test("APNs refuses what Apple would, in Apple's words, and records none of it", async () => {
  for (const [reason, status, change, body] of APPLE_REFUSALS) {
    const answer = await send(change, body);
    assert.equal([answer.status, answer.reason], [status, reason], JSON.stringify(change));
  }
  assert.is((await emulator.pushes()).length, 0);
});

test("APNs takes exactly 4096 bytes, a 64-byte collapse id and a background push at priority 5", async () => {
  const frame = JSON.stringify({ aps: { alert: "" } }).length;
  assert.is((await send({}, JSON.stringify({ aps: { alert: "x".repeat(4096 - frame) } }))).status, 200);
  assert.is((await send({}, JSON.stringify({ aps: { alert: "x".repeat(4097 - frame) } }))).status, 413);
  assert.is((await send({ "apns-collapse-id": "x".repeat(64) })).status, 200);
  assert.is((await send({ "apns-push-type": "background", "apns-priority": "5" })).status, 200);
});

test("APNs refuses a provider token that is not the team's, not the key's, not signed or not fresh", async () => {
  const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const cases: readonly (readonly [string, string])[] = [
    ["InvalidProviderToken", providerToken({}, stranger)],
    ["InvalidProviderToken", providerToken({ kid: "OTHERKEY01" })],
    ["InvalidProviderToken", providerToken({ iss: "OTHERTEAM1" })],
    ["InvalidProviderToken", providerToken({ alg: "none" })],
    ["InvalidProviderToken", providerToken({ iat: now_s() + 3600 })],
    ["InvalidProviderToken", "no.token"],
    ["InvalidProviderToken", `${providerToken().slice(0, -8)}AAAAAAAA`],
    ["ExpiredProviderToken", providerToken({ iat: now_s() - 3700 })],
  ];
  for (const [reason, token] of cases) {
    const answer = await send({ authorization: `bearer ${token}` });
    assert.equal([answer.status, answer.reason], [403, reason], token);
  }
  assert.is((await send({ authorization: `bearer ${providerToken({ iat: now_s() - 3500 })}` })).status, 200);
});

test("a provider token once called expired stays so, and a new one is taken", async () => {
  await emulator.postsFault({ provider: "APNS", reason: "ExpiredProviderToken" });
  const old = { authorization: `bearer ${providerToken()}` };
  for (const _ of [1, 2]) assert.is((await send(old)).reason, "ExpiredProviderToken");
  assert.is((await send({ authorization: `bearer ${providerToken()}` })).status, 200);
});

test("a scripted Unregistered says since when", async () => {
  await emulator.postsFault({
    provider: "APNS",
    reason: "Unregistered",
    timestamp: 1_700_000_000_000,
    token: "device-1",
  });
  assert.is((await send({ ":path": "/3/device/device-2" })).status, 200);
  const dead = await send();
  assert.equal([dead.status, dead.reason, dead.timestamp], [410, "Unregistered", 1_700_000_000_000]);
  assert.is((await send()).status, 200);
});

test.run();
