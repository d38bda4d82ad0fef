// limit: 240 s
/** A recall as host system, phones and operator see it: on running nodes, killed and not. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { UniqueId } from "../domain.ts";
import { silentLog } from "../log.ts";
import { openDatabase } from "../persistence/database.ts";
import { recallPage } from "../persistence/recalls.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, type Host } from "./helpers/host.ts";
import { startNode } from "./helpers/node.ts";
import { phoneOf } from "./helpers/phone.ts";
import { startRedis } from "./helpers/redis.ts";

const redis = await startRedis();
const KEY = "key-of-both-nodes";
const settings = { TOCSIN_REDIS_URL: redis.url, TOCSIN_ADMIN_KEY: KEY };
const hospital = await openHospital({ ...settings, TOCSIN_NODE: "node-a" });
test.after(async () => {
  await hospital.close();
  await redis.close();
});
type Phone = Awaited<ReturnType<typeof hospital.phone>>;

const REASON = "recalled by an operator";
const emulatorUrl = () => hospital.node.run().emulatorUrl;

async function recalls(uniqueId: string, url = hospital.node.run().url): Promise<void> {
  const answer = await fetch(`${url}/api/v1/messages/${uniqueId}/recall`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}` },
  });
  assert.is(answer.status, 200, await answer.text());
}
async function idOf(trackingId: string): Promise<string | undefined> {
  const { uniqueId } = (await hospital.operator("GET", `/messages/${trackingId}/trace`)).body;
  return uniqueId === undefined ? undefined : String(uniqueId);
}
async function pageTo(host: Host, phone: Phone): Promise<{ trackingId: string; uniqueId: string }> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  return { trackingId, uniqueId: await eventually("it is accepted", () => idOf(trackingId)) };
}
/** Pushes to it, "ring" or "silent", oldest first. */
async function ringsOf(phone: Phone): Promise<string[]> {
  const pushes = await hospital.pushes(phone.registration.notificationAddress);
  return pushes.map(({ provider, payload }) => {
    const { data, aps } = payload as { data?: { message: string }; aps?: { alert?: string } };
    if (provider === "FCM") return JSON.parse(data!.message).MessageCount === 0 ? "silent" : "ring";
    return aps!.alert === undefined ? "silent" : "ring";
  });
}

for (const gatewayType of ["GCM", "APNS"] as const) {
  test(`a page that phones show goes from all of them: they are woken without a ring (${gatewayType}), the host hears FAILED`, async () => {
    const host = await hospital.host(`recalls ${gatewayType}`);
    const phone = await hospital.phone({ gatewayType });
    const second = await hospital.phone({ gatewayType, person: phone.person });
    const asleep = await hospital.phone({ gatewayType, person: phone.person });
    for (const one of [phone, second]) one.wakesOnPush(emulatorUrl());
    const { trackingId, uniqueId } = await pageTo(host, phone);
    await host.awaits(trackingId, "DELIVERED");
    await eventually("both have confirmed it", async () => {
      const { events } = (await hospital.operator("GET", `/messages/${uniqueId}/trace`)).body;
      const said = (events as unknown as { event: string }[]).filter(({ event }) =>
        /^(DELIVERED|FETCHED)$/.test(event),
      );
      return said.length === 2 && (await ringsOf(asleep)).length === 1;
    });
    await recalls(uniqueId);
    const failed = await host.awaits(trackingId, "FAILED");
    assert.is(failed.reason, REASON);
    for (const one of [phone, second]) await one.hears("RECALLED", uniqueId);
    await eventually("the third is woken, too", async () => (await ringsOf(asleep)).includes("silent"));
    assert.equal(await ringsOf(asleep), ["ring", "silent"]);
    // What fetched in those very instants needed no push.
    for (const one of [phone, second]) assert.match((await ringsOf(one)).join(" "), /^(ring)? ?(silent)?$/);
    assert.equal(await asleep.fetches(), [], "the page is in no inbox");

    await recalls(uniqueId);
    const next = await pageTo(host, phone);
    await host.awaits(next.trackingId, "DELIVERED");
    await eventually("a page behind it rings", async () => (await ringsOf(asleep)).join(" ") === "ring silent ring");
    assert.equal(host.statuses(trackingId).filter((status) => status === "FAILED").length, 1);
    assert.equal(phone.notices().length, 1, "once");
    const { body } = await hospital.operator("GET", `/messages/${uniqueId}/trace`);
    assert.match(String(body.why), /^Recalled by an operator/);
  });
}

