// limit: 120 s
/** What no phone and no console would send to the HTTP port: every answer is a refusal that says nothing of what came. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { raw } from "./helpers/http.ts";
import { metric } from "./helpers/process-facts.ts";

/** Stands in everything that is sent, and must stand in no answer and no line of the log. */
const MARK = `mark${randomUUID().replaceAll("-", "")}`;
const hospital = await openHospital();
const { node } = hospital;
const { url } = node.run();
const port = Number(new URL(url).port);
const host = await hospital.host("lab");
const phone = await hospital.phone();
const { vendorId, deviceToken } = phone.registration;
const OPERATIONS = ["Register", "GetMessages", "SetStatus", "UpdateNotificationAddress", "Unregister"] as const;
const ADMIN = ["sites", "host-systems", "subscribers", "session"] as const;
const paths = [...OPERATIONS.map((one) => `/ClientMessaging/V2/${one}`), ...ADMIN.map((one) => `/api/v1/${one}`)];

type Answer = { readonly status: number; readonly text: string };

async function post(path: string, body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Answer> {
  const token = path.startsWith("/api") ? node.adminKey : deviceToken;
  const answer = await fetch(`${url}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    body: body as string,
  });
  const text = await answer.text();
  assert.is(text.includes(MARK), false, `${path} repeats what it was sent`);
  return { status: answer.status, text };
}

/** A refusal in the form of its room, that names nothing of the inside. */
function isRefusal(path: string, { status, text }: Answer, ...statuses: number[]): void {
  assert.ok(statuses.includes(status), `${path} answered ${status}: ${text.slice(0, 200)}`);
  const body = JSON.parse(text) as Record<string, unknown>;
  if (path.startsWith("/api")) assert.type(body.code, "string", text);
  else assert.ok(typeof body.ResponseCode === "number" && body.ResponseCode > 0, text);
  assert.not.match(text, /node_modules|\.ts:|select |insert |postgres|\bat \w+ \(/i);
}

async function serves(): Promise<void> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const page = (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId));
  await phone.confirms([page!.UniqueId]);
  await host.awaits(trackingId, "DELIVERED");
}

const WRONG_TYPES: readonly unknown[] = [
  null,
  true,
  17,
  MARK,
  [],
  [MARK],
  {},
  // A name of a field is repeated to an operator where it may be one of ours; this may not.
  { [`<${MARK}>`]: MARK },
  { vendorId: null },
  { vendorId: [vendorId] },
  { vendorId: { toString: vendorId } },
  { vendorId: `${vendorId}${MARK}` },
  { vendorId: `${vendorId}\u0000` },
  { vendorId: `${vendorId}\n` },
  { vendorId, confirm: MARK },
  { vendorId, confirm: [MARK], statuses: MARK, notificationAddress: [MARK] },
  { vendorId, confirm: [null], statuses: [MARK], notificationAddress: { a: MARK } },
  { vendorId, limit: 0, statuses: [{ uniqueId: MARK, status: "READ" }], gatewayType: MARK },
  {
    vendorId,
    limit: 1.5,
    statuses: [{ uniqueId: randomUUID(), status: MARK }],
    notificationAddress: `${MARK} ${MARK}`,
  },
  { vendorId, limit: "1e9999", statuses: [{ uniqueId: randomUUID(), status: ["READ"] }] },
  { vendorId, v: MARK, statuses: null },
  { name: { first: MARK }, siteId: 1, destination: MARK, registrationCode: { $ne: null } },
  { name: "\u0000", siteId: hospital.siteId, destination: `\u0000${MARK}`, allowedAddresses: [MARK] },
  { siteId: hospital.siteId, destination: MARK, registrationCode: MARK, deviceType: "TOASTER" },
];

test("bodies of the wrong types are refused with 400 by every operation, phones' and operators' alike", async () => {
  for (const path of paths) {
    // A body that says nothing but who asks is a good Unregister.
    if (path.endsWith("Unregister")) continue;
    for (const body of WRONG_TYPES) isRefusal(path, await post(path, JSON.stringify(body)), 400);
  }
  for (const body of WRONG_TYPES.slice(0, 14)) {
    isRefusal(
      "/ClientMessaging/V2/Unregister",
      await post("/ClientMessaging/V2/Unregister", JSON.stringify(body)),
      400,
    );
  }
  await serves();
});

test("whatever JSON comes, and whatever is no JSON, the answer is a refusal of its room and never the server's failure", async () => {
  const body = fc.oneof(
    fc.jsonValue().map((value) => JSON.stringify(value)),
    fc
      .record(
        { vendorId: fc.constant(vendorId), confirm: fc.jsonValue(), statuses: fc.jsonValue() },
        { requiredKeys: ["vendorId", "confirm", "statuses"] },
      )
      .map((value) => JSON.stringify(value)),
    fc.string({ unit: "binary" }),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...paths.filter((path) => !path.endsWith("Unregister"))),
      body,
      async (path, sent) => {
        const answer = await post(path, sent);
        // Only a body that happens to be right may be answered otherwise.
        if (answer.status !== 200) isRefusal(path, answer, 400, 401, 403);
      },
    ),
    { numRuns: 400 },
  );
  await serves();
});

test("a body over the limit is 413, whether it says so before or not", async () => {
  const large = JSON.stringify({ vendorId, statuses: [], pad: MARK.repeat(10_000) });
  for (const path of paths) {
    isRefusal(path, await post(path, large), 413);
    const chunked = await raw(
      port,
      `POST ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${path.startsWith("/api") ? node.adminKey : deviceToken}\r\n` +
        `content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n${large.length.toString(16)}\r\n${large}\r\n0\r\n\r\n`,
    );
    assert.match(chunked, /^HTTP\/1\.1 413 /);
    assert.is(chunked.includes(MARK), false);
  }
  const lying = await raw(
    port,
    `POST ${paths[1]} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{`,
  );
  assert.match(lying, /^HTTP\/1\.1 413 /);
});

test("bodies 10,000 levels deep are refused, and take nothing else with them", async () => {
  const deep = 10_000;
  const bodies = [
    `${"[".repeat(deep)}${"]".repeat(deep)}`,
    `${'{"a":'.repeat(deep)}1${"}".repeat(deep)}`,
    `{"vendorId":${"[".repeat(deep)}"${vendorId}"${"]".repeat(deep)}}`,
    `{"vendorId":"${vendorId}","statuses":${"[".repeat(deep)}${"]".repeat(deep)}}`,
    `{"vendorId":"${vendorId}","confirm":[${'{"uniqueId":'.repeat(deep)}1${"}".repeat(deep)}]}`,
    "[".repeat(deep),
  ];
  for (const path of paths) {
    if (path.endsWith("Unregister")) continue;
    // What GetMessages and SetStatus do not know they do not look into.
    for (const body of bodies) {
      const answer = await post(path, body);
      if (answer.status !== 200) isRefusal(path, answer, 400);
      else assert.match(path, /GetMessages/);
    }
  }
  await serves();
});

test("of a name given twice the last counts, for who asks as for what is asked", async () => {
  const other = (await hospital.phone()).registration.vendorId;
  const twice = (first: string, second: string) =>
    post("/ClientMessaging/V2/GetMessages", `{"vendorId":"${first}","vendorId":"${second}"}`);
  assert.is((await twice(other, vendorId)).status, 200);
  isRefusal("/ClientMessaging/V2/GetMessages", await twice(vendorId, other), 403);
});

test("names that reach for every object's prototype are refused and change none", async () => {
  const pollution = [
    `{"vendorId":"${vendorId}","__proto__":{"statusCode":418,"${MARK}":1}}`,
    `{"vendorId":"${vendorId}","constructor":{"prototype":{"polluted":"${MARK}"}}}`,
    `{"__proto__":{"vendorId":"${vendorId}"}}`,
    `{"\\u005f_proto__":{"vendorId":"${vendorId}"}}`,
    `{"vendorId":"${vendorId}","statuses":[{"__proto__":{"uniqueId":"${randomUUID()}","status":"READ"}}]}`,
  ];
  for (const path of paths) {
    if (path.endsWith("Unregister")) continue;
    for (const body of pollution) isRefusal(path, await post(path, body), 400);
  }
  const answer = await fetch(`${url}/healthz`);
  assert.equal(await answer.json(), { ok: true });
});

test("a body of another kind than JSON is refused before it is read", async () => {
  for (const path of paths) {
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data; boundary=x",
      "application/xml",
      "nonsense",
      "",
    ]) {
      const answer = await post(path, `<vendorId>${MARK}</vendorId>`, { "content-type": type });
      isRefusal(path, answer, 400, 415);
    }
    const charset = await post(path, Buffer.from(JSON.stringify({ vendorId: MARK }), "utf16le"), {
      "content-type": "application/json; charset=utf-16",
    });
    isRefusal(path, charset, 400, 415);
    const packed = await post(path, Buffer.from([31, 139, 8, 0]), { "content-encoding": "gzip" });
    isRefusal(path, packed, 400, 415);
  }
});

test("floods of headers and queries are refused or ignored, and leave nothing behind", async () => {
  const bytes = (head: string) => raw(port, `GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${head}\r\n\r\n`);
  assert.match(await bytes(`x-a: ${MARK.repeat(2_000)}`), /^HTTP\/1\.1 431 /);
  assert.match(await bytes(Array.from({ length: 5_000 }, (_, n) => `x-${n}: ${n}`).join("\r\n")), /^HTTP\/1\.1 431 /);
  assert.match(await bytes(Array.from({ length: 300 }, (_, n) => `x${n}: ${n}`).join("\r\n")), /^HTTP\/1\.1 200 /);
  for (const path of ["/healthz", "/api/v1/messages", "/api/v1/subscribers", "/ClientMessaging/V2/GetMessages"]) {
    for (const query of [
      `?${Array.from({ length: 1_500 }, (_, n) => `a${n}=${n}`).join("&")}`,
      `?${"a=1&".repeat(3_000)}`,
      `?%3C${MARK}%3E=${MARK.repeat(100)}`,
      `?__proto__[a]=${MARK}&constructor.prototype=${MARK}&limit[]=1&cursor=${MARK}`,
      `?%00=%00&%ff=%zz&limit=1%00`,
      `?limit=${"9".repeat(400)}&cursor='%20or%201=1--${MARK}`,
    ]) {
      const answer = await fetch(`${url}${path}${query}`, { headers: { authorization: `Bearer ${node.adminKey}` } });
      const text = await answer.text();
      assert.ok([200, 400, 404].includes(answer.status), `${path} answered ${answer.status}`);
      assert.is(text.includes(MARK), false, `${path} repeats its query`);
    }
  }
  assert.match(
    await bytes("").then(() => raw(port, `GET /${"x".repeat(20_000)} HTTP/1.1\r\nhost: x\r\n\r\n`)),
    /^HTTP\/1\.1 431 /,
  );
});

