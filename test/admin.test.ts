/** The admin API as operators and programs meet it, over real HTTP and a real database. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { acceptPages } from "../persistence/acceptance.ts";
import { noticesOf } from "../persistence/device-notices.ts";
import { type AdminApi, openAdminApi } from "./helpers/admin-api.ts";
import { pageFor } from "./helpers/ward.ts";

let api: AdminApi;
let siteId: string;
test.before(async () => {
  api = await openAdminApi();
  siteId = (await api.call("POST", "/api/v1/sites", { name: "General" })).body.id!;
});
test.after(() => api.close());

const NOBODY = "00000000-0000-4000-8000-000000000009";

test("a site is made, found, listed, and its name is taken once", async () => {
  const made = await api.call("POST", "/api/v1/sites", { name: "St Mary" });
  assert.is(made.status, 201);
  assert.equal((await api.call("GET", `/api/v1/sites/${made.body.id}`)).body, made.body);
  const listed = await api.call("GET", "/api/v1/sites");
  assert.ok(listed.body.items!.some((site) => site.id === made.body.id));
  assert.is(listed.body.next, null);
  const again = await api.call("POST", "/api/v1/sites", { name: "St Mary" });
  assert.equal([again.status, again.body.code], [409, "name-taken"]);
  assert.is((await api.call("GET", `/api/v1/sites/${NOBODY}`)).body.code, "not-found");
});

test("a host system with pages out is kept, and the refusal says how many", async () => {
  const { ward } = api;
  const host = await ward.host("ward 3");
  await ward.device(await ward.subscriber("5550177"));
  const pages = [pageFor(ward, host, "5550177"), pageFor(ward, host, "5550177")];
  await acceptPages(ward.database, "node-a", pages);
  const refused = await api.call("DELETE", `/api/v1/host-systems/${host}`);
  assert.equal([refused.status, refused.body.code], [409, "in-use"]);
  assert.match(refused.body.detail!, /^2 pages .* 4 statuses\.$/);
  const ids = pages.map((page) => page.uniqueId);
  await ward.sql`delete from premise_core.host_outbox where unique_id = any (${ids}::uuid[])`;
  await ward.sql`update premise_core.messages set due_at = null, open = false where unique_id = any (${ids}::uuid[])`;
  assert.is((await api.call("DELETE", `/api/v1/host-systems/${host}`)).status, 204);
  assert.is((await api.call("DELETE", `/api/v1/host-systems/${host}`)).status, 404);
});

test("a page is recalled once, by whose key and why stands in its history, and what is asked wrongly is refused", async () => {
  const { ward } = api;
  const host = await ward.host("ward 4");
  const phone = await ward.device(await ward.subscriber("5550178"));
  const page = pageFor(ward, host, "5550178");
  await acceptPages(ward.database, "node-a", [page]);
  const path = `/api/v1/messages/${page.uniqueId}/recall`;
  const audited = api.audited.length;
  for (const reason of ["", " ", "x".repeat(201), "a\u0000b", 5])
    assert.is((await api.call("POST", path, { reason })).status, 400, JSON.stringify(reason));
  assert.is((await api.call("POST", path, { who: "me" })).status, 400);
  assert.is((await api.call("POST", path, {}, { authorization: "Bearer nobody" })).status, 401);
  assert.is((await api.call("GET", `/api/v1/messages/${page.uniqueId}/trace`)).body.status, "QUEUED");
  assert.is((await api.call("POST", `/api/v1/messages/${NOBODY}/recall`)).body.code, "not-found");
  assert.is((await api.call("POST", "/api/v1/messages/last/recall")).status, 400, "named by its uniqueId alone");

  const recalled = await api.call("POST", path.replace(page.uniqueId, page.uniqueId.toUpperCase()), {
    reason: "wrong ward",
  });
  assert.is(recalled.status, 200);
  const { uniqueId, status, outcome, reason } = recalled.body;
  assert.equal([uniqueId, status, outcome, reason], [page.uniqueId, "FAILED", "RECALLED", "recalled by an operator"]);
  assert.equal((await api.call("POST", path)).body, recalled.body, "without a body, and again");
  const recall = "bootstrap POST /api/v1/messages/:uniqueId/recall";
  assert.equal(api.audited.slice(audited), [`${recall} ${page.uniqueId.toUpperCase()}`, `${recall} ${page.uniqueId}`]);
  const trace = (await api.call("GET", `/api/v1/messages/${page.uniqueId}/trace`)).body;
  assert.match(trace.why!, /^Recalled by an operator \d s ago; no phone has said that it fetched it/);
  const lines = trace.events!.filter((event) => event.event === "RECALLED");
  assert.equal(
    lines.map(({ detail }) => detail),
    ["by bootstrap: wrong ward"],
  );
  const listed = await api.call("GET", "/api/v1/messages?status=FAILED&destination=5550178");
  assert.equal(listed.body.items!, [recalled.body]);
  assert.is((await noticesOf(ward.database, [phone], 10)).length, 1);
});

test("whatever an operator changes is on record with whose key it was; what is read or refused is not", async () => {
  const before = api.audited.length;
  const made = await api.call("POST", "/api/v1/device-groups", { siteId, name: "Recorded" });
  const { id, version } = made.body;
  await api.call("GET", `/api/v1/device-groups/${id}`);
  await api.call("POST", "/api/v1/device-groups", { siteId, name: "Recorded" });
  await api.call("POST", "/api/v1/device-groups", { siteId });
  await api.call("DELETE", "/api/v1/device-groups/SECRET");
  await api.call("DELETE", `/api/v1/device-groups/${id}`, undefined, { authorization: "Bearer nobody" });
  await api.call("PATCH", `/api/v1/device-groups/${id}`, { version, locked: ["retentionDays"] });
  await api.call("DELETE", `/api/v1/device-groups/${id}`);
  assert.equal(api.audited.slice(before), [
    `bootstrap POST /api/v1/device-groups ${id}`,
    `bootstrap PATCH /api/v1/device-groups/:id ${id}`,
    `bootstrap DELETE /api/v1/device-groups/:id ${id}`,
  ]);
});

test("lists are read to their end by cursors, each row once", async () => {
  for (let n = 0; n < 5; n += 1) await api.call("POST", "/api/v1/sites", { name: `Paged ${n}` });
  const whole = (await api.call("GET", "/api/v1/sites?limit=200")).body.items!.map((site) => site.id);
  const seen: string[] = [];
  let cursor = "";
  for (let page = 0; page < 20; page += 1) {
    const { body } = await api.call("GET", `/api/v1/sites?limit=2${cursor}`);
    seen.push(...body.items!.map((site) => site.id!));
    if (body.next === null) break;
    cursor = `&cursor=${body.next}`;
  }
  assert.equal(seen, whole);
});

test("what is wrong with a request is said by field, and nothing sent is repeated", async () => {
  const host = { name: "h", siteId, allowedAddresses: ["10.0.0.1"] };
  const cases: [string, string, unknown, string][] = [
    ["POST", "sites", { name: "" }, "body.name"],
    ["POST", "sites", { name: "x".repeat(201) }, "body.name"],
    ["POST", "sites", { name: "a\u0000b" }, "body.name"],
    ["POST", "sites", { name: " a" }, "body.name"],
    ["POST", "sites", {}, "body.name"],
    ["POST", "sites", { name: 5 }, "body.name"],
    ["POST", "sites", { name: "a", "zzz unknown": 1 }, "body"],
    ["POST", "sites", { name: "a", zzz: "zzz" }, "body"],
    ["POST", "sites", {}, "body.name"],
    ["POST", "host-systems", { ...host, allowedAddresses: [] }, "body.allowedAddresses"],
    ["POST", "host-systems", { ...host, allowedAddresses: ["10.0.0.1", "zzz.example"] }, "body.allowedAddresses.1"],
    ["POST", "host-systems", { ...host, allowedAddresses: ["10.0.0.0/33"] }, "body.allowedAddresses.0"],
    ["POST", "host-systems", { ...host, encoding: "zzz" }, "body.encoding"],
    ["POST", "host-systems", { ...host, siteId: "zzz" }, "body.siteId"],
    ["POST", "host-systems", { ...host, priorities: { "1000": "high" } }, "body.priorities"],
    ["POST", "host-systems", { ...host, priorities: { zzz: "high" } }, "body.priorities"],
    ["POST", "host-systems", { ...host, priorities: { "1": "zzz" } }, "body.priorities.1"],
    ["POST", "host-systems", { ...host, certificateFingerprint: "zzz" }, "body.certificateFingerprint"],
    ["POST", "host-systems", { ...host, port: 70_000 }, "body.port"],
    ["POST", "subscribers", { siteId, name: "n", destination: "()-" }, "body.destination"],
    ["GET", "sites?limit=0", undefined, "querystring.limit"],
    ["GET", "sites?limit=zzz", undefined, "querystring.limit"],
    ["GET", "sites?zzz=zzz", undefined, "querystring"],
    ["GET", "sites/zzz", undefined, "params.id"],
    ["GET", "messages?status=ZZZ", undefined, "querystring.status"],
  ];
  for (const [method, path, body, field] of cases) {
    const answer = await api.call(method, `/api/v1/${path}`, body);
    const label = `${method} ${path} ${JSON.stringify(body)}: ${answer.text}`;
    assert.equal([answer.status, answer.body.code], [400, "invalid-field"], label);
    assert.is(answer.body.errors![0]!.field, field, label);
    assert.not.match(answer.text, /zzz/i, label);
  }
});

test("a body that is no JSON, too large or of another type is refused without repeating it", async () => {
  const broken = await api.call("POST", "/api/v1/sites", '{"name": zzz');
  assert.equal([broken.status, broken.body.code], [400, "bad-request"]);
  assert.not.match(broken.text, "zzz");
  const large = await api.call("POST", "/api/v1/sites", { name: "x".repeat(300_000) });
  assert.equal([large.status, large.body.code], [413, "too-large"]);
  const xml = await api.call("POST", "/api/v1/sites", "<zzz/>", { "content-type": "application/xml" });
  assert.equal([xml.status, xml.body.code], [415, "unsupported-media-type"]);
});

test("a host system is made, changed and removed, and its security code is never shown", async () => {
  const made = await api.call("POST", "/api/v1/host-systems", {
    name: "callcenter",
    siteId,
    allowedAddresses: ["10.1.0.0/16", "2001:db8::1"],
    kind: "WCTP",
    securityCode: "s3cret-code",
    priorities: { "999": "high" },
    certificateFingerprint: `${"ab:".repeat(31)}cd`,
  });
  assert.is(made.status, 201, made.text);
  assert.equal(
    [
      made.body.kind,
      made.body.strict,
      made.body.encoding,
      made.body.hasSecurityCode,
      made.body.priorities,
      made.body.certificateFingerprint,
    ],
    ["WCTP", false, "utf-8", true, { "999": "high" }, `${"AB:".repeat(31)}CD`],
  );
  const path = `/api/v1/host-systems/${made.body.id}`;
  const changed = await api.call("PATCH", path, { strict: true, allowedAddresses: ["10.1.2.3"], securityCode: null });
  assert.is(changed.status, 200, changed.text);
  assert.equal(changed.body, {
    ...(JSON.parse(made.text) as object),
    strict: true,
    allowedAddresses: ["10.1.2.3"],
    hasSecurityCode: false,
  });
  assert.equal((await api.call("GET", path)).body, changed.body);
  const listed = await api.call("GET", "/api/v1/host-systems");
  assert.not.match(listed.text, "s3cret-code");
  assert.is((await api.call("PATCH", path, { kind: "MXPP" })).status, 400);
  assert.is((await api.call("DELETE", path)).status, 204);
  assert.is((await api.call("DELETE", path)).status, 404);
  assert.is((await api.call("PATCH", path, { strict: true })).status, 404);
});

test("a host system of an unknown site, or with another's name, is refused", async () => {
  const host = { name: "twin", siteId, allowedAddresses: ["127.0.0.1"] };
  assert.is((await api.call("POST", "/api/v1/host-systems", { ...host, siteId: NOBODY })).body.code, "unknown-site");
  assert.is((await api.call("POST", "/api/v1/host-systems", host)).status, 201);
  const twin = await api.call("POST", "/api/v1/host-systems", host);
  assert.equal([twin.status, twin.body.code], [409, "name-taken"]);
});

test("a subscriber's registration code is told once and replaced on request", async () => {
  const made = await api.call("POST", "/api/v1/subscribers", {
    siteId,
    name: "Ida Gray",
    destination: "(555) 0110",
    userName: "ida",
  });
  assert.is(made.status, 201, made.text);
  assert.match(made.body.registrationCode!, /^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$/);
  assert.is(made.headers.get("cache-control"), "no-store");
  const path = `/api/v1/subscribers/${made.body.id}`;
  const { registrationCode, ...rest } = JSON.parse(made.text) as { registrationCode: string };
  assert.equal((await api.call("GET", path)).body, rest);
  const found = await api.call("GET", "/api/v1/subscribers?destination=555-0110");
  assert.equal(found.body.items, [rest]);
  assert.not.match(found.text, String(registrationCode));
  const renewed = await api.call("POST", `${path}/registration-code`);
  assert.is(renewed.status, 201, renewed.text);
  assert.is.not(renewed.body.registrationCode, registrationCode);
  assert.is((await api.call("POST", `/api/v1/subscribers/${NOBODY}/registration-code`)).status, 404);
});

test("an address that is another subscriber's is named by its field, not by what it is", async () => {
  await api.call("POST", "/api/v1/subscribers", { siteId, name: "A", destination: "555-0111" });
  const answer = await api.call("POST", "/api/v1/subscribers", {
    siteId,
    name: "B",
    destination: "555-0112",
    pagerNumber: "5550111",
  });
  assert.equal([answer.status, answer.body.code], [409, "address-taken"]);
  assert.is(answer.body.errors![0]!.field, "body.pagerNumber");
  assert.not.match(answer.text, "0111");
});

test("a subscriber's phones are listed without address or token, and one can be ended", async () => {
  const subscriber = await api.ward.subscriber("5550120");
  const device = await api.ward.device(subscriber, { address: "push-token-1", token: "device-token-1" });
  await api.ward.device(subscriber, { address: null });
  const listed = await api.call("GET", `/api/v1/devices?subscriberId=${subscriber}`);
  assert.equal(listed.body.items!.map((each) => each.reachable).sort(), [false, true]);
  assert.not.match(listed.text, /push-token-1|device-token-1/);
  assert.is((await api.call("GET", `/api/v1/subscribers/${subscriber}`)).body.devices, 2);
  assert.is((await api.call("DELETE", `/api/v1/devices/${device}`)).status, 204);
  assert.equal(api.removedDevices, [device]);
  assert.is((await api.call("GET", `/api/v1/devices?subscriberId=${subscriber}`)).body.items!.length, 1);
  const again = await api.call("DELETE", `/api/v1/devices/${device}`);
  assert.equal([again.status, again.body.code], [404, "not-found"]);
});

test("the API describes every one of its routes", async () => {
  const { body } = await api.call("GET", "/docs/json");
  const paths = Object.keys(body.paths as object).filter((path) => path.startsWith("/api/v1"));
  assert.equal(paths.sort(), [
    "/api/v1/cluster",
    "/api/v1/cluster/nodes/{name}/drain",
    "/api/v1/device-groups",
    "/api/v1/device-groups/{id}",
    "/api/v1/device-groups/{id}/devices",
    "/api/v1/device-groups/{id}/progress",
    "/api/v1/devices",
    "/api/v1/devices/{id}",
    "/api/v1/host-systems",
    "/api/v1/host-systems/{id}",
    "/api/v1/messages",
    "/api/v1/messages/changes",
    "/api/v1/messages/{uniqueId}/recall",
    "/api/v1/messages/{which}/trace",
    "/api/v1/output-gateways",
    "/api/v1/output-gateways/{id}",
    "/api/v1/output-gateways/{id}/test",
    "/api/v1/session",
    "/api/v1/sites",
    "/api/v1/sites/{id}",
    "/api/v1/sites/{id}/escalation-rules",
    "/api/v1/sites/{id}/escalation-rules/{messageType}",
    "/api/v1/subscriber-groups",
    "/api/v1/subscriber-groups/{id}",
    "/api/v1/subscribers",
    "/api/v1/subscribers/{id}",
    "/api/v1/subscribers/{id}/registration-code",
  ]);
  assert.match(JSON.stringify(body), '"security":[{"apiKey":[]}]');
});

test.run();