test("a page recalled before its push could leave rings nowhere", async () => {
  const host = await hospital.host("recalls early");
  const phone = await hospital.phone();
  const token = phone.registration.notificationAddress;
  await hospital.emulator("POST", "/faults", { provider: "FCM", token, status: 503, times: 1_000 });
  const { trackingId, uniqueId } = await pageTo(host, phone);
  await host.awaits(trackingId, "ENROUTE");
  await recalls(uniqueId);
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", "FAILED");
  await hospital.emulator("DELETE", "/faults");
  await eventually("a push is out", async () => (await ringsOf(phone)).length > 0, 20_000);
  assert.equal(await ringsOf(phone), ["silent"]);
  phone.wakesOnPush(emulatorUrl());
  await phone.hears("RECALLED", uniqueId);
  assert.equal(phone.pages(), []);
});

test("a phone that was off hears of it with its next fetch, and what it says of the page after that still reaches the host", async () => {
  const host = await hospital.host("recalls late");
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(host, phone);
  const [page] = await eventually("it has the page", async () => {
    const pages = await phone.fetches();
    return pages.length === 1 && pages;
  });
  await recalls(uniqueId);
  await host.awaits(trackingId, "FAILED");
  await phone.answers(page!, "ACKNOWLEDGED");
  await host.awaits(trackingId, "ACKNOWLEDGED");
  assert.is(host.statuses(trackingId).at(-1), "ACKNOWLEDGED", "and nothing behind it");
  phone.wakesOnPush(emulatorUrl());
  await phone.hears("RECALLED", uniqueId);
  await eventually("it has confirmed that", async () => {
    const answer = await fetch(`${hospital.node.run().url}/ClientMessaging/V2/GetMessages`, {
      method: "POST",
      headers: { authorization: `Bearer ${phone.registration.deviceToken}`, "content-type": "application/json" },
      body: JSON.stringify({ vendorId: phone.registration.vendorId, v: 3 }),
    });
    return ((await answer.json()) as { Notices: unknown[] }).Notices.length === 0;
  });
});

test("on two nodes at once: the same page recalled by both and confirmed by its phone, over and over", async () => {
  const other = await startNode({
    ...settings,
    TOCSIN_NODE: "node-b",
    TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
  });
  try {
    const host = await hospital.host("recalls twice");
    const urls = [hospital.node.run().url, other.run().url] as const;
    for (let round = 0; round < 12; round += 1) {
      const phone = await hospital.phone();
      const there = phoneOf({ url: urls[1] }, phone.registration);
      const { trackingId, uniqueId } = await pageTo(host, phone);
      const [page] = await phone.fetches();
      await Promise.all([
        ...urls.map((url) => recalls(uniqueId, url)),
        round % 2 === 0 ? there.confirms([uniqueId]) : phone.answers(page!, "IGNORED"),
      ]);
      const said = round % 2 === 0 ? "DELIVERED" : "IGNORED";
      for (const status of ["FAILED", said] as const) await host.awaits(trackingId, status, { within: 30_000 });
      const told = host.statuses(trackingId).filter((status) => status !== "ENROUTE");
      assert.equal(new Set(told), new Set(["ACCEPTED", "QUEUED", "FAILED", said]));
      assert.is(told.length, 4, "each once");
      phone.wakesOnPush(emulatorUrl());
      await phone.hears("RECALLED", uniqueId);
      assert.equal(phone.pages(), [], "it is given to nobody any more");
      await phone.switchesOff();
    }
  } finally {
    await other.close();
  }
});

test("when every node dies in the instant of the recall, host and phone hear of it from the next that starts", async () => {
  await hospital.knows("recalls and dies");
  const host = await connectHost({ port: hospital.node.run().mxpp!.port, name: "recalls and dies" });
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(host, phone);
  await host.awaits(trackingId, "ENROUTE");
  await phone.confirms((await phone.fetches()).map((page) => page.UniqueId));
  await host.awaits(trackingId, "DELIVERED");
  const database = openDatabase(
    { name: "premise_core", urls: [hospital.databaseUrl], node: "gone", connectionsMax: 1 },
    { log: silentLog },
  );
  await database.untilUp(5_000);
  await hospital.node.kills();
  // As the node's own statement, with nobody left to do what follows it.
  await recallPage(database, "gone", { uniqueId: uniqueId as UniqueId, by: "operator", reason: null });
  await database.close();
  await hospital.node.starts();
  await eventually("the phone is woken for it", async () => (await ringsOf(phone)).includes("silent"), 20_000);
  assert.equal(await ringsOf(phone), ["silent"]);
  const back = await connectHost({ port: hospital.node.run().mxpp!.port, name: "recalls and dies" });
  // It is known by what it sends.
  await back.sends({ destination: "nobody" });
  assert.is((await back.awaits(trackingId, "FAILED")).reason, REASON);
  const { url } = hospital.node.run();
  const same = phoneOf({ url }, phone.registration);
  same.wakesOnPush(emulatorUrl());
  await same.hears("RECALLED", uniqueId);
  await same.switchesOff();
  await back.closes();
});

test.run();