test("chunks, lengths and lines that contradict each other end the connection with 400, never as two requests", async () => {
  const inner = `GET /healthz HTTP/1.1\r\nhost: ${MARK}\r\n\r\n`;
  const head = `POST ${paths[1]} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
  for (const bytes of [
    `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
    `${head}content-length: 5\r\ncontent-length: 6\r\n\r\n{}   ${inner}`,
    `${head}content-length: 5, 6\r\n\r\n{}   ${inner}`,
    `${head}content-length: -5\r\n\r\n${inner}`,
    `${head}content-length: 0x5\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${inner}`,
    `${head}transfer-encoding : chunked\r\n\r\n0\r\n\r\n${inner}`,
    `${head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked\r\n\r\n${MARK}\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked\r\n\r\n2\r\n{}${inner}`,
    `${head} folded: ${MARK}\r\n\r\n${inner}`,
    `${head}a b: c\r\n\r\n${inner}`,
    `${head}x: \u0000\r\n\r\n${inner}`,
    `POST ${paths[1]} HTTP/9.9\r\nhost: x\r\n\r\n${inner}`,
    `GET /healthz\r\n\r\n${inner}`,
    `\u0016\u0003\u0001${MARK}\r\n\r\n${inner}`,
  ]) {
    const answer = await raw(port, bytes);
    assert.match(answer, /^HTTP\/1\.1 400 /, JSON.stringify(bytes.slice(0, 120)));
    assert.is(answer.split("HTTP/1.1 ").length, 2, `answered twice: ${JSON.stringify(bytes.slice(0, 120))}`);
    assert.is(answer.includes(MARK), false);
  }
});

