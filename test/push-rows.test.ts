import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, GatewayType, NotificationId, Priority } from "../domain.ts";
import {
  claimDuePushes,
  claimPushes,
  claimUnserved,
  enqueue,
  type QueueEntry,
  settlePushes,
} from "../persistence/message-queue.ts";
import { openWakeUps } from "./helpers/wake-ups.ts";

const ward = await openWakeUps();
const { database, sql, queueRow, timePasses } = ward;
test.after(() => ward.close());
test.after.each(() => ward.forgets());

const entry = (more: Partial<QueueEntry> = {}): QueueEntry => ({
  ...{ id: randomUUID() as NotificationId, deviceId: randomUUID() as DeviceId, gatewayType: "GCM", priority: "high" },
  ...more,
});
async function queued(more: Partial<QueueEntry> = {}, count = 1): Promise<DeviceId[]> {
  const entries = Array.from({ length: count }, () => entry(more));
  await enqueue(database, entries);
  return entries.map(({ deviceId }) => deviceId);
}
async function claimedOf(device: DeviceId) {
  const [push] = await claimPushes(database, [device]);
  assert.ok(push, "it could be claimed");
  return push;
}
const devicesOf = (pushes: readonly { deviceId: DeviceId }[]) => pushes.map(({ deviceId }) => deviceId);
const URGENT = { gatewayType: "GCM", urgent: true } as const;
const NORMAL = { gatewayType: "GCM", urgent: false } as const;
const ago = (device: DeviceId, seconds: number) =>
  sql`update core.message_queue set due_at = clock_timestamp() - ${seconds} * interval '1 second' where device_id = ${device}`;

test("a device is claimed by one of many who ask at once, and by another only when the claim has run out", async () => {
  const devices = await queued({}, 60);
  const claims = await Promise.all([1, 2, 3, 4, 5, 6].map(() => claimPushes(database, devices)));
  assert.equal(devicesOf(claims.flat()).sort(), [...devices].sort(), "each once");
  assert.equal(await claimPushes(database, devices), []);
  assert.equal(await claimDuePushes(database, URGENT, 0, 100), []);
  await timePasses();
  assert.is((await claimPushes(database, devices)).length, 60);
});

test("nodes that sweep at once share what is due and claim nothing twice", async () => {
  const devices = await queued({}, 100);
  const claims = await Promise.all(Array.from({ length: 8 }, () => claimDuePushes(database, URGENT, 0, 20)));
  const all = devicesOf(claims.flat());
  assert.is(new Set(all).size, all.length);
  assert.ok(claims.every((one) => one.length <= 20));
  const rest = devicesOf(await claimDuePushes(database, URGENT, 0, 100));
  assert.equal([...all, ...rest].sort(), [...devices].sort());
});

test("a lane claims its own: high priority apart from the rest, the most urgent first, and only when overdue", async () => {
  const [low] = await queued({ priority: "low" as Priority });
  const [medium] = await queued({ priority: "medium" });
  const [high] = await queued({ priority: "high" });
  await queued({ gatewayType: "APNS" as GatewayType });
  assert.equal(await claimDuePushes(database, URGENT, 60_000, 10), []);
  assert.equal(devicesOf(await claimDuePushes(database, NORMAL, 0, 1)), [medium]);
  assert.equal(devicesOf(await claimDuePushes(database, NORMAL, 0, 10)), [low]);
  assert.equal(devicesOf(await claimDuePushes(database, URGENT, 0, 10)), [high]);
  assert.is((await claimDuePushes(database, { gatewayType: "APNS", urgent: true }, 0, 10)).length, 1);
});

test("a claim says for how long the push has been due", async () => {
  const [device] = await queued();
  await ago(device!, 7);
  const { lateMs } = await claimedOf(device!);
  assert.ok(lateMs >= 7_000 && lateMs < 9_000, `${lateMs}`);
});

test("a device that is queued again keeps its place, takes the higher priority and goes where its requests now go", async () => {
  const [busy, other] = await queued({ priority: "low" }, 2);
  await ago(busy!, 60);
  await ago(other!, 30);
  for (const priority of ["low", "medium", "low"] as const)
    await enqueue(database, [entry({ deviceId: busy!, priority })]);
  const row = (await queueRow(busy!))!;
  assert.is(row.priority, 1);
  assert.ok(row.dueMs < -59_000, "it is still due since then");
  await enqueue(database, [entry({ deviceId: other!, priority: "medium" })]);
  assert.equal(devicesOf(await claimDuePushes(database, NORMAL, 0, 1)), [busy]);
  await enqueue(database, [entry({ deviceId: busy!, gatewayType: "APNS" })]);
  assert.is((await queueRow(busy!))!.gatewayType, "APNS");
  assert.is((await sql`select from core.message_queue`).length, 2, "one row a device");
});

test("what is asked for while a push waits for its next try is due at once", async () => {
  const [device] = await queued();
  const push = await claimedOf(device!);
  await settlePushes(database, [{ ...push, retryMs: 60_000 }]);
  assert.ok((await queueRow(device!))!.dueMs > 58_000);
  await enqueue(database, [entry({ deviceId: device! })]);
  await claimedOf(device!);
});

