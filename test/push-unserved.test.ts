// limit: 120 s, waits
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceId, type GatewayType, type NotificationId, systemClock } from "../domain.ts";
import { openPush } from "../gateways/push/push.ts";
import { openUnserved } from "../gateways/push/unserved.ts";
import { type Log, type LogFields, silentLog } from "../log.ts";
import { type Meter, silentMeter } from "../meter.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { claimPushes, enqueue, settlePushes } from "../persistence/message-queue.ts";
import { type Change, changeMessages } from "../persistence/messages.ts";
import { storeNotifications } from "../persistence/notifications.ts";
import { trace } from "../persistence/trace.ts";
import { eventually } from "./helpers/eventually.ts";
import { pushClients } from "./helpers/push-clients.ts";
import { openWakeUps } from "./helpers/wake-ups.ts";
import { pageFor } from "./helpers/ward.ts";

const ward = await openWakeUps();
const clients = await pushClients();
const { database, sql, owed, row, queueRow } = ward;
let closers: { close(): Promise<void> }[] = [];
test.after.each(async () => {
  for (const part of closers) await part.close();
  closers = [];
  await clients.forget();
  await ward.forgets();
});
test.after(async () => {
  await clients.emulator.close();
  await ward.close();
});

const alarms: LogFields[] = [];
const log: Log = { ...silentLog, error: (fields) => alarms.push(fields), child: () => log };
const counted: (LogFields & { readonly by: number })[] = [];
const meter: Meter = { ...silentMeter, count: (_name, labels = {}, by = 1) => void counted.push({ ...labels, by }) };
const tools = { premise: database, core: database, log, meter, clock: systemClock };
test.before.each(() => {
  alarms.length = 0;
  counted.length = 0;
});

const QUICK = { lookMs: 30, overdueMs: 400 };
/** Where it matters that something is not refused yet, however busy this machine. */
const UNHURRIED = { ...QUICK, overdueMs: 2_000 };
function watch(served: readonly GatewayType[], clock = systemClock, limits = QUICK): void {
  closers.push(openUnserved(served, { ...tools, clock }, limits));
}
const refused = (id: NotificationId) => eventually("it is refused", async () => (await row(id)).state === "REFUSED");

test("a push for a service without credentials ends as refused, the page's trace says so, and an alarm is raised", async () => {
  const destination = "5550001";
  const device = await ward.device(await ward.subscriber(destination));
  const page = pageFor(ward, await ward.host("lab"), destination);
  await acceptPages(database, "node", [page]);
  const [push] = await owed({ deviceId: device, gatewayType: "APNS" });
  const change: Change = {
    uniqueId: page.uniqueId,
    version: 2,
    event: "ENROUTE",
    detail: push!.id,
    transport: "ENROUTE",
    outcome: null,
    tell: "ENROUTE",
    wakes: false,
    due: 30_000,
  };
  await changeMessages(database, "node", [change]);
  watch(["GCM"]);
  await refused(push!.id);
  const { code, attempts, checkMs } = await row(push!.id);
  assert.equal([code, attempts, checkMs], ["no-credentials", 1, null], "it is looked at no more");
  await eventually("nothing is owed", async () => (await queueRow(device)) === undefined);
  const found = (await trace(database, page.uniqueId))!;
  assert.match(found.why, /^APNS? refused the wake-up \d s ago \(no-credentials\)/i);
  assert.ok(found.events.some(({ event, detail }) => event === "PUSH REFUSED" && /no-credentials/.test(detail ?? "")));
  await eventually("the alarm is raised", () => alarms.length > 0);
  assert.equal(alarms, [{ gatewayType: "APNS", pushes: 1, code: "no-credentials" }]);
  assert.equal(counted, [{ provider: "APNS", outcome: "refused", code: "no-credentials", by: 1 }]);
});

test("a later wake-up of the same device is refused anew while there are no credentials, and sent once there are", async () => {
  const deviceId = randomUUID() as DeviceId;
  watch(["GCM"]);
  for (let n = 0; n < 2; n += 1) {
    const [push] = await owed({ deviceId, gatewayType: "APNS" });
    await refused(push!.id);
  }
  const push = openPush({ redis: null }, { ...tools, providers: new Map([["APNS", clients.apns()]]) });
  closers.push(push);
  const [last] = await owed({ deviceId, gatewayType: "APNS" });
  await eventually("it is sent", async () => (await row(last!.id)).state === "SENT");
});

test("many at once are one line of the log", async () => {
  const pushes = await owed({ gatewayType: "APNS" }, 120);
  watch([]);
  for (const { id } of pushes) await refused(id);
  await eventually("all are counted", () => counted.reduce((sum, { by }) => sum + by, 0) === 120);
  assert.ok(alarms.length <= 2, `${alarms.length} lines`);
});

test("what this node serves, what has only just come due, and what nobody waits for is not refused", async () => {
  const [served] = await owed({ gatewayType: "GCM" });
  const device = await ward.device(await ward.subscriber("5550002"));
  const [unwanted] = await owed({ deviceId: device, gatewayType: "APNS" });
  watch(["GCM"], systemClock, UNHURRIED);
  await eventually("what nobody waits for is settled", async () => (await row(unwanted!.id)).state === "SETTLED");
  const [young] = await owed({ gatewayType: "APNS" });
  await sleep(200);
  assert.equal(
    [(await row(served!.id)).state, (await row(unwanted!.id)).state, (await row(young!.id)).state],
    ["STORED", "SETTLED", "STORED"],
  );
  assert.equal(alarms, []);
});

test("while another node serves it, however slowly, nothing is refused", async () => {
  const pushes = await owed({ gatewayType: "APNS" }, 3);
  const [busy] = await claimPushes(database, [pushes[0]!.deviceId]);
  watch(["GCM"]);
  await sleep(1_000);
  for (const { id } of pushes) assert.is((await row(id)).state, "STORED");
  await settlePushes(database, [{ ...busy!, retryMs: null }]);
  for (const { id } of pushes.slice(1)) await refused(id);
});

test("after a time without looks, as after the database was away, others get their time to serve first", async () => {
  let ahead = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + ahead };
  watch(["GCM"], clock, UNHURRIED);
  await sleep(2_200);
  ahead = 20_000;
  await sleep(100);
  const [push] = await owed({ gatewayType: "APNS" });
  await sql`update core.message_queue set due_at = due_at - interval '1 minute'`;
  await sleep(150);
  assert.is((await row(push!.id)).state, "STORED");
  await refused(push!.id);
});

test("a device that has moved to a service that is served is not refused there", async () => {
  const one = ward.notification({ gatewayType: "GCM" });
  await storeNotifications(database, [one]);
  await enqueue(database, [{ ...one, gatewayType: "APNS" }]);
  watch(["GCM"]);
  await eventually("the row of before is gone", async () => (await queueRow(one.deviceId)) === undefined);
  assert.is((await row(one.id)).state, "STORED");
});

test("a node looks for what nobody serves by itself, and gives others 20 s", async () => {
  const push = openPush({ redis: null }, { ...tools, providers: new Map([["GCM", clients.fcm()]]) });
  closers.push(push);
  const [one] = await owed({ gatewayType: "APNS" });
  await sleep(15_000);
  assert.is((await row(one!.id)).state, "STORED");
  await eventually("it is refused", async () => (await row(one!.id)).state === "REFUSED", 20_000);
});

test.run();
