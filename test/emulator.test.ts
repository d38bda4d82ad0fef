import { createPrivateKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { connect as connectHttp2, type OutgoingHttpHeaders } from "node:http2";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { type Emulator, openEmulator } from "../gateways/emulator/emulator.ts";
import type { PushRecord } from "../gateways/emulator/record.ts";
import { silentLog } from "../log.ts";

const ports = { log: silentLog, clock: systemClock };
const test = suite("push emulator");
let dataDir: string;
let emulator: Emulator;
let ca: string;
let appleKey: KeyObject;
let googleKey: KeyObject;

test.before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "tocsin-emulator-"));
  emulator = await openEmulator({ bind: "127.0.0.1", port: 0, dataDir }, ports);
  const { credentials } = emulator;
  ca = await readFile(credentials.caFile, "utf8");
  appleKey = createPrivateKey(await readFile(credentials.apnsKeyFile, "utf8"));
  googleKey = createPrivateKey(JSON.parse(await readFile(credentials.serviceAccountFile, "utf8")).private_key);
});
test.after(async () => {
  await emulator.close();
  await rm(dataDir, { recursive: true, force: true });
});
test.before.each(async () => {
  for (const path of ["/pushes", "/faults"]) await fetch(emulator.address.url + path, { method: "DELETE" });
});

const now_s = () => Math.floor(Date.now() / 1000);

