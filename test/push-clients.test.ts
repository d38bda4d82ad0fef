import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { openApns } from "../gateways/push/apns.ts";
import { openFcm } from "../gateways/push/fcm.ts";
import { silentLog } from "../log.ts";
import { countingSockets, push, pushClients, refused, retry } from "./helpers/push-clients.ts";
import { openRelay } from "./helpers/relay.ts";

const ports = { log: silentLog, clock: systemClock };
const test = suite("push clients, both alike");
const clients = await pushClients();
const { emulator, fcm, apns, both, script } = clients;
test.after.each(clients.forget);
test.after(emulator.close);

test("a device token with strange characters reaches its own device only", async () => {
  const token = "../a b?c#d/ü%";
  for (const provider of both())
    assert.is((await provider.send(push({ notificationAddress: token }))).kind, "accepted");
  assert.equal(
    (await emulator.pushes()).map((got) => got.token),
    [token, token],
  );
});

test("a connection cut with the push in flight is a retry at once, and the next push connects anew", async () => {
  for (const provider of both()) {
    assert.is((await provider.send(push())).kind, "accepted");
    await script({ provider: provider.name, action: "cut" });
    assert.equal(await provider.send(push()), retry("connection-broken"), provider.name);
    assert.is((await provider.send(push())).kind, "accepted");
  }
});

test("silence ends at the deadline as a retry, and the next push goes through", async () => {
  for (const provider of both({ deadlineMs: 2_000, connections: 1 })) {
    await script({ provider: provider.name, action: "silent" });
    assert.equal(await provider.send(push()), retry("no-answer"), provider.name);
    assert.is((await provider.send(push())).kind, "accepted");
  }
});

test("a host that takes the connection and says nothing costs one deadline, not the connections after it", async () => {
  const relay = await openRelay(Number(new URL(emulator.address.apnsUrl).port));
  const other = await openRelay(Number(new URL(emulator.address.fcmUrl).port));
  relay.freeze(true);
  other.freeze(true);
  const limits = { deadlineMs: 2_500, tokenDeadlineMs: 2_000 };
  const [android, apple] = [fcm(limits, other.url), apns(limits, { url: relay.url })];
  assert.equal(await Promise.all([android.send(push()), apple.send(push())]), [
    retry("oauth-unreachable"),
    retry("no-answer"),
  ]);
  relay.freeze(false);
  other.freeze(false);
  assert.is((await apple.send(push())).kind, "accepted");
  assert.is((await android.send(push())).kind, "accepted");
  await Promise.all([relay.close(), other.close()]);
});

test("a host that is not there is a retry", async () => {
  const relay = await openRelay(1);
  await relay.close();
  assert.equal(await fcm({}, relay.url).send(push()), retry("oauth-unreachable"));
  assert.equal(await apns({}, { url: relay.url }).send(push()), retry("connection-broken"));
});

test("two hundred pushes at once share few connections", async () => {
  for (const [provider, most] of [
    [fcm({ connections: 4 }), 5], // four for messages and one for the token
    [apns(), 1],
  ] as const) {
    const count = await countingSockets(async () => {
      const outcomes = await Promise.all(Array.from({ length: 200 }, () => provider.send(push())));
      assert.ok(outcomes.every((outcome) => outcome.kind === "accepted"));
    });
    assert.ok(count <= most, `${provider.name} opened ${count} connections`);
  }
  assert.is((await emulator.pushes()).length, 400);
});

test("a push the library itself objects to is refused, not thrown", async () => {
  assert.equal(await fcm().send(push({ notificationAddress: "" })), refused("invalid-payload"));
  assert.equal(await apns().send(push({ notificationAddress: "" })), refused("MissingDeviceToken"));
  assert.equal(await fcm().send(push({ urls: ["https://x.example/".padEnd(5000, "y")] })), refused("INVALID_ARGUMENT"));
});

test("closing settles what is in flight, and a closed provider answers with a retry", async () => {
  for (const provider of both()) {
    assert.is((await provider.send(push())).kind, "accepted");
    await script({ provider: provider.name, action: "silent" });
    const pending = provider.send(push());
    await sleep(150);
    await provider.close();
    assert.equal(await pending, retry("connection-broken"), provider.name);
    assert.equal(await provider.send(push()), retry("provider-closed"));
    await provider.close();
  }
});

test("credentials that cannot be read stop the opening with their file's name", () => {
  const missing = join(emulator.dataDir, "nowhere.json");
  const slice = { serviceAccountFile: missing, url: null, caFile: null };
  assert.throws(() => openFcm(slice, ports), /nowhere\.json/);
  const apple = { keyFile: missing, keyId: "K", teamId: "T", topic: "t", url: null, caFile: null, silent: false };
  assert.throws(() => openApns(apple, ports));
});

test.run();
