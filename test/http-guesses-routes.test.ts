// limit: 180 s
/** Every route asked by everybody who has no right to it: with old, spent and others' proofs, for another's pages, at another's site. */
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHospital, type Person } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";

// Each attempt comes from an address of its own, so that none is refused for those before it.
const hospital = await openHospital({ TOCSIN_TRUSTED_PROXIES: "127.0.0.1" });
const { node } = hospital;
const { url } = node.run();
const host = await hospital.host("lab");
const victim = await hospital.phone();
const attacker = await hospital.phone();

let attempts = 0;
async function ask(method: string, path: string, bearer: string | null, body?: object) {
  attempts += 1;
  const answer = await fetch(`${url}${path}`, {
    method,
    headers: {
      "x-forwarded-for": `10.${attempts >> 16}.${(attempts >> 8) & 255}.${attempts & 255}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, text, body: (text === "" ? {} : JSON.parse(text)) as Record<string, never> };
}
const client = (operation: string, bearer: string | null, body: object) =>
  ask("POST", `/ClientMessaging/V2/${operation}`, bearer, body);

type Form = { siteId?: string; destination: string; registrationCode: string; notificationAddress?: string };
async function registers(form: Form) {
  const { status, body } = await client("Register", null, {
    ...{ siteId: hospital.siteId, deviceType: "ANDROID", deviceOS: "16", clientVersion: "1", gatewayType: "GCM" },
    ...{ notificationAddress: randomUUID(), ...form },
  });
  const { VendorId: vendorId, DeviceToken: token } = body as { VendorId?: string; DeviceToken?: string };
  return { status, vendorId: vendorId ?? "", token: token ?? "" };
}
const formOf = ({ destination, registrationCode }: Person) => ({ destination, registrationCode });

async function pageFor(phone: typeof victim): Promise<{ trackingId: string; uniqueId: string; text: string }> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const page = (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId));
  return { trackingId, uniqueId: page!.UniqueId, text: page!.Text };
}

/** All that a phone can ask for of a page. */
function operationsOn(vendorId: string, uniqueId: string): [string, object][] {
  return [
    ["GetMessages", { vendorId, v: 3 }],
    ["GetMessages", { vendorId, confirm: [uniqueId], limit: 1 }],
    ...["DELIVERED", "READ", "ACKNOWLEDGED", "IGNORED"].map((status): [string, object] => [
      "SetStatus",
      { vendorId, statuses: [{ uniqueId, status, at: new Date().toISOString(), clientId: randomUUID() }] },
    ]),
    ["GetSettings", { vendorId }],
    ["UpdateNotificationAddress", { vendorId, notificationAddress: "stolen", gatewayType: "GCM" }],
    ["Unregister", { vendorId }],
  ];
}

test("no operation of a phone's is open to any token that is not its own and of now", async () => {
  const page = await pageFor(victim);
  const { vendorId } = victim.registration;
  const person = await hospital.person();
  const notificationAddress = randomUUID();
  const old = await registers({ ...formOf(person), notificationAddress });
  const fresh = await registers({ ...formOf(person), notificationAddress });
  assert.is(old.vendorId, fresh.vendorId);
  const left = await registers(formOf(person));
  assert.is((await client("Unregister", left.token, { vendorId: left.vendorId })).status, 200);
  const proofs: [string, string | null, string, number][] = [
    ["another's token", attacker.registration.deviceToken, vendorId, 403],
    ["no token", null, vendorId, 401],
    ["the operator's key", node.adminKey, vendorId, 401],
    ["a registration code", victim.person.registrationCode.padEnd(43, "A"), vendorId, 401],
    ["the vendorId", vendorId, vendorId, 401],
    ["a token from before registering again", old.token, old.vendorId, 401],
    ["that token for another's phone", old.token, vendorId, 401],
    ["an unregistered phone's token", left.token, left.vendorId, 401],
    ["a new token for an old vendorId", fresh.token, left.vendorId, 403],
  ];
  for (const [what, token, asVendor, refusal] of proofs) {
    for (const [operation, body] of operationsOn(asVendor, page.uniqueId)) {
      const answer = await client(operation, token, body);
      assert.is(answer.status, refusal, `${operation} with ${what}`);
      assert.is(answer.text.includes(page.text), false);
    }
  }
  assert.equal(host.statuses(page.trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  assert.ok((await victim.fetches()).some(({ UniqueId }) => UniqueId === page.uniqueId));
  await victim.confirms([page.uniqueId]);
  await host.awaits(page.trackingId, "DELIVERED");
  assert.is((await client("GetMessages", fresh.token, { vendorId: fresh.vendorId })).status, 200);
});

test("a uniqueId known, guessed or near a known one gives another's phone nothing, and tells it nothing", async () => {
  const page = await pageFor(victim);
  const { vendorId, deviceToken } = attacker.registration;
  const near = [...page.uniqueId].flatMap((digit, at) =>
    digit === "-" || at % 5 > 0
      ? []
      : [`${page.uniqueId.slice(0, at)}${digit === "0" ? "1" : "0"}${page.uniqueId.slice(at + 1)}`],
  );
  const guessed = Array.from({ length: 400 }, () => randomUUID());
  const fetched = await client("GetMessages", deviceToken, { vendorId, confirm: [page.uniqueId, ...near, ...guessed] });
  assert.equal([fetched.status, fetched.body.Messages, fetched.body.More], [200, [], false]);
  const asked = [page.uniqueId, ...near, ...guessed.slice(0, 50)];
  const told = await client("SetStatus", deviceToken, {
    vendorId,
    statuses: asked.map((uniqueId) => ({ uniqueId, status: "READ" })),
  });
  assert.equal(
    told.body.Results,
    asked.map((uniqueId) => ({ UniqueId: uniqueId, Result: "unknown" })),
  );
  assert.equal(host.statuses(page.trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  await victim.confirms([page.uniqueId]);
});

test("no route of the operators' is open without a key: to phones, to codes, to spent links; and nothing comes of asking", async () => {
  const page = await pageFor(victim);
  const ids: Record<string, string> = { id: victim.registration.vendorId, which: page.uniqueId };
  const { paths } = (await ask("GET", "/docs/json", null)).body as unknown as {
    paths: Record<string, Record<string, unknown>>;
  };
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    path.startsWith("/api/v1/") && path !== "/api/v1/session"
      ? Object.keys(methods).map((method): [string, string] => [method.toUpperCase(), path])
      : [],
  );
  assert.ok(routes.length >= 15, `${routes.length} routes`);
  const bearers = [
    null,
    victim.registration.deviceToken,
    attacker.registration.deviceToken,
    victim.person.registrationCode,
    victim.registration.vendorId,
    randomBytes(32).toString("base64url"),
    node.adminKey.slice(0, -1),
    `${node.adminKey}x`,
    node.adminKey.toUpperCase() === node.adminKey ? node.adminKey.toLowerCase() : node.adminKey.toUpperCase(),
  ];
  for (const [method, pattern] of routes) {
    const ours = pattern.includes("subscribers") ? victim.person.id : ids.id!;
    const path = pattern.replace("{id}", ours).replace("{which}", ids.which!);
    for (const bearer of bearers) {
      const answer = await ask(
        method,
        path,
        bearer,
        method === "GET" || method === "DELETE" ? undefined : { name: "x" },
      );
      assert.is(answer.status, 401, `${method} ${pattern}`);
      assert.equal(Object.keys(answer.body), ["type", "title", "status", "detail", "code"]);
    }
  }
  for (const token of bearers)
    assert.is((await ask("POST", "/api/v1/session", null, { token: token ?? "x" })).status, 401);
  await victim.confirms([page.uniqueId]);
  await host.awaits(page.trackingId, "DELIVERED");
});

test("a registration code serves its own person at its own site, as often as there are phones, until it is replaced", async () => {
  const [person, other] = [await hospital.person(), await hospital.person()];
  const [first, second] = [await registers(formOf(person)), await registers(formOf(person))];
  assert.equal([first.status, second.status], [200, 200]);
  assert.is.not(first.vendorId, second.vendorId);
  const elsewhere = await hospital.operator("POST", "/sites", { name: `Elsewhere ${randomUUID()}` });
  const siteId = String(elsewhere.body.id);
  const twin = await hospital.operator("POST", "/subscribers", { siteId, name: "x", destination: person.destination });
  const theirs = { destination: person.destination, registrationCode: String(twin.body.registrationCode) };
  for (const [what, form] of [
    ["another person's code", { ...formOf(person), registrationCode: other.registrationCode }],
    ["another person's destination", { ...formOf(person), destination: other.destination }],
    ["the code at another site that has this destination", { ...formOf(person), siteId }],
    ["the other site's code at this one", theirs],
    ["the code at no site", { ...formOf(person), siteId: randomUUID() }],
    ["half the code", { ...formOf(person), registrationCode: person.registrationCode.slice(0, 9) }],
  ] as const) {
    const { status, token } = await registers(form);
    assert.equal([status, token], [401, ""], what);
  }
  assert.is((await registers({ ...theirs, siteId })).status, 200, "the other site's own");

  const renewed = await hospital.operator("POST", `/subscribers/${person.id}/registration-code`);
  assert.is((await registers(formOf(person))).status, 401, "the old code");
  const code = String(renewed.body.registrationCode);
  assert.is((await registers({ ...formOf(person), registrationCode: code })).status, 200);
  for (const { vendorId, token } of [first, second])
    assert.is((await client("GetMessages", token, { vendorId })).status, 200, "phones stay registered");
});

test("the same destination at another site is another person, who gets nothing of the first one's", async () => {
  const elsewhere = await hospital.operator("POST", "/sites", { name: `Elsewhere ${randomUUID()}` });
  const siteId = String(elsewhere.body.id);
  const { destination } = victim.person;
  const twin = await hospital.operator("POST", "/subscribers", { siteId, name: "x", destination });
  const { vendorId, token } = await registers({
    ...{ siteId, destination, registrationCode: String(twin.body.registrationCode) },
  });
  const page = await pageFor(victim);
  for (const [operation, body] of operationsOn(vendorId, page.uniqueId).slice(0, 6)) {
    const answer = await client(operation, token, body);
    assert.is(answer.status, 200, operation);
    assert.equal(answer.body.Messages ?? [], []);
    assert.is(answer.text.includes(page.text), false);
  }
  assert.equal(host.statuses(page.trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  await victim.confirms([page.uniqueId]);
});

test("a phone that passes to another person leaves the first one's pages behind, under either of its ids", async () => {
  const [person, next] = [await hospital.person(), await hospital.person()];
  const notificationAddress = randomUUID();
  const before = await registers({ ...formOf(person), notificationAddress });
  const keeper = await hospital.phone({ person });
  const trackingId = await host.sends({ destination: person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const [page] = await keeper.fetches();
  const after = await registers({ ...formOf(next), notificationAddress });
  for (const [operation, body] of operationsOn(before.vendorId, page!.UniqueId)) {
    assert.is((await client(operation, before.token, body)).status, 401, operation);
    assert.is((await client(operation, after.token, body)).status, 403, operation);
  }
  const { body } = await client("GetMessages", after.token, { vendorId: after.vendorId, confirm: [page!.UniqueId] });
  assert.equal(body.Messages, []);
  const said = await client("SetStatus", after.token, {
    vendorId: after.vendorId,
    statuses: [{ uniqueId: page!.UniqueId, status: "ACKNOWLEDGED" }],
  });
  assert.equal(said.body.Results, [{ UniqueId: page!.UniqueId, Result: "unknown" }]);
  assert.equal(host.statuses(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  await keeper.answers(page!, "ACKNOWLEDGED");
  await host.awaits(trackingId, "ACKNOWLEDGED");
});

test.after(() => hospital.close());
test.run();
