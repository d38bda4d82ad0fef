import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Clock, type DeviceId, type NotificationId, systemClock } from "../domain.ts";
import { openPushWorker } from "../gateways/push/worker.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import { type Database, DatabaseDown } from "../persistence/database.ts";
import {
  type ClaimedPush,
  claimDuePushes,
  claimPushes,
  enqueue,
  type QueueEntry,
  settlePushes,
} from "../persistence/message-queue.ts";
import {
  type Notification,
  type OpenNotification,
  openNotifications,
  overdueNotifications,
  type RecordedOutcome,
  recordOutcomes,
  storeNotifications,
} from "../persistence/notifications.ts";
import { eventually } from "./helpers/eventually.ts";
import { randomFrom } from "./helpers/random.ts";
import { entryOf, openWakeUps, outcome } from "./helpers/wake-ups.ts";

const ward = await openWakeUps();
const { database, sql, notification, owed, row, queueRow, timePasses } = ward;
test.after(() => ward.close());
test.after.each(() => ward.forgets());

const LANE = { gatewayType: "GCM", urgent: true } as const;

/** One node that may die after any of its steps. */
async function work(
  result: RecordedOutcome["state"],
  sent: NotificationId[],
  steps = Number.POSITIVE_INFINITY,
): Promise<void> {
  let left = steps;
  const dies = () => left-- <= 0;
  for (const push of await claimDuePushes(database, LANE, 0, 10)) {
    if (dies()) return;
    const [open] = await openNotifications(database, [push.deviceId]);
    if (dies()) return;
    if (open !== undefined) {
      sent.push(open.id);
      if (dies()) return;
      await recordOutcomes(database, [outcome(open.id, { attempts: open.attempts, state: result, retryMs: 1_000 })]);
      if (dies()) return;
    }
    await settlePushes(database, [{ ...push, retryMs: open !== undefined && result === "STORED" ? 1_000 : null }]);
  }
}

async function requeue(): Promise<void> {
  await enqueue(database, await overdueNotifications(database, 100), "overdue");
}

async function performs(premise: Database, clock: Clock): Promise<void> {
  const [push] = await owed();
  const sent: string[] = [];
  const worker = openPushWorker(
    { lane: LANE, slots: 2 },
    {
      ...{ premise, core: database, log: silentLog, meter: silentMeter, clock },
      provider: {
        name: "FCM",
        async send({ id, expiresAt }) {
          sent.push(`${id}, ${Math.round((expiresAt - clock.wall()) / 60_000)} minutes left`);
          return { kind: "accepted", providerId: null };
        },
        async close() {},
      },
      redisUp: null,
      again() {},
      random: Math.random,
    },
  );
  await eventually("it is settled", async () => (await queueRow(push!.deviceId)) === undefined);
  await worker.close();
  assert.equal(sent, [`${push!.id}, 60 minutes left`]);
  assert.is((await row(push!.id)).state, "SENT");
}

test("a node whose clock is wrong by days ends no push before its time", async () => {
  for (const days of [4, -4]) await performs(database, { ...systemClock, wall: () => Date.now() + days * 86_400_000 });
});

test("a push whose database went away for a moment before it was sent does not wait for its claim to run out", async () => {
  let statements = 0;
  const flickering: Database = {
    ...database,
    run: (...asked) => ((statements += 1) <= 2 ? Promise.reject(new DatabaseDown(true)) : database.run(...asked)),
  };
  await performs(flickering, systemClock);
  assert.is(statements, 4, "two that failed, one that read, one that recorded");
});

const NAMES = ["stored", "queued", "claimed", "read", "sent", "recorded", "settled"];
for (const [death, name] of NAMES.entries()) {
  for (const result of ["SENT", "STORED"] as const) {
    test(`a node that dies once it has ${name} it, where the push service says ${result}: another one finishes the work`, async () => {
      const one = notification();
      const sent: NotificationId[] = [];
      await storeNotifications(database, [one]);
      if (death >= 1) await enqueue(database, [one]);
      if (death >= 2) await work(result, sent, death - 2);
      for (let round = 0; round < 4; round += 1) {
        await timePasses();
        await requeue();
        await work("SENT", sent);
      }
      const after = await row(one.id);
      assert.is(after.state, "SENT");
      assert.is(await queueRow(one.deviceId), undefined, "nothing is owed any more");
      assert.ok(sent.length >= 1 && sent.length <= 2, `sent ${sent.length} times`);
      assert.is(
        after.attempts,
        1 + Number(result === "STORED" && death >= 5),
        "an attempt is counted with its outcome",
      );
      await timePasses();
      await requeue();
      assert.is(await queueRow(one.deviceId), undefined);
    });
  }
}

test("a slow node's late word about a push that another has taken over leaves nothing undone", async () => {
  const [{ id, deviceId }] = (await owed()) as [Notification];
  const [slow] = (await claimPushes(database, [deviceId])) as [ClaimedPush];
  await timePasses();
  const [next] = (await claimPushes(database, [deviceId])) as [ClaimedPush];
  await recordOutcomes(database, [outcome(id, { state: "STORED", retryMs: 60_000 })]);
  await settlePushes(database, [{ ...next, retryMs: 60_000 }]);
  // The slow one took the same reading, and would take the push out of the queue.
  await recordOutcomes(database, [outcome(id, { state: "REFUSED" })]);
  await settlePushes(database, [{ ...slow, retryMs: null }]);
  assert.is((await row(id)).state, "STORED");
  assert.ok((await queueRow(deviceId))!.dueMs > 58_000, "it waits its time");
});

