/** Groups and rules as an operator makes them. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Json, openAdminApi } from "./helpers/admin-api.ts";

const api = await openAdminApi();
test.after(() => api.close());

const site = (await api.call("POST", "/api/v1/sites", { name: "St Anna" })).body.id as string;
const elsewhere = (await api.call("POST", "/api/v1/sites", { name: "St Bede" })).body.id as string;
async function subscriber(siteId = site): Promise<string> {
  const destination = `9${Math.floor(Math.random() * 1e9)}`;
  const { status, body } = await api.call("POST", "/api/v1/subscribers", { siteId, name: "Dr Test", destination });
  assert.is(status, 201);
  return body.id as string;
}
const rules = `/api/v1/sites/${site}/escalation-rules`;
const fieldsOf = (body: Json) => [...(body.errors ?? [])].map((error) => error.field);

test("a group is made of people of its site, renamed, replaced and removed", async () => {
  const [ada, ben, stranger] = [await subscriber(), await subscriber(), await subscriber(elsewhere)];
  const made = await api.call("POST", "/api/v1/subscriber-groups", { siteId: site, name: "ICU", members: [ada, ben] });
  assert.equal([made.status, [...made.body.members!].sort()], [201, [ada, ben].sort()]);
  const path = `/api/v1/subscriber-groups/${made.body.id}`;

  const taken = await api.call("POST", "/api/v1/subscriber-groups", { siteId: site, name: "ICU", members: [] });
  assert.equal([taken.status, taken.body.code], [409, "name-taken"]);
  for (const members of [[stranger], [randomUUID()], [ada, randomUUID()]]) {
    const refused = await api.call("PUT", path, { name: "ICU", members });
    assert.equal([refused.status, fieldsOf(refused.body)], [400, ["body.members"]]);
  }
  assert.is((await api.call("PUT", path, { name: "ICU", members: [ada, ada] })).status, 400, "nobody twice");
  const many = Array.from({ length: 101 }, () => randomUUID());
  assert.is((await api.call("PUT", path, { name: "ICU", members: many })).status, 400);

  const replaced = await api.call("PUT", path, { name: "ICU nights", members: [ben] });
  assert.equal([replaced.status, replaced.body.name, replaced.body.members], [200, "ICU nights", [ben]]);
  const listed = await api.call("GET", `/api/v1/subscriber-groups?siteId=${site}`);
  assert.equal(
    [...listed.body.items!].map((group) => group.name),
    ["ICU nights"],
  );
  assert.is((await api.call("DELETE", path)).status, 204);
  for (const [method, body] of [["GET"], ["DELETE"], ["PUT", { name: "x", members: [] }]] as const)
    assert.is((await api.call(method, path, body)).status, 404);
});

test("a rule is a list of steps that reach somebody of its site; a group in use stays", async () => {
  const [ada, stranger] = [await subscriber(), await subscriber(elsewhere)];
  const made = await api.call("POST", "/api/v1/subscriber-groups", { siteId: site, name: "ED", members: [ada] });
  const groupId = made.body.id as string;
  const steps = [
    { kind: "DEVICES" },
    { kind: "SUBSCRIBER", subscriberId: ada, waitSeconds: 30 },
    { kind: "GROUP", groupId },
  ];
  const put = await api.call("PUT", `${rules}/Alert`, { steps });
  assert.equal([put.status, put.body.messageType, put.body.onIgnored], [200, "alert", false]);
  assert.equal(
    [...put.body.steps!].map((step) => [step.kind, step.waitSeconds]),
    [
      ["DEVICES", null],
      ["SUBSCRIBER", 30],
      ["GROUP", null],
    ],
  );
  const again = await api.call("PUT", `${rules}/ALERT`, { onIgnored: true, steps: steps.slice(0, 1) });
  assert.equal([again.body.onIgnored, again.body.steps!.length], [true, 1]);
  assert.is((await api.call("PUT", `${rules}/alert`, { steps })).status, 200);
  assert.equal((await api.call("GET", rules)).body.items!.length, 1);

  const used = await api.call("DELETE", `/api/v1/subscriber-groups/${groupId}`);
  assert.equal([used.status, used.body.code], [409, "in-use"]);

  const settings = { host: "mail.test", port: 25, security: "none", from: "tocsin@hospital.test" };
  const desk = await api.call("POST", "/api/v1/output-gateways", { siteId: site, name: "Desk", settings });
  const gatewayId = desk.body.id as string;
  const toDesk = (address: string) => ({ steps: [{ kind: "GATEWAY", gatewayId, address }] });
  for (const address of ["{destination}@pager.test", "desk@hospital.test"])
    assert.is((await api.call("PUT", `${rules}/Alert`, toDesk(address))).status, 200, address);
  const gatewayUsed = await api.call("DELETE", `/api/v1/output-gateways/${gatewayId}`);
  assert.equal([gatewayUsed.status, gatewayUsed.body.detail], [409, 'The rule for "alert" names it.']);

  const wrong: [string, unknown, number][] = [
    ["Chat", { steps }, 400],
    [" chAT ", { steps }, 400],
    ["Alert", { steps: [] }, 400],
    ["Alert", { steps: Array.from({ length: 11 }, () => ({ kind: "DEVICES" })) }, 400],
    ["Alert", { steps: [{ kind: "SUBSCRIBER", subscriberId: stranger }] }, 400],
    ["Alert", { steps: [{ kind: "GROUP", groupId: randomUUID() }] }, 400],
    ["Alert", { steps: [{ kind: "GATEWAY", gatewayId: randomUUID(), address: "a@b.test" }] }, 400],
    ["Alert", toDesk("desk@{destination}"), 400],
    ["Alert", toDesk("{destinaton}@pager.test"), 400],
    ["Alert", toDesk("a@b.test, c@d.test"), 400],
    ["Alert", { steps: [{ kind: "SUBSCRIBER", subscriberId: ada, waitSeconds: 9 }] }, 400],
    ["Alert", { steps: [{ kind: "SUBSCRIBER" }] }, 400],
    ["Alert", { steps: [{ kind: "NOBODY" }] }, 400],
  ];
  for (const [type, body, status] of wrong)
    assert.is(
      (await api.call("PUT", `${rules}/${encodeURIComponent(type)}`, body)).status,
      status,
      JSON.stringify(body),
    );
  const lost = await api.call("PUT", `/api/v1/sites/${randomUUID()}/escalation-rules/Alert`, { steps });
  assert.is(lost.status, 422);

  const any = await api.call("PUT", `${rules}/*`, { steps: [{ kind: "SUBSCRIBER", subscriberId: ada }] });
  assert.equal([any.status, any.body.messageType], [200, "*"]);
  assert.is((await api.call("DELETE", `${rules}/*`)).status, 204);
  assert.equal(
    api.audited.slice(-2),
    ["PUT", "DELETE"].map((method) => `bootstrap ${method} /api/v1/sites/:id/escalation-rules/:messageType ${site} *`),
    "which of the site's rules",
  );
  assert.is((await api.call("DELETE", `${rules}/aLERT`)).status, 204);
  assert.is((await api.call("DELETE", `${rules}/alert`)).status, 404);
  assert.is((await api.call("DELETE", `/api/v1/subscriber-groups/${groupId}`)).status, 204);
});

test.run();
