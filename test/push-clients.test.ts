import { randomUUID } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type NotificationId, systemClock } from "../domain.ts";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { type Emulator, openEmulator } from "../gateways/emulator/emulator.ts";
import type { Fault } from "../gateways/emulator/faults.ts";
import type { PushRecord } from "../gateways/emulator/record.ts";
import { openApns } from "../gateways/push/apns.ts";
import { openFcm } from "../gateways/push/fcm.ts";
import type { Push, PushOutcome, PushProvider } from "../gateways/push/provider.ts";
import { silentLog } from "../log.ts";

type Limits = { deadlineMs?: number; tokenDeadlineMs?: number; connections?: number; idleMs?: number; pingMs?: number };

const ports = { log: silentLog, clock: systemClock };
const test = suite("push clients");
let dataDir: string;
let emulator: Emulator;
let providers: PushProvider[] = [];

test.before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "tocsin-push-"));
  emulator = await openEmulator({ bind: "127.0.0.1", port: 0, dataDir }, ports);
});
test.after(async () => {
  await emulator.close();
  await rm(dataDir, { recursive: true, force: true });
});
test.after.each(async () => {
  await Promise.all(providers.map((provider) => provider.close()));
  providers = [];
  for (const path of ["/pushes", "/faults"]) await fetch(emulator.address.url + path, { method: "DELETE" });
});

function fcm(limits: Limits = {}, url: string | null = emulator.address.fcmUrl, caFile?: string): PushProvider {
  const { credentials } = emulator;
  const slice = { serviceAccountFile: credentials.serviceAccountFile, url, caFile: caFile ?? credentials.caFile };
  const provider = openFcm(slice, ports, limits);
  providers.push(provider);
  return provider;
}

function apns(
  limits: Limits = {},
  more: { url?: string; silent?: boolean; topic?: string; keyId?: string } = {},
): PushProvider {
  const { apnsKeyFile: keyFile, apnsKeyId: keyId, apnsTeamId: teamId, apnsTopic: topic, caFile } = emulator.credentials;
  const slice = { keyFile, keyId, teamId, topic, url: emulator.address.apnsUrl, caFile, silent: false, ...more };
  const provider = openApns(slice, ports, limits);
  providers.push(provider);
  return provider;
}

const both = (limits: Limits = {}): PushProvider[] => [fcm(limits), apns(limits)];

function push(fields: Partial<Push> = {}): Push {
  return {
    id: randomUUID() as NotificationId,
    gatewayType: "GCM",
    notificationAddress: "device-1",
    urls: ["https://pages.example"],
    messageCount: 1,
    priority: "high",
    coreVersion: "1.0",
    expiresAt: Date.now() + 3_600_000,
    ...fields,
  };
}