test("a row queued again after its request was done is found done and settled", async () => {
  const [one] = await owed();
  const sent: NotificationId[] = [];
  await work("SENT", sent);
  await enqueue(database, [entryOf(one!)]);
  await work("SENT", sent);
  assert.equal([await queueRow(one!.deviceId), sent.length], [undefined, 1]);
});

test("a request that was stored, and lost before it was queued, ends the wait of the one it took the place of", async () => {
  const deviceId = randomUUID() as DeviceId;
  const [first] = await owed({ deviceId });
  const [push] = (await claimPushes(database, [deviceId])) as [ClaimedPush];
  const last = notification({ deviceId });
  await storeNotifications(database, [last]);
  await recordOutcomes(database, [outcome(first!.id, { state: "STORED", retryMs: 60_000 })]);
  await settlePushes(database, [{ ...push, retryMs: 60_000 }]);
  // Only the notifications' time passes: the queue's row would wait for a minute.
  await sql`update premise_core.notifications set queue_check_at = clock_timestamp() where queue_check_at is not null`;
  await requeue();
  const sent: NotificationId[] = [];
  await work("SENT", sent);
  assert.equal(sent, [last.id]);
});

/**
 * The promise of the whole: whatever is stored is followed by a push, of itself or of a later one of its device, that is
 * begun after it was stored. Steps of storers and workers in any order, any of them lost with its node, late words included.
 */
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
for (let run = 0; run < 25; run += 1) {
  test(`no request is forgotten, in whatever order nodes take their steps and die (SEED=${SEED + run})`, async () => {
    const random = randomFrom(SEED + run).next;
    const pick = <T>(list: T[]): T | undefined => list.splice(Math.floor(random() * list.length), 1)[0];
    const devices = [randomUUID(), randomUUID()] as DeviceId[];
    const stored: { id: NotificationId; deviceId: DeviceId; at: number }[] = [];
    const sends: { deviceId: DeviceId; at: number }[] = [];
    const unqueued: QueueEntry[] = [];
    const claimed: ClaimedPush[] = [];
    const read: { push: ClaimedPush; open: OpenNotification | null }[] = [];
    const recorded: { push: ClaimedPush; retryMs: number | null }[] = [];
    let now = 0;

    const steps: (() => Promise<unknown>)[] = [
      async () => {
        const deviceId = devices[Math.floor(random() * devices.length)]!;
        const one = notification({ deviceId });
        const [entry] = await storeNotifications(database, [one]);
        stored.push({ id: one.id, deviceId, at: now });
        unqueued.push(entry!);
      },
      async () => {
        const entry = pick(unqueued);
        if (entry !== undefined) await enqueue(database, [entry]);
      },
      async () => claimed.push(...(await claimDuePushes(database, LANE, 0, 1))),
      async () => {
        const push = pick(claimed);
        if (push === undefined) return;
        const [open] = await openNotifications(database, [push.deviceId]);
        read.push({ push, open: open ?? null });
      },
      async () => {
        const one = pick(read);
        if (one === undefined) return;
        const { push, open } = one;
        if (open === null) {
          recorded.push({ push, retryMs: null });
          return;
        }
        const state = random() < 0.5 ? "SENT" : "STORED";
        if (state === "SENT") sends.push({ deviceId: push.deviceId, at: now });
        await recordOutcomes(database, [outcome(open.id, { attempts: open.attempts, state, retryMs: 5_000 })]);
        recorded.push({ push, retryMs: state === "STORED" ? 5_000 : null });
      },
      async () => {
        const one = pick(recorded);
        if (one !== undefined) await settlePushes(database, [{ ...one.push, retryMs: one.retryMs }]);
      },
      async () => pick([unqueued, claimed, read, recorded][Math.floor(random() * 4)] as unknown[]),
      async () => {
        if (random() < 0.3) await timePasses();
        await requeue();
      },
    ];
    for (now = 1; now <= 80; now += 1) await steps[Math.floor(random() * steps.length)]!();
    for (let round = 0; round < 6; round += 1) {
      now += 1;
      await timePasses();
      await requeue();
      for (const push of await claimDuePushes(database, LANE, 0, 10)) {
        const [open] = await openNotifications(database, [push.deviceId]);
        if (open !== undefined) {
          sends.push({ deviceId: push.deviceId, at: now });
          await recordOutcomes(database, [outcome(open.id, { attempts: open.attempts })]);
        }
        await settlePushes(database, [{ ...push, retryMs: null }]);
      }
    }
    for (const { deviceId, at, id } of stored)
      assert.ok(
        sends.some((send) => send.deviceId === deviceId && send.at > at),
        `${id} was stored at ${at} and nothing was sent after it`,
      );
    const ends = await sql<{ state: string }[]>`
      select distinct state from premise_core.notifications where superseded_by is null`;
    assert.equal(
      ends.map(({ state }) => state),
      stored.length > 0 ? ["SENT"] : [],
      "of itself, or of one that took its place",
    );
    assert.is((await sql`select from core.message_queue`).length, 0);
  });
}

test.run();
