// limit: 120 s, alone
/** What a phone, or somebody who has none, gets by guessing, replaying and asking for what is another's: nothing. */
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";

const hospital = await openHospital();
const { node } = hospital;
const { url } = node.run();
const host = await hospital.host("lab");
const victim = await hospital.phone();
const attacker = await hospital.phone();
// Everything here comes from one address, which after 30 failures within a minute is told to wait: the order of tests counts.
const mine = attacker.registration;
const theirs = victim.registration;

type Answer = { readonly status: number; readonly body: Record<string, unknown>; readonly retryAfter: string | null };

async function ask(
  operation: string,
  body: object,
  authorization: string | null = `Bearer ${mine.deviceToken}`,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const answer = await fetch(`${url}${operation.startsWith("/") ? operation : `/ClientMessaging/V2/${operation}`}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(authorization === null ? {} : { authorization }), ...headers },
    body: JSON.stringify(body),
  });
  return {
    status: answer.status,
    body: (await answer.json()) as Answer["body"],
    retryAfter: answer.headers.get("retry-after"),
  };
}

/** A failure is forgiven every two seconds: what has run into the wall may find it open once. */
const walled = (attempt: () => Promise<Answer>) =>
  eventually("it is told to wait", async () => {
    const answer = await attempt();
    return answer.status === 429 && answer;
  });

async function pageFor(phone: typeof victim): Promise<{ trackingId: string; uniqueId: string }> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const page = (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId));
  return { trackingId, uniqueId: page!.UniqueId };
}

test("a phone has no way to another's pages: not by its vendorId, not by a page's uniqueId, by none of the operations", async () => {
  const { trackingId, uniqueId } = await pageFor(victim);
  for (const [operation, more] of [
    ["GetMessages", { vendorId: theirs.vendorId.toUpperCase() }],
    ["GetMessages", { confirm: [uniqueId] }],
    ["SetStatus", { statuses: [{ uniqueId, status: "READ" }] }],
    ["UpdateNotificationAddress", { notificationAddress: "stolen", gatewayType: "GCM" }],
    ["Unregister", {}],
  ] as const) {
    assert.is((await ask(operation, { vendorId: theirs.vendorId, ...more })).status, 403, operation);
  }
  const { vendorId } = mine;
  for (const id of [uniqueId, uniqueId.toUpperCase()]) {
    const confirmed = await ask("GetMessages", { vendorId, confirm: [id] });
    assert.equal([confirmed.status, confirmed.body.Messages], [200, []]);
    for (const status of ["DELIVERED", "READ", "ACKNOWLEDGED", "IGNORED"]) {
      const { body } = await ask("SetStatus", { vendorId, statuses: [{ uniqueId: id, status }] });
      assert.equal(body.Results, [{ UniqueId: uniqueId, Result: "unknown" }], "as if there were no such page");
    }
  }
  const nowhere = await ask("SetStatus", { vendorId, statuses: [{ uniqueId: randomUUID(), status: "READ" }] });
  assert.is((nowhere.body.Results as { Result: string }[])[0]!.Result, "unknown");
  assert.equal(host.statuses(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  assert.ok(
    (await victim.fetches()).some((page) => page.UniqueId === uniqueId),
    "it waits for whom it is for",
  );
  await victim.confirms([uniqueId]);
  await host.awaits(trackingId, "DELIVERED");
});

test("a page given to one device of a person is not had by the other", async () => {
  const other = await hospital.phone({ person: victim.person });
  const trackingId = await host.sends({ destination: victim.person.destination, deviceId: theirs.vendorId });
  await host.awaits(trackingId, "ENROUTE");
  assert.equal(await other.fetches(), []);
  const page = (await victim.fetches()).find(({ Text }) => Text === textOf(trackingId));
  await other.reports(page!.UniqueId, "ACKNOWLEDGED");
  assert.equal(host.statuses(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  await other.unregisters();
  await victim.confirms([page!.UniqueId]);
});

test("receipts said again change nothing: the first answer stands, and the host hears each status once", async () => {
  const { trackingId, uniqueId } = await pageFor(attacker);
  const replay = { vendorId: mine.vendorId, statuses: [{ uniqueId, status: "ACKNOWLEDGED", clientId: "1" }] };
  const Answer = { Status: "ACKNOWLEDGED", ByThisDevice: true };
  assert.equal((await ask("SetStatus", replay)).body.Results, [{ UniqueId: uniqueId, Result: "recorded", Answer }]);
  for (let round = 0; round < 5; round += 1) {
    const { body } = await ask("SetStatus", replay);
    assert.equal(body.Results, [{ UniqueId: uniqueId, Result: "repeated", Answer }]);
  }
  await attacker.reports(uniqueId, "IGNORED", "DELIVERED", "READ");
  await host.awaits(trackingId, "ACKNOWLEDGED");
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(host.statuses(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "ACKNOWLEDGED"]);
});

test("a token of a phone that has registered again or unregistered is worth nothing", async () => {
  const person = await hospital.person();
  const form = {
    siteId: hospital.siteId,
    destination: person.destination,
    registrationCode: person.registrationCode,
    deviceType: "ANDROID",
    deviceOS: "16",
    clientVersion: "1",
    notificationAddress: randomBytes(20).toString("hex"),
    gatewayType: "GCM",
  };
  const first = (await ask("Register", form, null)).body;
  const second = (await ask("Register", form, null)).body;
  assert.is(first.VendorId, second.VendorId);
  const asks = async (token: unknown) =>
    (await ask("GetMessages", { vendorId: first.VendorId }, `Bearer ${token}`)).status;
  assert.equal([await asks(first.DeviceToken), await asks(second.DeviceToken)], [401, 200]);
  assert.is((await ask("Unregister", { vendorId: first.VendorId }, `Bearer ${second.DeviceToken}`)).status, 200);
  assert.is(await asks(second.DeviceToken), 401);
});

test("a token counts in its header alone, and a phone's opens no operator's door, nor an operator's key a phone's", async () => {
  const { vendorId, deviceToken } = mine;
  const attempts: [string, object, string | null, Record<string, string>][] = [
    [`/ClientMessaging/V2/GetMessages?token=${deviceToken}&access_token=${deviceToken}`, { vendorId }, null, {}],
    ["GetMessages", { vendorId, token: deviceToken, deviceToken, DeviceToken: deviceToken }, null, {}],
    ["GetMessages", { vendorId }, null, { cookie: `token=${deviceToken}; DeviceToken=${deviceToken}` }],
    ["GetMessages", { vendorId }, null, { "x-api-key": deviceToken, "proxy-authorization": `Bearer ${deviceToken}` }],
    ["GetMessages", { vendorId }, deviceToken, {}],
    ["GetMessages", { vendorId }, `Basic ${Buffer.from(`${vendorId}:${deviceToken}`).toString("base64")}`, {}],
    ["GetMessages", { vendorId }, `Bearer ${deviceToken} x`, {}],
    ["GetMessages", { vendorId }, `Bearer ${deviceToken},Bearer ${theirs.deviceToken}`, {}],
    ["GetMessages", { vendorId }, `Bearer "${deviceToken}"`, {}],
    ["GetMessages", { vendorId }, `Bearer ${deviceToken.slice(0, -1)}`, {}],
    ["GetMessages", { vendorId }, `Bearer ${deviceToken}A`, {}],
    ["GetMessages", { vendorId }, `Bearer ${deviceToken.toUpperCase()}`, {}],
    ["GetMessages", { vendorId }, `Bearer ${node.adminKey}`, {}],
    ["/api/v1/sites", { name: "mine" }, `Bearer ${deviceToken}`, {}],
    ["/api/v1/sites", { name: "mine" }, null, { "x-api-key": node.adminKey, cookie: `key=${node.adminKey}` }],
    [`/api/v1/sites?key=${node.adminKey}`, { name: "mine" }, null, {}],
  ];
  for (const [operation, body, authorization, headers] of attempts) {
    const answer = await ask(operation, body, authorization, headers);
    assert.is(answer.status, 401, `${operation.split("?")[0]} ${authorization?.slice(0, 8)}`);
  }
  const said = node.said();
  for (const secret of [deviceToken, theirs.deviceToken, node.adminKey]) assert.is(said.includes(secret), false);
});

test("an unknown destination and a wrong code are refused alike", async () => {
  const person = await hospital.person();
  const form = {
    siteId: hospital.siteId,
    registrationCode: "WRONG-WRONG",
    deviceType: "IOS",
    deviceOS: "26",
    clientVersion: "1",
    notificationAddress: "a".repeat(64),
    gatewayType: "APNS",
  };
  const known = await ask("Register", { ...form, destination: person.destination }, null);
  const unknown = await ask("Register", { ...form, destination: "5550000000" }, null);
  const elsewhere = await ask("Register", { ...form, siteId: randomUUID(), destination: person.destination }, null);
  assert.equal([known.status, known.body], [401, unknown.body]);
  assert.equal([unknown.status, unknown.body], [elsewhere.status, elsewhere.body]);
});

test("how long a wrong token takes says nothing of how much of it was right", async () => {
  const wrong = (at: number) => {
    const letters = [...mine.deviceToken];
    letters[at] = letters[at] === "A" ? "B" : "A";
    return `Bearer ${letters.join("")}`;
  };
  const kinds = {
    first: wrong(0),
    last: wrong(mine.deviceToken.length - 1),
    none: `Bearer ${randomBytes(32).toString("base64url")}`,
  };
  const times = new Map<string, number[]>(Object.keys(kinds).map((kind) => [kind, []]));
  const order = Object.entries(kinds);
  for (let round = 0; round < 320; round += 1) {
    // In ever other order: what one request leaves for the next to pay is no part of it.
    order.push(order.shift()!);
    if (round % 3 === 0) order.reverse();
    for (const [kind, token] of order) {
      const begun = performance.now();
      await ask("GetMessages", { vendorId: mine.vendorId }, token);
      if (round >= 20) times.get(kind)!.push(performance.now() - begun);
    }
  }
  const [first, last, none] = ["first", "last", "none"].map((kind) => spread(times.get(kind)!));
  console.log(`  medians ${first!.median.toFixed(3)}, ${last!.median.toFixed(3)}, ${none!.median.toFixed(3)} ms`);
  for (const [one, other] of [
    [first!, last!],
    [first!, none!],
    [last!, none!],
  ] as const) {
    // The standard error of a median, five times over, of both; noise stays below it.
    const noise = (5 * 1.86 * Math.hypot(one.deviation, other.deviation)) / Math.sqrt(300);
    assert.ok(
      Math.abs(one.median - other.median) < Math.max(noise, 0.1),
      `${one.median} and ${other.median} ms, noise ${noise}`,
    );
  }
});

test("after many wrong tokens their address waits, however it names itself; good tokens from there pass", async () => {
  const statuses: number[] = [];
  for (let attempt = 0; attempt < 40; attempt += 1) {
    const forwarded = {
      "x-forwarded-for": `10.0.0.${attempt}`,
      forwarded: `for=10.0.0.${attempt}`,
      "x-real-ip": "10.9.9.9",
    };
    statuses.push(
      (
        await ask(
          "GetMessages",
          { vendorId: mine.vendorId },
          `Bearer ${randomBytes(32).toString("base64url")}`,
          forwarded,
        )
      ).status,
    );
    assert.is((await ask("GetMessages", { vendorId: mine.vendorId })).status, 200);
  }
  assert.ok(statuses.filter((status) => status === 429).length > 0);
  const blocked = await walled(() =>
    ask("GetMessages", { vendorId: mine.vendorId }, `Bearer ${randomBytes(32).toString("base64url")}`),
  );
  assert.equal([blocked.status, blocked.body.ResponseCode], [429, 7]);
  assert.ok(Number(blocked.retryAfter) >= 1 && Number(blocked.retryAfter) <= 60, `Retry-After: ${blocked.retryAfter}`);
  const { trackingId, uniqueId } = await pageFor(victim);
  await victim.confirms([uniqueId]);
  await host.awaits(trackingId, "DELIVERED");
});

test("wrong registration codes run into the same wall, so that none can be tried out", async () => {
  const person = await hospital.person();
  const form = {
    siteId: hospital.siteId,
    destination: person.destination,
    deviceType: "IOS",
    deviceOS: "26",
    clientVersion: "1",
  };
  const wrong = { ...form, registrationCode: "AAAA-AAAA", notificationAddress: "a".repeat(64), gatewayType: "APNS" };
  const tried = await walled(() => ask("Register", wrong, null));
  assert.is(tried.status, 429);
  assert.ok(Number(tried.retryAfter) >= 1 && Number(tried.retryAfter) <= 60);
});

test("many wrong API keys from one address are told to wait, and the operator's own goes on working", async () => {
  const list = async (key: string) => {
    const answer = await fetch(`${url}/api/v1/sites`, { headers: { authorization: `Bearer ${key}` } });
    return { status: answer.status, retryAfter: answer.headers.get("retry-after"), body: await answer.text() };
  };
  assert.is((await list(node.adminKey)).status, 200);
  const refused = await eventually("wrong keys are told to wait", async () => {
    // At work meanwhile, as an operator is: one silent for longer than a key is remembered is told to wait with the rest.
    assert.is((await list(node.adminKey)).status, 200);
    const answer = await list(randomBytes(18).toString("base64url"));
    assert.ok([401, 429].includes(answer.status));
    return answer.status === 429 && answer;
  });
  assert.ok(Number(refused.retryAfter) >= 1 && Number(refused.retryAfter) <= 60, `Retry-After: ${refused.retryAfter}`);
  assert.is(JSON.parse(refused.body).code, "too-many-failures");
  assert.is((await list(node.adminKey)).status, 200);
});

test.after(() => hospital.close());
test.run();

function spread(times: readonly number[]): { median: number; deviation: number } {
  const sorted = [...times].sort((a, b) => a - b);
  const median = sorted[sorted.length >> 1]!;
  const distances = sorted.map((time) => Math.abs(time - median)).sort((a, b) => a - b);
  return { median, deviation: distances[distances.length >> 1]! };
}