test("requests sent in one go are answered in their order, each as its own", async () => {
  const one = (token: string, vendor: string) => {
    const body = JSON.stringify({ vendorId: vendor });
    return `POST ${paths[1]} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer ${token}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  };
  const other = await hospital.phone();
  const good = one(deviceToken, vendorId);
  const wrong = one(deviceToken, other.registration.vendorId);
  const last = `GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`;
  const answer = await raw(port, `${good}${wrong}${good}GET /${MARK} HTTP/1.1\r\nhost: x\r\n\r\n${good}${last}`);
  assert.equal(
    [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]),
    ["200", "403", "200", "404", "200", "200"],
  );
  assert.is(answer.includes(MARK), false);
});

test("methods nobody serves are refused, and an upgrade to nothing is none", async () => {
  for (const method of ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "GET"]) {
    const answer = await raw(
      port,
      `${method} ${paths[1]} HTTP/1.1\r\nhost: x\r\nx-a: ${MARK}\r\nconnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 (404|405|400) /, method);
    assert.is(answer.includes(MARK), false);
  }
  // A tunnel is nothing anybody here asks for: closed, or refused.
  assert.not.match(await raw(port, `CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\n\r\n`), /^HTTP\/1\.1 2/);
  const upgrade = await raw(
    port,
    `GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-key: ${Buffer.from(MARK).toString("base64")}\r\nsec-websocket-version: 13\r\n\r\n`,
  );
  assert.not.match(upgrade, /^HTTP\/1\.1 101/);
});

test("after all of it the node serves, has failed at nothing, and its log holds nothing of what was sent", async () => {
  await serves();
  const metrics = await hospital.metrics();
  for (const operation of OPERATIONS) {
    assert.is(metric(metrics, `tocsin_client_requests_total{operation="${operation}",result="500"}`), 0, operation);
  }
  const said = node.said();
  assert.is(said.includes(MARK), false);
  assert.not.match(said, /"level":50/);
  assert.not.match(said, /request failed/);
});

test.after(() => hospital.close());
test.run();
