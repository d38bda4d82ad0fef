import { writeFile } from "node:fs/promises";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import type { Fault } from "../gateways/emulator/faults.ts";
import type { PushOutcome } from "../gateways/push/provider.ts";
import { openEmulatorOn } from "./helpers/emulator.ts";
import { push, pushClients, refused, retry } from "./helpers/push-clients.ts";

const test = suite("push client of FCM");
const clients = await pushClients();
const { emulator, fcm, script } = clients;
test.after.each(clients.forget);
test.after(emulator.close);

test("an Android push arrives with its options and is accepted by name", async () => {
  const sent = push({ messageCount: 3 });
  const outcome = await fcm().send(sent);
  assert.is(outcome.kind, "accepted");
  assert.match(String((outcome as { providerId: unknown }).providerId), /^projects\/tocsin-emulator\/messages\//);
  const [got, ...more] = await emulator.pushes();
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
    assert.is((await emulator.faults()).length, 0);
  }
  assert.is((await emulator.pushes()).length, 0);
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

test("a server whose certificate the CA did not sign gets nothing", async () => {
  const stranger = join(emulator.dataDir, "stranger.pem");
  await writeFile(stranger, (await makeAuthority("Stranger")).certificate);
  assert.equal(await fcm({}, emulator.address.fcmUrl, stranger).send(push()), retry("oauth-unreachable"));
  assert.is((await emulator.pushes()).length, 0);
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
  const caFile = join(emulator.dataDir, "half.pem");
  await writeFile(caFile, authority.certificate);
  const provider = fcm({ deadlineMs: 20_000 }, `https://127.0.0.1:${(server.address() as AddressInfo).port}`, caFile);
  assert.equal(await provider.send(push()), retry("connection-broken"));
  await new Promise((resolve) => server.close(resolve));
});

test("a provider opened again on another emulator takes nothing along from the first", async () => {
  const first = fcm();
  assert.is((await first.send(push())).kind, "accepted");
  await first.close();
  const second = await openEmulatorOn(emulator.dataDir);
  assert.is((await fcm({}, second.address.fcmUrl).send(push())).kind, "accepted");
  const answer = await fetch(`${second.address.url}/pushes`);
  assert.is(((await answer.json()) as { items: unknown[] }).items.length, 1);
  await second.close();
});

test.run();