async function script(fault: Fault): Promise<void> {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${emulator.address.url}/faults`, {
    method: "POST",
    headers,
    body: JSON.stringify(fault),
  });
  assert.is(answer.status, 201, await answer.text());
}

async function items<T>(path: string): Promise<T[]> {
  const answer = await fetch(emulator.address.url + path);
  return ((await answer.json()) as { items: T[] }).items;
}

/** A TCP relay whose flow can stop without a word, as a firewall that forgot the connection does. */
async function openRelay(target: number) {
  let frozen = false;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => frozen || to.write(bytes));
      from.on("error", () => {});
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    freeze: (yes: boolean) => {
      frozen = yes;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Counts the sockets this process opens while `run` runs. */
async function countingSockets(run: () => Promise<void>): Promise<number> {
  let count = 0;
  const onSocket = () => {
    count += 1;
  };
  subscribe("net.client.socket", onSocket);
  await run().finally(() => unsubscribe("net.client.socket", onSocket));
  return count;
}

test("an Android push arrives with its options and is accepted by name", async () => {
  const sent = push({ messageCount: 3 });
  const outcome = await fcm().send(sent);
  assert.is(outcome.kind, "accepted");
  assert.match(String((outcome as { providerId: unknown }).providerId), /^projects\/tocsin-emulator\/messages\//);
  const [got, ...more] = await items<PushRecord>("/pushes");
  assert.is(more.length, 0);
  assert.is(got?.provider, "FCM");
  assert.is(got?.token, "device-1");
  assert.is(got?.headers.priority, "high");
  assert.is(got?.headers.collapse_key, "AMC");
  assert.match(String(got?.headers.ttl), /^(3599|3600)s$/);
  const data = got?.payload.data as Record<string, string>;
  const wake = { ClientMessagingUrls: ["https://pages.example"], CoreVersion: "1.0", MessageCount: 3, Priority: 1 };
  assert.equal(JSON.parse(data.message ?? ""), wake);
  assert.ok(Math.abs(Number(data.time) - Date.now()) < 60_000);
});

test("an Apple push arrives as an alert under its own id", async () => {
  const sent = push();
  assert.equal(await apns().send(sent), { kind: "accepted", providerId: sent.id.toUpperCase() });
  const [got] = await items<PushRecord>("/pushes");
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
  const [got] = await items<PushRecord>("/pushes");
  assert.is(got?.headers["apns-push-type"], "background");
  assert.is(got?.headers["apns-priority"], "5");
  assert.equal(got?.payload, { aps: { "content-available": 1 }, DeviceRequestType: "GetMessages" });
});

test("a device token with strange characters reaches its own device only", async () => {
  const token = "../a b?c#d/ü%";
  for (const provider of both())
    assert.is((await provider.send(push({ notificationAddress: token }))).kind, "accepted");
  assert.equal(
    (await items<PushRecord>("/pushes")).map((got) => got.token),
    [token, token],
  );
});

const refused = (code: string): PushOutcome => ({ kind: "refused", code, alarm: true });
const retry = (code: string, afterMs: number | null = null): PushOutcome => ({ kind: "retry", afterMs, code });

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
    assert.is((await items("/faults")).length, 0);
  }
  assert.is((await items("/pushes")).length, 1);
});

test("no device loses its token to BadDeviceToken before this connection has ever delivered", async () => {
  await script({ provider: "APNS", reason: "BadDeviceToken" });
  assert.equal(await apns().send(push()), refused("BadDeviceToken"));
});

const FCM_ROWS: readonly (readonly [Partial<Fault>, PushOutcome])[] = [
  [{ reason: "UNREGISTERED" }, { kind: "token-dead", since: null, code: "UNREGISTERED" }],
  [
    { reason: "INVALID_ARGUMENT", field: "message.token" },
    { kind: "token-dead", since: null, code: "INVALID_ARGUMENT" },
  ],
  [{ reason: "INVALID_ARGUMENT", field: "message.android.ttl" }, refused("INVALID_ARGUMENT")],
  [{ reason: "INVALID_ARGUMENT" }, refused("INVALID_ARGUMENT")],
  [{ reason: "SENDER_ID_MISMATCH" }, refused("SENDER_ID_MISMATCH")],
  [{ reason: "QUOTA_EXCEEDED" }, retry("QUOTA_EXCEEDED", 60_000)],
  [{ reason: "QUOTA_EXCEEDED", retryAfter: 90 }, retry("QUOTA_EXCEEDED", 90_000)],
  [{ reason: "UNAVAILABLE" }, retry("UNAVAILABLE")],
  [{ reason: "UNAVAILABLE", retryAfter: 7 }, retry("UNAVAILABLE", 7000)],
  [{ reason: "INTERNAL" }, retry("INTERNAL")],
  [{ reason: "UNSPECIFIED_ERROR", status: 400 }, retry("UNSPECIFIED_ERROR")],
  [{ reason: "THIRD_PARTY_AUTH_ERROR" }, refused("THIRD_PARTY_AUTH_ERROR")],
  [{ reason: "PERMISSION_DENIED" }, refused("PERMISSION_DENIED")],
  [{ status: 502 }, retry("http-502")],
  [{ status: 404 }, refused("http-404")],
];

test("every answer of FCM has its outcome, and the library retries none of them", async () => {
  const provider = fcm();
  for (const [fault, outcome] of FCM_ROWS) {
    await script({ provider: "FCM", ...fault });
    assert.equal(await provider.send(push()), outcome, JSON.stringify(fault));
    assert.is((await items("/faults")).length, 0);
  }
  assert.is((await items("/pushes")).length, 0);
});

test("an expired provider token is renewed and the push sent once more", async () => {
  const provider = apns();
  await script({ provider: "APNS", reason: "ExpiredProviderToken" });
  assert.is((await provider.send(push())).kind, "accepted");
  await script({ provider: "APNS", reason: "ExpiredProviderToken", times: 2 });
  assert.equal(await provider.send(push()), refused("ExpiredProviderToken"));
  assert.is((await items("/faults")).length, 0);
});

test("a disowned access token is renewed and the push sent once more", async () => {
  const provider = fcm();
  assert.is((await provider.send(push())).kind, "accepted");
  await script({ provider: "FCM", reason: "UNAUTHENTICATED" });
  assert.is((await provider.send(push())).kind, "accepted");
  await script({ provider: "FCM", reason: "UNAUTHENTICATED", times: 2 });
  assert.equal(await provider.send(push()), refused("UNAUTHENTICATED"));
});

test("without an access token a push is refused or retried as the reason asks", async () => {
  await script({ provider: "OAUTH", reason: "invalid_grant" });
  assert.equal(await fcm().send(push()), refused("oauth-invalid_grant"));
  await script({ provider: "OAUTH", status: 503 });
  assert.equal(await fcm().send(push()), retry("oauth-internal_failure"));
  await script({ provider: "OAUTH", action: "cut" });
  assert.equal(await fcm().send(push()), retry("oauth-unreachable"));
  await script({ provider: "OAUTH", action: "silent" });
  const provider = fcm({ tokenDeadlineMs: 200 });
  assert.equal(await provider.send(push()), retry("oauth-unreachable"));
  assert.is((await provider.send(push())).kind, "accepted");
});

test("a connection cut with the push in flight is a retry at once, and the next push connects anew", async () => {
  for (const provider of both()) {
    assert.is((await provider.send(push())).kind, "accepted");
    await script({ provider: provider.name, action: "cut" });
    assert.equal(await provider.send(push()), retry("connection-broken"), provider.name);
    assert.is((await provider.send(push())).kind, "accepted");
  }
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

test("silence ends at the deadline as a retry, and the next push goes through", async () => {
  for (const provider of both({ deadlineMs: 300, connections: 1 })) {
    await script({ provider: provider.name, action: "silent" });
    assert.equal(await provider.send(push()), retry("no-answer"), provider.name);
    assert.is((await provider.send(push())).kind, "accepted");
  }
});

test("a slow push on a live Apple connection does not cost the others their connection", async () => {
  const provider = apns({ deadlineMs: 400 });
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
  const provider = apns({ deadlineMs: 20_000, idleMs: 50, pingMs: 300 }, { url: relay.url });
  assert.is((await provider.send(push())).kind, "accepted");
  await sleep(100);
  relay.freeze(true);
  assert.equal(await provider.send(push()), retry("connection-broken"));
  relay.freeze(false);
  assert.is((await provider.send(push())).kind, "accepted");
  await sleep(100);
  const count = await countingSockets(async () => {
    assert.is((await provider.send(push())).kind, "accepted");
    await sleep(400);
    assert.is((await provider.send(push())).kind, "accepted");
  });
  assert.is(count, 0, "a live connection that answers the ping is kept");
  await relay.close();
});

test("a connection that answered the ping is kept though its push was not answered", async () => {
  const provider = apns({ deadlineMs: 400, idleMs: 50 });
  assert.is((await provider.send(push())).kind, "accepted");
  await sleep(100);
  await script({ provider: "APNS", action: "silent" });
  const count = await countingSockets(async () => {
    assert.equal(await provider.send(push()), retry("no-answer"));
    assert.is((await provider.send(push())).kind, "accepted");
  });
  assert.is(count, 0);
});

test("a host that takes the connection and says nothing costs one deadline, not the connections after it", async () => {
  const relay = await openRelay(Number(new URL(emulator.address.apnsUrl).port));
  const other = await openRelay(Number(new URL(emulator.address.fcmUrl).port));
  relay.freeze(true);
  other.freeze(true);
  const limits = { deadlineMs: 400, tokenDeadlineMs: 300 };
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

test("a server whose certificate the CA did not sign gets nothing", async () => {
  const stranger = join(dataDir, "stranger.pem");
  await writeFile(stranger, (await makeAuthority("Stranger")).certificate);
  assert.equal(await fcm({}, emulator.address.fcmUrl, stranger).send(push()), retry("oauth-unreachable"));
  assert.is((await items("/pushes")).length, 0);
});

test("an answer of FCM that breaks off halfway is a retry at once", async () => {
  const authority = await makeAuthority("Half an answer");
  const { certificate, key } = await issueCertificate(authority, {
    names: ["fcm.googleapis.com", "oauth2.googleapis.com"],
    kind: "server",
  });
  const server = createHttpsServer({ cert: certificate, key }, (request, response) => {
    request.resume();
    if (request.url === "/token") return void response.end(JSON.stringify({ access_token: "t", expires_in: 3600 }));
    response.writeHead(200, { "content-length": "100" }).write('{"name":');
    setTimeout(() => request.socket.destroy(), 50);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const caFile = join(dataDir, "half.pem");
  await writeFile(caFile, authority.certificate);
  const provider = fcm({ deadlineMs: 20_000 }, `https://127.0.0.1:${(server.address() as AddressInfo).port}`, caFile);
  assert.equal(await provider.send(push()), retry("connection-broken"));
  await new Promise((resolve) => server.close(resolve));
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
  assert.is((await items("/pushes")).length, 400);
});