function jwt(header: object, claims: object, key: KeyObject): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part(header)}.${part(claims)}`;
  const how = key.asymmetricKeyType === "ec" ? ({ key, dsaEncoding: "ieee-p1363" } as const) : key;
  return `${text}.${sign("sha256", Buffer.from(text), how).toString("base64url")}`;
}

function providerToken(
  change: { kid?: string; iss?: string; iat?: number; alg?: string } = {},
  key = appleKey,
): string {
  const { alg = "ES256", kid = "EMULATOR01", iss = "TOCSINTEAM", iat = now_s() } = change;
  return jwt({ alg, kid }, { iss, iat }, key);
}

const NOTE = JSON.stringify({ aps: { "content-available": 1 }, DeviceRequestType: "GetMessages" });

/** One APNs request with sound headers, changed as told; undefined leaves a header out. */
async function apple(change: OutgoingHttpHeaders = {}, body: string = NOTE) {
  const session = connectHttp2(emulator.address.apnsUrl, { ca });
  const all: OutgoingHttpHeaders = {
    ":method": "POST",
    ":path": "/3/device/device-1",
    authorization: `bearer ${providerToken()}`,
    "apns-topic": emulator.credentials.apnsTopic,
    "apns-push-type": "alert",
    "apns-priority": "10",
    ...change,
  };
  const headers = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  const stream = session.request(headers);
  const answered = new Promise<{ status: number; id: string; reason: string | null; timestamp?: number }>(
    (resolve, reject) => {
      let text = "";
      let status = 0;
      let id = "";
      stream.on("response", (head) => {
        status = Number(head[":status"]);
        id = String(head["apns-id"]);
      });
      stream.on("data", (chunk) => {
        text += chunk;
      });
      stream.on("error", reject);
      stream.on("end", () => resolve({ status, id, ...(text === "" ? { reason: null } : JSON.parse(text)) }));
    },
  );
  stream.end(body);
  return answered.finally(() => session.close());
}

async function google(host: string, path: string, headers: Record<string, string>, body: string, method = "POST") {
  const { hostname, port } = new URL(emulator.address.fcmUrl);
  return new Promise<{ status: number; body: unknown }>((resolve, reject) => {
    const request = httpsRequest({ host: hostname, port, servername: host, path, method, headers, ca, agent: false });
    request.on("error", reject);
    request.on("response", (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
    });
    request.end(body);
  });
}

type Assertion = {
  alg?: string;
  iss?: string;
  aud?: string;
  scope?: string;
  iat?: number;
  exp?: number;
  grant?: string;
};

function askToken(change: Assertion = {}, key = googleKey) {
  const {
    alg = "RS256",
    iss = "push@tocsin-emulator.iam.gserviceaccount.com",
    aud = "https://oauth2.googleapis.com/token",
    scope = "https://www.googleapis.com/auth/firebase.messaging",
    iat = now_s(),
    exp = iat + 3600,
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer",
  } = change;
  const form = new URLSearchParams({ grant_type: grant, assertion: jwt({ alg }, { iss, aud, scope, iat, exp }, key) });
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return google("oauth2.googleapis.com", "/token", headers, form.toString());
}

async function bearer(): Promise<string> {
  const { status, body } = await askToken();
  assert.is(status, 200);
  return (body as { access_token: string }).access_token;
}

const SEND = "/v1/projects/tocsin-emulator/messages:send";
type GoogleError = { error: { code: number; status: string; details: { errorCode?: string }[] } };

async function sendMessage(request: unknown, change: { token?: string; path?: string; method?: string } = {}) {
  const headers = { authorization: `Bearer ${change.token ?? (await bearer())}`, "content-type": "application/json" };
  const text = typeof request === "string" ? request : JSON.stringify(request);
  return google("fcm.googleapis.com", change.path ?? SEND, headers, text, change.method);
}

async function pushes(query = ""): Promise<PushRecord[]> {
  const answer = await fetch(`${emulator.address.url}/pushes${query}`);
  return ((await answer.json()) as { items: PushRecord[] }).items;
}

const postFault = (fault: unknown, type = "application/json") =>
  fetch(`${emulator.address.url}/faults`, {
    method: "POST",
    headers: { "content-type": type },
    body: JSON.stringify(fault),
  });

test("APNs takes a sound push, keeps its id and gives one to a push without", async () => {
  const id = "0B5C2F0E-5B0F-4B8E-9D43-4A8F6F0F7F11";
  assert.equal(await apple({ "apns-id": id.toLowerCase() }), { status: 200, id, reason: null });
  assert.match((await apple()).id, /^[0-9A-F-]{36}$/);
  const [first] = await pushes();
  assert.equal(first?.payload, JSON.parse(NOTE));
  assert.not.match(JSON.stringify(await pushes()), /bearer/i);
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
    const answer = await apple(change, body);
    assert.equal([answer.status, answer.reason], [status, reason], JSON.stringify(change));
  }
  assert.is((await pushes()).length, 0);
});

test("APNs takes exactly 4096 bytes, a 64-byte collapse id and a background push at priority 5", async () => {
  const frame = JSON.stringify({ aps: { alert: "" } }).length;
  assert.is((await apple({}, JSON.stringify({ aps: { alert: "x".repeat(4096 - frame) } }))).status, 200);
  assert.is((await apple({}, JSON.stringify({ aps: { alert: "x".repeat(4097 - frame) } }))).status, 413);
  assert.is((await apple({ "apns-collapse-id": "x".repeat(64) })).status, 200);
  assert.is((await apple({ "apns-push-type": "background", "apns-priority": "5" })).status, 200);
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
    const answer = await apple({ authorization: `bearer ${token}` });
    assert.equal([answer.status, answer.reason], [403, reason], token);
  }
  assert.is((await apple({ authorization: `bearer ${providerToken({ iat: now_s() - 3500 })}` })).status, 200);
});

test("a provider token once called expired stays so, and a new one is taken", async () => {
  await postFault({ provider: "APNS", reason: "ExpiredProviderToken" });
  const old = { authorization: `bearer ${providerToken()}` };
  for (const _ of [1, 2]) assert.is((await apple(old)).reason, "ExpiredProviderToken");
  assert.is((await apple({ authorization: `bearer ${providerToken()}` })).status, 200);
});

test("a scripted Unregistered says since when", async () => {
  await postFault({ provider: "APNS", reason: "Unregistered", timestamp: 1_700_000_000_000, token: "device-1" });
  assert.is((await apple({ ":path": "/3/device/device-2" })).status, 200);
  const dead = await apple();
  assert.equal([dead.status, dead.reason, dead.timestamp], [410, "Unregistered", 1_700_000_000_000]);
  assert.is((await apple()).status, 200);
});

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
  assert.is((await sendMessage({ message, validate_only: true })).status, 200);
  assert.is((await pushes()).length, 0);
  const { status, body } = await sendMessage({ message });
  assert.is(status, 200);
  assert.match((body as { name: string }).name, /^projects\/tocsin-emulator\/messages\/0:/);
  const [got] = await pushes();
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
    const { status, body } = await sendMessage(request, { token });
    const about = JSON.stringify(request).slice(0, 80);
    assert.is(status, 400, about);
    assert.is((body as GoogleError).error.details[0]?.errorCode, "INVALID_ARGUMENT", about);
  }
  const strange = await sendMessage({ message: sound }, { token: "ya29.made-up" });
  assert.equal([strange.status, (strange.body as GoogleError).error.status], [401, "UNAUTHENTICATED"]);
  const other = await sendMessage({ message: sound }, { token, path: SEND.replace("tocsin-emulator", "other") });
  assert.equal([other.status, (other.body as GoogleError).error.status], [403, "PERMISSION_DENIED"]);
  assert.is((await sendMessage({ message: sound }, { token, method: "PUT" })).status, 404);
  assert.is((await sendMessage({ message: sound }, { token, path: "/fcm/send" })).status, 404);
  assert.is((await pushes()).length, 0);
});

test("an access token ends with its hour", async () => {
  let late = 0;
  const clock = { wall: () => Date.now() + late, monotonic: systemClock.monotonic };
  const kept = emulator;
  emulator = await openEmulator({ bind: "127.0.0.1", port: 0, dataDir }, { log: silentLog, clock });
  try {
    const token = await bearer();
    assert.is((await sendMessage({ message: { token: "device-1" } }, { token })).status, 200);
    late = 3_600_000;
    assert.is((await sendMessage({ message: { token: "device-1" } }, { token })).status, 401);
  } finally {
    await emulator.close();
    emulator = kept;
  }
});

test("the record is read by device, by number and by count, and can be emptied", async () => {
  for (const device of ["a", "b", "a"]) await apple({ ":path": `/3/device/${device}` });
  const all = await pushes();
  assert.equal(
    all.map((push) => push.token),
    ["a", "b", "a"],
  );
  assert.ok(all.every((push) => Math.abs(Date.parse(push.at) - Date.now()) < 60_000));
  assert.is((await pushes("?token=a")).length, 2);
  assert.equal(await pushes("?limit=1"), all.slice(2));
  assert.equal(await pushes(`?after=${all[0]?.id}`), all.slice(1));
  assert.is((await fetch(`${emulator.address.url}/pushes`, { method: "DELETE" })).status, 204);
  assert.equal(await pushes(), []);
  await apple();
  assert.ok(Number((await pushes())[0]?.id) > Number(all[2]?.id));
});

test("the stream tells a device's pushes as they come and resumes after the last one seen", async () => {
  const stop = new AbortController();
  const follow = (headers: Record<string, string> = {}) =>
    fetch(`${emulator.address.url}/pushes/stream?token=a`, { signal: stop.signal, headers });
  const next = async (stream: Response): Promise<PushRecord> => {
    const reader = stream.body!.getReader();
    let text = "";
    try {
      for (;;) {
        const data = /^data: (.*)$/m.exec(text)?.[1];
        if (data !== undefined && /\n\n$/.test(text)) return JSON.parse(data) as PushRecord;
        text += new TextDecoder().decode((await reader.read()).value);
      }
    } finally {
      reader.releaseLock();
    }
  };
  const first = await follow();
  assert.is(first.headers.get("content-type"), "text/event-stream");
  for (const device of ["b", "a", "a"]) await apple({ ":path": `/3/device/${device}` });
  const seen = await next(first);
  assert.is(seen.token, "a");
  const [one, two] = await pushes("?token=a");
  assert.is(seen.id, one?.id);
  assert.equal(await next(await follow({ "last-event-id": String(one?.id) })), two);
  stop.abort();
});

test("faults are scripted, listed with what is left of them, used up and cleared", async () => {
  assert.is((await postFault({ provider: "APNS", reason: "TooManyRequests", times: 2 })).status, 201);
  assert.is((await postFault({ provider: "APNS", reason: "Shutdown" })).status, 201);
  assert.is((await apple()).reason, "TooManyRequests");
  const listed = (await (await fetch(`${emulator.address.url}/faults`)).json()) as { items: unknown[] };
  assert.equal(listed.items, [
    { provider: "APNS", reason: "TooManyRequests", times: 1 },
    { provider: "APNS", reason: "Shutdown", times: 1 },
  ]);
  assert.is((await apple()).reason, "TooManyRequests");
  assert.is((await fetch(`${emulator.address.url}/faults`, { method: "DELETE" })).status, 204);
  assert.is((await apple()).status, 200);
});

test("a fault that only delays lets the push through after the wait", async () => {
  await postFault({ provider: "APNS", delayMs: 200 });
  const from = performance.now();
  assert.is((await apple()).status, 200);
  assert.ok(performance.now() - from >= 195);
});

test("a fault that is none is refused with the reason, and never from another site's page", async () => {
  for (const fault of [null, {}, { provider: "GCM" }, { provider: "APNS", times: 0 }, { provider: "APNS", more: 1 }]) {
    const answer = await postFault(fault);
    assert.is(answer.status, 400);
    assert.match(((await answer.json()) as { error: string }).error, /^not a fault: /);
  }
  assert.is((await postFault({ provider: "FCM", action: "goaway" })).status, 400);
  assert.is((await postFault({ provider: "FCM", reason: "INTERNAL" }, "text/plain")).status, 415);
  assert.is((await postFault({ provider: "FCM", reason: "x".repeat(20_000) })).status, 413);
  const { port } = new URL(emulator.address.url);
  const status = await new Promise((resolve, reject) => {
    const headers = { host: "rebound.example" };
    const request = httpRequest({ host: "127.0.0.1", port, path: "/faults", headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on("error", reject).end();
  });
  assert.is(status, 421);
});

test("the lock screen has no inline script or style and nothing from elsewhere", async () => {
  const page = await fetch(emulator.address.url);
  assert.match(
    String(page.headers.get("content-security-policy")),
    /default-src 'none'; script-src 'self'; style-src 'self'/,
  );
  const html = await page.text();
  assert.not.match(html, /<style|<script>|\son\w+=|https?:/);
  for (const path of ["/lock-screen.css", "/lock-screen.js"]) {
    assert.ok(html.includes(path));
    const part = await fetch(emulator.address.url + path);
    assert.is(part.status, 200);
    assert.not.match(await part.text(), /https?:|innerHTML/);
  }
  assert.is((await fetch(`${emulator.address.url}/lock-screen.map`)).status, 404);
  assert.is((await fetch(emulator.address.url, { method: "PATCH" })).status, 405);
});

test("keys and authority survive a restart, and no one else may read them", async () => {
  const again = await openEmulator({ bind: "127.0.0.1", port: 0, dataDir }, ports);
  try {
    assert.equal(again.credentials, emulator.credentials);
    assert.is(await readFile(again.credentials.caFile, "utf8"), ca);
    const folder = join(dataDir, "emulator");
    assert.is((await stat(folder)).mode & 0o777, 0o700);
    for (const file of ["server.key", "service-account.json", "AuthKey_EMULATOR01.p8"]) {
      assert.is((await stat(join(folder, file))).mode & 0o777, 0o600, file);
    }
  } finally {
    await again.close();
  }
});

test("certificates near their end are made anew at the start, and the accounts go on", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tocsin-emulator-"));
  const open = (days: number) => {
    const clock = { wall: () => Date.now() + days * 86_400_000, monotonic: systemClock.monotonic };
    return openEmulator({ bind: "127.0.0.1", port: 0, dataDir: folder }, { log: silentLog, clock });
  };
  const read = (file: string) => readFile(join(folder, "emulator", file), "utf8");
  const files = ["ca.pem", "server.pem", "service-account.json", "AuthKey_EMULATOR01.p8"];
  await (await open(0)).close();
  const before = await Promise.all(files.map(read));
  await (await open(700)).close();
  assert.equal(await Promise.all(files.map(read)), before);
  await (await open(800)).close();
  const after = await Promise.all(files.map(read));
  assert.equal(after.slice(2), before.slice(2));
  assert.is.not(after[0], before[0]);
  assert.ok(new X509Certificate(after[1] ?? "").verify(new X509Certificate(after[0] ?? "").publicKey));
  await rm(folder, { recursive: true });
});

test("two emulators started at once on one empty folder agree on their keys", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tocsin-emulator-"));
  const kept = emulator;
  const both = await Promise.all(
    [0, 1].map(() => openEmulator({ bind: "127.0.0.1", port: 0, dataDir: folder }, ports)),
  );
  const [keptCa, keptKey] = [ca, appleKey];
  try {
    for (emulator of both) {
      ca = await readFile(emulator.credentials.caFile, "utf8");
      appleKey = createPrivateKey(await readFile(emulator.credentials.apnsKeyFile, "utf8"));
      assert.is((await apple()).status, 200);
    }
  } finally {
    [emulator, ca, appleKey] = [kept, keptCa, keptKey];
    await Promise.all(both.map((one) => one.close()));
    await rm(folder, { recursive: true });
  }
});

test("a port that is taken stops the start and leaves nothing open", async () => {
  const port = Number(new URL(emulator.address.url).port);
  try {
    await openEmulator({ bind: "127.0.0.1", port, dataDir }, ports);
    assert.unreachable();
  } catch (fault) {
    assert.is((fault as NodeJS.ErrnoException).code, "EADDRINUSE");
  }
});

test.run();
