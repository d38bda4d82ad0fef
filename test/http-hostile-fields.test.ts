// limit: 180 s
/**
 * Requests that are right but for one thing, at every route there is: a field of another kind, out of all measure, or one that
 * nobody knows. Whatever it is, the server does not fail, repeats nothing of it, and goes on carrying pages.
 */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { oddities } from "./helpers/oddities.ts";

/** Stands in whatever is odd. A single word, so that it could be the name of a field too. */
const MARK = `mark${randomUUID().replaceAll("-", "")}`;
const PLACE = "place-of-the-odd-value";
const RUNS = 2_000;
// Each request comes from an address of its own: this is not about who is told to wait.
const hospital = await openHospital({ TOCSIN_TRUSTED_PROXIES: "127.0.0.1" });
const { node, siteId } = hospital;
const { url } = node.run();
const host = await hospital.host("lab");
const phone = await hospital.phone();
const people = await Promise.all(Array.from({ length: 8 }, () => hospital.person()));
const phones = await Promise.all(people.map((person) => hospital.phone({ person })));
const hostId = await hospital.knows("odd");
const cursor = await cursorOf();

async function cursorOf(): Promise<string> {
  for (let n = 0; n < 2; n += 1) {
    const trackingId = await host.sends({ destination: phone.person.destination });
    await host.awaits(trackingId, "ENROUTE");
  }
  return String((await hospital.operator("GET", "/messages?limit=1")).body.next);
}

type Answer = { readonly status: number; readonly text: string; readonly head: string };
let requests = 0;