test("a wrong topic or key is refused with an alarm", async () => {
  assert.equal(await apns({}, { topic: "org.other.app" }).send(push()), refused("TopicDisallowed"));
  assert.equal(await apns({}, { keyId: "OTHERKEY01" }).send(push()), refused("InvalidProviderToken"));
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

test("a provider opened again on another emulator takes nothing along from the first", async () => {
  const first = fcm();
  assert.is((await first.send(push())).kind, "accepted");
  await first.close();
  const second = await openEmulator({ bind: "127.0.0.1", port: 0, dataDir }, ports);
  assert.is((await fcm({}, second.address.fcmUrl).send(push())).kind, "accepted");
  const answer = await fetch(`${second.address.url}/pushes`);
  assert.is(((await answer.json()) as { items: unknown[] }).items.length, 1);
  await second.close();
});

test("credentials that cannot be read stop the opening with their file's name", () => {
  const missing = join(dataDir, "nowhere.json");
  const slice = { serviceAccountFile: missing, url: null, caFile: null };
  assert.throws(() => openFcm(slice, ports), /nowhere\.json/);
  const apple = { keyFile: missing, keyId: "K", teamId: "T", topic: "t", url: null, caFile: null, silent: false };
  assert.throws(() => openApns(apple, ports));
});

test.run();
