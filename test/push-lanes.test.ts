import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceId, type GatewayType, type Priority, systemClock } from "../domain.ts";
import { type Hosted, openHosted } from "../gateways/core2core/hosted.ts";
import type { PushProvider } from "../gateways/push/provider.ts";
import { openPush, type Push } from "../gateways/push/push.ts";
import { openPushWorker } from "../gateways/push/worker.ts";
import { silentLog } from "../log.ts";
import { type Meter, silentMeter } from "../meter.ts";
import { enqueue } from "../persistence/message-queue.ts";
import { type Notification, storeNotifications } from "../persistence/notifications.ts";
import { eventually } from "./helpers/eventually.ts";
import { pushClients } from "./helpers/push-clients.ts";
import { startRedis } from "./helpers/redis.ts";
import { openWakeUps } from "./helpers/wake-ups.ts";

const ward = await openWakeUps();
const redis = await startRedis();
const clients = await pushClients();
const { database, sql, notification, row } = ward;
let closers: { close(): Promise<void> }[] = [];
test.after.each(async () => {
  for (const part of closers) await part.close();
  closers = [];
  await clients.forget();
  await ward.forgets();
});
test.after(async () => {
  await clients.emulator.close();
  await redis.close();
  await ward.close();
});

const tools = { log: silentLog, clock: systemClock, premise: database, core: database };
function openNode(more: { url?: string | null; meter?: Meter } = {}): Hosted & { readonly push: Push } {
  const url = more.url ?? null;
  const providers = new Map<GatewayType, PushProvider>([
    ["GCM", clients.fcm()],
    ["APNS", clients.apns()],
  ]);
  const slice = { redis: url === null ? null : { url, prefix: randomUUID() } };
  const push = openPush(slice, { ...tools, meter: more.meter ?? silentMeter, providers });
  const hosted = openHosted({ ...tools, queued: push.queued });
  closers.push(hosted, push);
  return { ...hosted, push };
}
const pushesTo = (token: string) => clients.emulator.pushes(`?token=${token}`);

for (const [gatewayType, provider] of [
  ["GCM", "FCM"],
  ["APNS", "APNS"],
] as const) {
  for (const [path, url] of [
    ["due rows", null],
    ["BullMQ", redis.url],
  ] as const) {
    test(`a slow ${provider} with 1,000 pushes waiting: an urgent one goes out at once (${path})`, async () => {
      const node = openNode({ url });
      await clients.script({ provider, token: "urgent", delayMs: 0, times: 100 });
      await clients.script({ provider, delayMs: 30_000, times: 100_000 });
      const ask = (priority: Priority, notificationAddress: string) =>
        node.request(notification({ gatewayType, priority, notificationAddress }), priority === "high");
      await Promise.all(Array.from({ length: 1_000 }, (_, n) => ask(n % 2 === 0 ? "medium" : "low", `normal-${n}`)));
      const waiting = async () =>
        (await sql<{ claimed: boolean }[]>`select claimed_until is not null as claimed from core.message_queue`).map(
          ({ claimed }) => claimed,
        );
      await eventually("all slots but the urgent ones are taken", async () => {
        const rows = await waiting();
        return rows.length === 1_000 && rows.filter((claimed) => claimed).length >= 60;
      });
      await sleep(600); // longer than between two looks at the rows
      assert.is((await waiting()).filter((claimed) => claimed).length, 60, "and no more than those");
      await Promise.all(Array.from({ length: 50 }, () => ask("high", "urgent")));
      await eventually("the urgent ones are taken", async () => (await pushesTo("urgent")).length === 50);
      assert.is((await clients.emulator.pushes()).length, 50, "before any other");
    });
  }
}

test("a request for a device whose push waits behind a slow service, now urgent, goes out at once", async () => {
  const node = openNode();
  await clients.script({ provider: "FCM", token: "d", delayMs: 0, times: 100 });
  await clients.script({ provider: "FCM", delayMs: 30_000, times: 100_000 });
  await Promise.all(Array.from({ length: 80 }, () => node.request(notification({ priority: "low" }), false)));
  await eventually("its slots are taken", async () => {
    return (await sql`select from core.message_queue where claimed_until is not null`).length === 60;
  });
  const deviceId = randomUUID() as DeviceId;
  const first = notification({ deviceId, priority: "low", notificationAddress: "d" });
  await node.request(first, false);
  const second = notification({ deviceId, priority: "high", notificationAddress: "d" });
  await node.request(second, true);
  await eventually("it went out", async () => (await row(second.id)).state === "SENT");
  assert.is((await row(first.id)).supersededBy, second.id);
  assert.is((await pushesTo("d")).length, 1);
});