test("two requests for one device in a statement make one row of the higher priority", async () => {
  const deviceId = randomUUID() as DeviceId;
  await enqueue(database, [entry({ deviceId, priority: "low" }), entry({ deviceId, priority: "high" })]);
  assert.is((await queueRow(deviceId))!.priority, 0);
});

test("settling takes a done push out and makes the other due again; a second time changes nothing that matters", async () => {
  const [done, again] = (await queued({}, 2)) as [DeviceId, DeviceId];
  const settle = [
    { ...(await claimedOf(done)), retryMs: null },
    { ...(await claimedOf(again)), retryMs: 20_000 },
  ];
  await settlePushes(database, settle);
  await settlePushes(database, settle);
  assert.is(await queueRow(done), undefined);
  const waiting = (await queueRow(again))!;
  assert.ok(waiting.dueMs <= 20_000 && waiting.dueMs > 18_000);
  assert.not(waiting.claimed);
  assert.equal(await claimPushes(database, [again]), [], "not before it is due");
});

test("who comes late with a claim that has run out ends neither the next one's claim nor its push", async () => {
  const [device] = await queued();
  const slow = await claimedOf(device!);
  await timePasses();
  const next = await claimedOf(device!);
  for (const retryMs of [null, 60_000]) await settlePushes(database, [{ ...slow, retryMs }]);
  assert.is((await queueRow(device!))!.claimed, true);
  assert.equal(await claimPushes(database, [device!]), [], "nobody else comes between");
  await settlePushes(database, [{ ...next, retryMs: null }]);
  assert.is(await queueRow(device!), undefined);
});

test("what is asked for while a push is performed is performed too: at once, and whatever becomes of the first", async () => {
  for (const retryMs of [null, 60_000]) {
    const [device] = await queued();
    const first = await claimedOf(device!);
    await enqueue(database, [entry({ deviceId: device! })]);
    const second = await claimedOf(device!);
    await settlePushes(database, [{ ...first, retryMs }]);
    assert.is((await queueRow(device!))!.claimed, true, "the second is still under way");
    await settlePushes(database, [{ ...second, retryMs: null }]);
    assert.is(await queueRow(device!), undefined);
  }
});

test("what is asked for while a push is performed is still owed when the push was settled first", async () => {
  for (const retryMs of [null, 60_000]) {
    const [device] = await queued();
    const first = await claimedOf(device!);
    await enqueue(database, [entry({ deviceId: device! })]);
    await settlePushes(database, [{ ...first, retryMs }]);
    await claimedOf(device!);
  }
});

test("an overdue notification takes no claim from anybody, and ends a wait", async () => {
  const [device] = await queued();
  const push = await claimedOf(device!);
  const overdue = entry({ deviceId: device!, gatewayType: "APNS" });
  await enqueue(database, [overdue], "overdue");
  assert.equal(await claimPushes(database, [device!]), []);
  await settlePushes(database, [{ ...push, retryMs: 60_000 }]);
  await enqueue(database, [overdue], "overdue");
  await claimedOf(device!);
  assert.is((await queueRow(device!))!.gatewayType, "GCM", "its place belongs to the newest request");
  const lost = entry();
  await enqueue(database, [lost], "overdue");
  await claimedOf(lost.deviceId);
});

test("unserved is what waits for a push service that others serve neither here nor, by any claim, elsewhere", async () => {
  const [apple] = await queued({ gatewayType: "APNS" });
  const [google] = await queued({ gatewayType: "GCM" });
  for (const device of [apple, google]) await ago(device!, 30);
  const look = async (limit = 10) => devicesOf(await claimUnserved(database, ["GCM"], 20_000, limit));
  assert.equal(await look(0), []);
  const [young] = await queued({ gatewayType: "APNS" });
  const elsewhere = await claimedOf(young!);
  assert.equal(await look(), [], "a node that serves it is at work");
  await settlePushes(database, [{ ...elsewhere, retryMs: 1_000 }]);
  assert.equal(await look(), [apple]);
  assert.equal(await look(), []);
});

test("queueing, claiming and settling the same devices at once never fails, and leaves nothing claimed by nobody", async () => {
  const devices = Array.from({ length: 30 }, () => randomUUID() as DeviceId);
  const shuffled = () => [...devices].sort(() => Math.random() - 0.5);
  const queueing = Array.from({ length: 6 }, async (_, n) => {
    for (let round = 0; round < 25; round += 1)
      await enqueue(
        database,
        shuffled().map((deviceId) => entry({ deviceId, priority: n % 2 === 0 ? "high" : "low" })),
        n < 4 ? "new" : "overdue",
      );
  });
  let busy = true;
  const working = Array.from({ length: 6 }, async (_, n) => {
    while (busy) {
      const claimed =
        n % 2 === 0 ? await claimPushes(database, shuffled()) : await claimDuePushes(database, URGENT, 0, 20);
      await settlePushes(
        database,
        claimed.sort(() => Math.random() - 0.5).map((push) => ({ ...push, retryMs: Math.random() < 0.5 ? null : 0 })),
      );
    }
  });
  await Promise.all(queueing);
  busy = false;
  await Promise.all(working);
  const left = await sql<{ claimed: boolean }[]>`select claimed_until is not null as claimed from core.message_queue`;
  assert.ok(left.every(({ claimed }) => !claimed));
});

test.run();
