import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { openEmulatorOn, startEmulator } from "./helpers/emulator.ts";
import { type Assertion, fcmSender, SEND } from "./helpers/fcm-sender.ts";
import { now_s } from "./helpers/jwt.ts";

type GoogleError = { error: { code: number; status: string; details: { errorCode?: string }[] } };

const test = suite("push emulator: FCM");
const emulator = await startEmulator();
const { askToken, bearer, send } = await fcmSender(emulator);
test.before.each(emulator.forgets);
test.after(emulator.close);

test("the token endpoint grants a token only to the service account's own, fresh, scoped assertion", async () => {
  const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const cases: readonly (readonly [string, Assertion, KeyObject?])[] = [
    ["invalid_grant", {}, stranger],
    ["invalid_grant", { alg: "none" }],
    ["invalid_grant", { iss: "someone@else" }],
    ["invalid_grant", { aud: "https://elsewhere.example/token" }],
    ["invalid_grant", { iat: now_s() - 7200 }],
    ["invalid_grant", { exp: now_s() + 7200 }],
    ["invalid_grant", { iat: now_s() + 3600 }],
    ["invalid_scope", { scope: "https://www.googleapis.com/auth/drive" }],
    ["unsupported_grant_type", { grant: "password" }],
  ];
  for (const [error, change, key] of cases) {
    const { status, body } = await askToken(change, key);
    assert.equal([status, (body as { error: string }).error], [400, error], JSON.stringify(change));
  }
  assert.match(await bearer(), /^ya29\./);
});

test("FCM takes a sound message, and looks only when asked to validate", async () => {
  const message = {
    token: "device-1",
    data: { time: "1" },
    android: { priority: "high", ttl: "60s", collapse_key: "AMC" },
  };
  assert.is((await send({ message, validate_only: true })).status, 200);
  assert.is((await emulator.pushes()).length, 0);
  const { status, body } = await send({ message });
  assert.is(status, 200);
  assert.match((body as { name: string }).name, /^projects\/tocsin-emulator\/messages\/0:/);
  const [got] = await emulator.pushes();
  assert.equal(got?.headers, { priority: "high", ttl: "60s", collapse_key: "AMC" });
  assert.equal(got?.payload, { data: { time: "1" } });
});

test("FCM refuses what Google would, with the error code in the details", async () => {
  const token = await bearer();
  const sound = { token: "device-1", data: {} };
  const requests: readonly unknown[] = [
    "{not json",
    {},
    { message: sound, more: 1 },
    { message: { data: {} } },
    { message: { ...sound, topic: "all" } },
    { message: { token: "" } },
    { message: { ...sound, text: "x" } },
    { message: { ...sound, data: { count: 1 } } },
    { message: { ...sound, data: { from: "x" } } },
    { message: { ...sound, android: { priority: "urgent" } } },
    { message: { ...sound, android: { ttl: "60" } } },
    { message: { ...sound, android: { ttl: "2419201s" } } },
    { message: { ...sound, data: { a: "x".repeat(4097) } } },
    { message: { ...sound, data: { a: "x".repeat(70_000) } } },
  ];
  for (const request of requests) {
    const { status, body } = await send(request, { token });
    const about = JSON.stringify(request).slice(0, 80);
    assert.is(status, 400, about);
    assert.is((body as GoogleError).error.details[0]?.errorCode, "INVALID_ARGUMENT", about);
  }
  const strange = await send({ message: sound }, { token: "ya29.made-up" });
  assert.equal([strange.status, (strange.body as GoogleError).error.status], [401, "UNAUTHENTICATED"]);
  const other = await send({ message: sound }, { token, path: SEND.replace("tocsin-emulator", "other") });
  assert.equal([other.status, (other.body as GoogleError).error.status], [403, "PERMISSION_DENIED"]);
  assert.is((await send({ message: sound }, { token, method: "PUT" })).status, 404);
  assert.is((await send({ message: sound }, { token, path: "/fcm/send" })).status, 404);
  assert.is((await emulator.pushes()).length, 0);
});

test("an access token ends with its hour", async () => {
  let late = 0;
  const clock = { wall: () => Date.now() + late, monotonic: systemClock.monotonic };
  const ageing = await openEmulatorOn(emulator.dataDir, clock);
  try {
    const sender = await fcmSender(ageing);
    const token = await sender.bearer();
    assert.is((await sender.send({ message: { token: "device-1" } }, { token })).status, 200);
    late = 3_600_000;
    assert.is((await sender.send({ message: { token: "device-1" } }, { token })).status, 401);
  } finally {
    await ageing.close();
  }
});

test.run();