async function ask(method: string, path: string, bearer: string, body?: string): Promise<Answer> {
  requests += 1;
  const answer = await fetch(`${url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${bearer}`,
      "x-forwarded-for": `10.${requests >> 16}.${(requests >> 8) & 255}.${requests & 255}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body }),
  });
  return { status: answer.status, text: await answer.text(), head: JSON.stringify([...answer.headers]) };
}

/** An answer that is no failure of the server's; a refusal is in its room's form and repeats nothing. */
function isSound(what: string, { status, text, head }: Answer): void {
  assert.ok(status < 500 || status === 503, `${what} answered ${status}: ${text.slice(0, 300)}`);
  if (status < 400) return;
  assert.is(`${head}${text}`.includes(MARK), false, `${what} repeats what it was sent: ${text.slice(0, 300)}`);
  assert.not.match(
    text,
    /node_modules|\.ts:|select |insert |postgres|premise_core|meta\.|\bat \w+ \(|constraint/i,
    what,
  );
  const body = JSON.parse(text) as Record<string, unknown>;
  if (what.includes("/api")) assert.type(body.code, "string", text);
  else assert.ok(typeof body.ResponseCode === "number" && body.ResponseCode > 0, text);
}

const seen = new Map<number, number>();
function count({ status }: Answer): void {
  seen.set(status, (seen.get(status) ?? 0) + 1);
}

const { values: odd, names: oddName } = oddities(MARK);
type Right = { readonly method: string; readonly path: string; readonly bearer: string; readonly body: object };
const uniqueId = randomUUID();

function rightRequests(at: number): Right[] {
  const { person, registration } = phones[at % phones.length]!;
  const { vendorId, deviceToken } = registration;
  const { destination, registrationCode } = person;
  const form = { siteId, destination, registrationCode, deviceType: "IOS", deviceOS: "26", clientVersion: "1" };
  const report = { uniqueId, status: "READ", at: "2026-11-21T10:00:00Z", clientId: "1" };
  const calls: [string, object][] = [
    ["Register", { ...form, notificationAddress: "a".repeat(64), gatewayType: "APNS", confirms: true }],
    ["GetMessages", { vendorId, confirm: [uniqueId, randomUUID()], limit: 10, v: 3 }],
    ["SetStatus", { vendorId, statuses: [report, { ...report, status: "DELIVERED", at: 1_795_255_200_000 }] }],
    ["GetSettings", { vendorId }],
    ["UpdateNotificationAddress", { vendorId, notificationAddress: `odd-${randomUUID()}`, gatewayType: "GCM" }],
    // Right but for whose it is: the phone is needed for the rest.
    ["Unregister", { vendorId: phone.registration.vendorId }],
    ["Reply", { vendorId, uniqueId, clientId: "1", text: "x", at: "2026-11-21T10:00:00Z" }],
    ["SendMessage", { vendorId, clientId: "1", to: destination, priority: "high", text: "x" }],
    ["SearchContacts", { vendorId, query: "x", cursor: "x" }],
  ];
  const hostSystem = {
    ...{
      siteId,
      allowedAddresses: ["127.0.0.1", "10.0.0.0/8"],
      kind: "MXPP",
      certificateFingerprint: null,
      port: null,
    },
    ...{ securityCode: "x", strict: true, encoding: "utf-8", priorities: { "999": "high" } },
  };
  const { siteId: _site, kind: _kind, ...change } = hostSystem;
  const fresh = randomUUID();
  const subscriber = { siteId, name: "x", destination: fresh, userName: `u${fresh}`, pagerNumber: `p${fresh}` };
  const operators: [string, string, object][] = [
    ["POST", "sites", { name: fresh }],
    ["POST", "host-systems", { name: fresh, ...hostSystem }],
    ["PATCH", `host-systems/${hostId}`, { name: `${fresh} changed`, ...change }],
    ["POST", "subscribers", subscriber],
    ["POST", "session", { token: "x".repeat(43) }],
  ];
  return [
    ...calls.map(([operation, body]) => ({
      method: "POST",
      path: `/ClientMessaging/V2/${operation}`,
      bearer: deviceToken,
      body,
    })),
    ...operators.map(([method, path, body]) => ({ method, path: `/api/v1/${path}`, bearer: node.adminKey, body })),
  ];
}

/** Every place in a body: its fields, theirs, and the members of lists. */
function placesOf(value: unknown, before: readonly string[] = []): string[][] {
  if (typeof value !== "object" || value === null) return [[...before]];
  return [[...before], ...Object.entries(value).flatMap(([name, inner]) => placesOf(inner, [...before, name]))];
}

function replaced(body: unknown, place: readonly string[]): unknown {
  const [name, ...rest] = place;
  if (name === undefined) return PLACE;
  if (Array.isArray(body)) return body.map((one, at) => (String(at) === name ? replaced(one, rest) : one));
  const fields = body as Record<string, unknown>;
  return { ...fields, [name]: replaced(fields[name], rest) };
}

async function serves(): Promise<void> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const page = (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId));
  await phone.confirms([page!.UniqueId]);
  await host.awaits(trackingId, "DELIVERED");
}

test("right requests are answered as right, so that what is wrong with the others is the one odd thing", async () => {
  for (const { method, path, bearer, body } of rightRequests(0)) {
    const { status } = await ask(method, path, bearer, JSON.stringify(body));
    const expected = /Reply|SendMessage|SearchContacts/.test(path)
      ? 404
      : path.endsWith("Unregister")
        ? 403
        : path.endsWith("session")
          ? 401
          : method === "POST" && path.startsWith("/api")
            ? 201
            : 200;
    assert.is(status, expected, `${method} ${path}`);
  }
});

test("one odd value at any place of a right body, or one odd field more, fails no server and is not repeated", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(), fc.nat(), odd, fc.option(oddName), async (which, where, at, raw, name) => {
      const all = rightRequests(at);
      const { method, path, bearer, body } = all[which % all.length]!;
      const places = placesOf(body);
      const changed = name === null ? replaced(body, places[where % places.length]!) : { ...body, [name]: PLACE };
      // Not by assignment: some names are more than names.
      const sent =
        name === null
          ? JSON.stringify(changed).replace(`"${PLACE}"`, () => raw)
          : `${JSON.stringify(body).slice(0, -1)},${JSON.stringify(name)}:${raw}}`;
      const answer = await ask(method, path, bearer, sent);
      count(answer);
      isSound(`${method} ${path} with ${sent.slice(0, 400)}`, answer);
      if (path.startsWith("/Client")) assert.is(answer.text.includes(MARK), false, `${path} repeats what it was sent`);
    }),
    { numRuns: RUNS },
  );
  await serves();
});

test("odd ids, filters and cursors in an operator's address fail no server and are not repeated", async () => {
  const bytes = fc.oneof(
    fc.constantFrom(
      ...[
        "%00",
        "%ED%A0%80",
        "%FF",
        "%",
        "%zz",
        "%2e%2e%2f",
        "..",
        "''",
        "%0d%0ax:1",
        "0",
        "-1",
        "1e999",
        "NaN",
        "null",
      ],
      ...[
        randomUUID(),
        uniqueId.toUpperCase(),
        "last",
        "LAST",
        "true",
        "[object Object]",
        "9".repeat(300),
        "x".repeat(2_000),
      ],
    ),
    fc.string({ unit: "binary", maxLength: 30 }).map((text) => encodeURIComponent(text.toWellFormed())),
    // A cursor with one letter changed.
    fc
      .tuple(fc.nat(cursor.length - 1), fc.constantFrom(..."09afZ_-.: "))
      .map(([at, letter]) => encodeURIComponent(`${cursor.slice(0, at)}${letter}${cursor.slice(at + 1)}`)),
  );
  const marked = fc.tuple(bytes, fc.boolean()).map(([text, mark]) => (mark ? `${MARK}${text}` : text));
  const names = [
    "limit",
    "cursor",
    "status",
    "destination",
    "trackingId",
    "stuck",
    "siteId",
    "subscriberId",
    MARK,
    "__proto__",
  ];
  const path = fc.oneof(
    fc
      .tuple(
        fc.constantFrom("sites", "host-systems", "subscribers", "devices", "messages", "cluster"),
        fc.uniqueArray(fc.tuple(fc.constantFrom(...names), marked), { maxLength: 3, selector: ([name]) => name }),
      )
      .map(([list, query]): [string, string] => ["GET", `${list}?${query.map((pair) => pair.join("=")).join("&")}`]),
    fc
      .tuple(
        fc.constantFrom<[string, string]>(
          ["GET", "sites/*"],
          ["GET", "subscribers/*"],
          ["POST", "subscribers/*/registration-code"],
          ["GET", "host-systems/*"],
          ["DELETE", "host-systems/*"],
          ["DELETE", "devices/*"],
          ["GET", "messages/*/trace"],
        ),
        marked,
      )
      .map(([[method, route], id]): [string, string] => [method, route.replace("*", () => id)]),
  );
  await fc.assert(
    fc.asyncProperty(path, async ([method, tail]) => {
      const answer = await ask(method, `/api/v1/${tail}`, node.adminKey);
      count(answer);
      isSound(`${method} /api/v1/${tail}`, answer);
    }),
    { numRuns: RUNS / 2 },
  );
  await serves();
});

test("odd proofs and odd registrations fail no server and are not repeated", async () => {
  const text = fc.string({ unit: fc.constantFrom(...`${MARK} ="',;\\<>~!\u00e9`), maxLength: 80 });
  await fc.assert(
    fc.asyncProperty(fc.constantFrom("/ClientMessaging/V2/GetMessages", "/api/v1/sites"), text, async (path, proof) => {
      const answer = await ask("POST", path, `${MARK}${proof}`, JSON.stringify({ vendorId: randomUUID(), name: "x" }));
      isSound(`POST ${path}`, answer);
      assert.is(answer.status, 401);
    }),
    { numRuns: 150 },
  );
  await serves();
});

test("all of it was of every kind, nothing failed, and the log holds nothing of what was sent", () => {
  console.log(
    `  ${[...seen]
      .sort(([a], [b]) => a - b)
      .map(([status, times]) => `${status}: ${times}`)
      .join(", ")}`,
  );
  for (const status of [200, 400, 404]) assert.ok((seen.get(status) ?? 0) > 50, `${status}: ${seen.get(status)}`);
  const said = node.said();
  assert.is(said.includes(MARK), false);
  assert.not.match(said, /"level":50/);
});

test.after(() => hospital.close());
test.run();
