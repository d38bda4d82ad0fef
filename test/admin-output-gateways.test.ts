/** Output gateways as an operator sets them up, tries them and removes them, by the admin API. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { UniqueId } from "../domain.ts";
import { type AdminApi, openAdminApi } from "./helpers/admin-api.ts";
import { openDispatches } from "./helpers/dispatches.ts";

let api: AdminApi;
let siteId: string;
test.before(async () => {
  api = await openAdminApi();
  siteId = (await api.call("POST", "/api/v1/sites", { name: "General" })).body.id!;
});
test.after(() => api.close());
const PATH = "/api/v1/output-gateways";
const NOBODY = "00000000-0000-4000-8000-000000000009";
const SETTINGS = { host: "mail.hospital.example", port: 587, security: "starttls", from: "tocsin@hospital.example" };
const WITH_USER = { ...SETTINGS, user: "tocsin", passwordFile: "mail-password", caFile: "ca.pem" };

async function made(name: string, settings: object = SETTINGS): Promise<string> {
  const { status, body } = await api.call("POST", PATH, { siteId, name, settings });
  assert.is(status, 201, JSON.stringify(body));
  return body.id!;
}

test("a gateway is made, found, listed by its site, replaced and removed", async () => {
  const { body } = await api.call("POST", PATH, { siteId, name: "Desk", settings: WITH_USER });
  assert.equal(body, { id: body.id, tenantId: "default", siteId, name: "Desk", kind: "SMTP", settings: WITH_USER });
  assert.equal((await api.call("GET", `${PATH}/${body.id}`)).body, body);
  const listed = async (query: string) => (await api.call("GET", `${PATH}${query}`)).body.items!.map(({ id }) => id);
  assert.ok((await listed(`?siteId=${siteId}`)).includes(body.id));
  assert.equal(await listed(`?siteId=${NOBODY}`), []);
  const replaced = await api.call("PUT", `${PATH}/${body.id}`, { name: "Ward desk", settings: SETTINGS });
  const rest = { caFile: null, user: null, passwordFile: null };
  assert.equal(replaced.body, { ...(body as object), name: "Ward desk", settings: { ...SETTINGS, ...rest } });
  assert.is((await api.call("DELETE", `${PATH}/${body.id}`)).status, 204);
  for (const [method, path, sent] of [
    ["GET", "", undefined],
    ["PUT", "", { name: "x", settings: SETTINGS }],
    ["DELETE", "", undefined],
    ["POST", "/test", { address: "a@b.example" }],
  ] as const)
    assert.is((await api.call(method, `${PATH}/${body.id}${path}`, sent)).status, 404, method);
});

test("the list is read to its end by cursors, each once", async () => {
  for (let n = 0; n < 5; n += 1) await made(`Paged ${n}`);
  const whole = (await api.call("GET", `${PATH}?limit=200`)).body.items!.map(({ id }) => id);
  const seen: string[] = [];
  for (let cursor = "", page = 0; page < 20; page += 1) {
    const { body } = await api.call("GET", `${PATH}?limit=2${cursor}`);
    seen.push(...body.items!.map(({ id }) => id!));
    if (body.next === null) break;
    cursor = `&cursor=${body.next}`;
  }
  assert.equal(seen, whole);
});

test("a name is taken once in a site, whoever comes with it second", async () => {
  const first = await made("Only");
  const second = await made("Other");
  const again = await api.call("POST", PATH, { siteId, name: "Only", settings: SETTINGS });
  assert.equal([again.status, again.body.code], [409, "name-taken"]);
  const renamed = await api.call("PUT", `${PATH}/${second}`, { name: "Only", settings: SETTINGS });
  assert.equal([renamed.status, renamed.body.code], [409, "name-taken"]);
  assert.is((await api.call("PUT", `${PATH}/${first}`, { name: "Only", settings: SETTINGS })).status, 200);
  const elsewhere = (await api.call("POST", "/api/v1/sites", { name: "Elsewhere" })).body.id!;
  assert.is((await api.call("POST", PATH, { siteId: elsewhere, name: "Only", settings: SETTINGS })).status, 201);
});

test("settings by which nothing could be sent, or a password in clear, are refused by the field's name", async () => {
  for (const [field, settings] of [
    ["host", { ...SETTINGS, host: "mail.example/x" }],
    ["host", { ...SETTINGS, host: "mail example" }],
    ["port", { ...SETTINGS, port: 0 }],
    ["security", { ...SETTINGS, security: "if offered" }],
    ["security", { ...WITH_USER, security: "none" }],
    ["from", { ...SETTINGS, from: "Tocsin <tocsin@hospital.example>" }],
    ["from", { ...SETTINGS, from: "tocsin@hospital.example\r\nBcc: x@evil.example" }],
    ["passwordFile", { ...WITH_USER, passwordFile: null }],
    ["passwordFile", { ...WITH_USER, passwordFile: "../../etc/passwd" }],
    ["passwordFile", { ...WITH_USER, passwordFile: "..data" }],
    ["caFile", { ...SETTINGS, caFile: "/etc/ssl/ca.pem" }],
    ["password", { ...SETTINGS, password: "secret" }],
  ] as const) {
    const { status, body, text } = await api.call("POST", PATH, { siteId, name: "Wrong", settings });
    assert.equal([status, body.code], [400, "invalid-field"], JSON.stringify(settings));
    // A field nobody knows is not named: its name is somebody's text.
    if (field !== "password") assert.match(body.errors![0]!.field!, field);
    assert.not.match(text, "secret");
  }
  assert.is(
    (await api.call("POST", PATH, { siteId: NOBODY, name: "x", settings: SETTINGS })).body.code,
    "unknown-site",
  );
});

test("one that a rule names, or by which a page has yet to leave, stays, and the refusal says which", async () => {
  const { sql } = api.ward;
  const dispatches = openDispatches(sql, siteId);
  const id = await made("Kept");
  const steps = (gatewayId: string) =>
    sql.json([{ kind: "DEVICES" }, { kind: "GATEWAY", gatewayId, address: "desk@hospital.example", waitSeconds: 60 }]);
  for (const [type, gatewayId] of [
    ["code blue", id],
    ["alert", id],
    ["chat", NOBODY],
  ] as const)
    await sql`insert into premise_core.escalation_rules (site_id, message_type, tenant_id, on_ignored, steps)
      values (${siteId}, ${type}, 'default', false, ${steps(gatewayId)})`;
  const left = await dispatches.passOn(id, randomUUID() as UniqueId);
  const refused = async () => (await api.call("DELETE", `${PATH}/${id}`)).body.detail!;
  assert.is(await refused(), 'The rule for "alert", "code blue" names it. 1 of its pages has yet to leave by it.');
  await sql`delete from premise_core.escalation_rules where site_id = ${siteId}`;
  assert.is(await refused(), "1 of its pages has yet to leave by it.");
  await sql`update premise_core.dispatches set state = 'SENT', done_at = now() where id = ${left.id}`;
  assert.is((await api.call("DELETE", `${PATH}/${id}`)).status, 204);
});

test("a test goes to one plain address and answers what the server said", async () => {
  const id = await made("Tried");
  const { status, body } = await api.call("POST", `${PATH}/${id}/test`, { address: "me@hospital.example" });
  assert.equal([status, body], [200, { outcome: "accepted", code: "250 2.0.0", queuedAs: "4XyZ" }]);
  assert.equal(api.tested, ["me@hospital.example"]);
  for (const address of ["{destination}@pager.example", "a@b.example,c@d.example", "me"])
    assert.is((await api.call("POST", `${PATH}/${id}/test`, { address })).status, 400, address);
  assert.is(api.tested.length, 1);
});

test.run();