test("what a push took is measured from when it was due, its waiting included", async () => {
  const observed: { seconds: number; outcome: string | undefined }[] = [];
  const meter: Meter = {
    ...silentMeter,
    observe: (name, seconds, labels) => {
      if (name === "push") observed.push({ seconds, outcome: (labels as { outcome?: string }).outcome });
    },
  };
  const [one] = await ward.owed();
  await sql`update core.message_queue set due_at = due_at - interval '40 seconds'`;
  openNode({ meter });
  await eventually("it went out", async () => (await row(one!.id)).state === "SENT");
  assert.is(observed.length, 1);
  const { seconds, outcome } = observed[0]!;
  assert.is(outcome, "accepted");
  assert.ok(seconds >= 40 && seconds < 60, `${seconds}`);
});

test("a push for a device that has fetched everything is settled, not sent", async () => {
  const device = await ward.device(await ward.subscriber("5550001"));
  const node = openNode();
  const [fetched, stranger] = [notification({ deviceId: device, notificationAddress: "fetched" }), notification()];
  await node.request(fetched, true);
  await node.request(stranger, true);
  const state = async ({ id }: Notification) => (await row(id)).state;
  await eventually(
    "both are done",
    async () => (await state(fetched)) !== "STORED" && (await state(stranger)) !== "STORED",
  );
  assert.equal([await state(fetched), await state(stranger)], ["SETTLED", "SENT"]);
  assert.equal(await pushesTo("fetched"), []);
});

test("a device that moves to another push service while its push waits: the old one never sees the new address", async () => {
  const device = await ward.device(await ward.subscriber("5550002"), { address: "of-apple" });
  const moved = notification({ deviceId: device, gatewayType: "APNS", notificationAddress: "of-apple" });
  // As it stands between the storing of the new request and its way into the queue.
  await storeNotifications(database, [moved]);
  await enqueue(database, [{ ...moved, gatewayType: "GCM" }]);
  openNode();
  await eventually("the row of before is gone", async () => (await ward.queueRow(device)) === undefined);
  assert.is((await row(moved.id)).state, "STORED");
  await sql`update premise_core.notifications set queue_check_at = now() where id = ${moved.id}`;
  await eventually("the right one has looked at it", async () => (await row(moved.id)).state !== "STORED");
  assert.equal(await clients.emulator.pushes(), []);
  const [address] = await sql<{ is: string }[]>`
    select notification_address as is from premise_core.devices where id = ${device}`;
  assert.is(address!.is, "of-apple", "nobody has called it dead");
});

test("hints and rows together take no more than the slots", async () => {
  let flying = 0;
  let most = 0;
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const provider: PushProvider = {
    name: "FCM",
    async send() {
      flying += 1;
      most = Math.max(most, flying);
      await held;
      flying -= 1;
      return { kind: "accepted", providerId: null };
    },
    close: async () => {},
  };
  const lane = { gatewayType: "GCM", urgent: true } as const;
  const pushes = await ward.owed({}, 8);
  const worker = openPushWorker(
    { lane, slots: 2 },
    { ...tools, provider, meter: silentMeter, redisUp: () => true, again: () => {}, random: Math.random },
  );
  closers.push(worker);
  const performed = pushes.slice(0, 4).map(({ deviceId }) => worker.perform(deviceId));
  await eventually("the slots are taken", () => flying === 2);
  worker.wake();
  await sleep(300);
  assert.is(most, 2);
  release();
  await Promise.all(performed);
  for (const { id } of pushes) await eventually("all go out", async () => (await row(id)).state === "SENT");
  assert.is(most, 2);
});

test("where most of a lane's slots hang, the few that do not go on being filled as they come free", async () => {
  const [hanging, quick] = [await ward.owed({ notificationAddress: "hangs" }, 36), await ward.owed({}, 250)];
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const hung: string[] = [];
  const provider: PushProvider = {
    name: "FCM",
    async send({ id, notificationAddress }) {
      if (notificationAddress === "hangs") {
        hung.push(id);
        await held;
      } else await sleep(10);
      return { kind: "accepted", providerId: null };
    },
    close: async () => {},
  };
  const lane = { gatewayType: "GCM", urgent: true } as const;
  // With Redis, rows are looked at by themselves once a second: four at a time would take a minute.
  const worker = openPushWorker(
    { lane, slots: 40 },
    { ...tools, provider, meter: silentMeter, redisUp: () => false, again: () => {}, random: Math.random },
  );
  closers.push(worker);
  await eventually("most of the slots hang", () => hung.length === hanging.length);
  await eventually("all the others are sent", async () => {
    const rows =
      await sql`select from premise_core.notifications where id = any (${quick.map(({ id }) => id)}) and state = 'SENT'`;
    return rows.length === quick.length;
  });
  release();
});

test("a worker whose slots are all taken by a mute service closes within its deadline", async () => {
  const node = openNode();
  await clients.script({ provider: "FCM", action: "silent", times: 1_000 });
  await Promise.all(Array.from({ length: 200 }, () => node.request(notification(), true)));
  await eventually("its slots are taken", async () => {
    return (await sql`select from core.message_queue where claimed_until is not null`).length === 40;
  });
  const begun = performance.now();
  await node.push.close();
  assert.ok(performance.now() - begun < 6_000, "a send may take 10 s");
});

test.run();
