import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, NotificationId } from "../domain.ts";
import {
  type Notification,
  openNotifications,
  overdueNotifications,
  recordOutcomes,
  storeNotifications,
} from "../persistence/notifications.ts";
import { entryOf, openWakeUps, outcome } from "./helpers/wake-ups.ts";

const ward = await openWakeUps();
const { database, sql, notification, owed, row, timePasses } = ward;
test.after(() => ward.close());
test.after.each(() => ward.forgets());

const store = (...notifications: Notification[]) => storeNotifications(database, notifications);
const open = async (device: DeviceId) => (await openNotifications(database, [device]))[0];
const near = (actual: number | null, expected: number) =>
  assert.ok(actual !== null && actual <= expected && actual > expected - 2_000, `${actual}, not ${expected}`);

test("a request is stored as it was made, and storing it again changes nothing", async () => {
  const [one, two] = [notification({ priority: "low" }), notification()];
  assert.equal(await store(one), [entryOf(one)]);
  assert.equal(await store({ ...one, messageCount: 9 }, two), [null, entryOf(two)]);
  const { attempts, createdAt, leftMs, wanted, ...rest } = (await open(one.deviceId))!;
  assert.equal({ ...rest }, one);
  assert.is(attempts, 0);
  assert.is(wanted, true);
  assert.ok(Math.abs(createdAt - Date.now()) < 60_000);
  assert.ok(Math.abs(leftMs - (one.expiresAt - Date.now())) < 60_000);
});

test("a new request ends those of its device that still wait, and speaks for them", async () => {
  const device = randomUUID() as DeviceId;
  const later = Date.now() + 7_200_000;
  const first = notification({ deviceId: device, priority: "high", messageCount: 3 });
  const tried = notification({ deviceId: device, priority: "medium", expiresAt: later });
  const other = notification({ priority: "low" });
  await store(first, other);
  await recordOutcomes(database, [outcome(first.id, { state: "STORED", code: "503", retryMs: 60_000 })]);
  await store(tried);
  const last = notification({ deviceId: device, priority: "low" });
  assert.equal(await store(last), [{ ...entryOf(last), priority: "high" }]);
  for (const [id, by] of [
    [first.id, tried.id],
    [tried.id, last.id],
  ] as const) {
    const { state, supersededBy, done, checkMs } = await row(id);
    assert.equal([state, supersededBy, done, checkMs], ["SUPERSEDED", by, true, null]);
  }
  const survivor = (await open(device))!;
  assert.equal(
    [survivor.id, survivor.priority, survivor.expiresAt, survivor.messageCount],
    [last.id, "high", later, 3],
  );
  assert.is((await row(other.id)).state, "STORED", "another device's is left alone");
});

test("what has its outcome keeps it, and an old request that is stored again ends nobody", async () => {
  const device = randomUUID() as DeviceId;
  const [sent, waiting] = [notification({ deviceId: device }), notification({ deviceId: device, priority: "low" })];
  await store(sent);
  await recordOutcomes(database, [outcome(sent.id, { providerId: "p" })]);
  assert.equal(await store(waiting), [entryOf(waiting)], "it takes over no priority of what was sent");
  assert.equal(await store(sent), [null]);
  assert.is((await row(sent.id)).state, "SENT");
  assert.is((await row(waiting.id)).state, "STORED");
});

test("a word that comes late about a superseded request changes nothing", async () => {
  const device = randomUUID() as DeviceId;
  const [first, last] = [notification({ deviceId: device }), notification({ deviceId: device })];
  await store(first);
  await store(last);
  for (const state of ["SENT", "STORED", "SETTLED", "REFUSED"] as const)
    await recordOutcomes(database, [outcome(first.id, { state })]);
  const { state, supersededBy, attempts, checkMs } = await row(first.id);
  assert.equal([state, supersededBy, attempts, checkMs], ["SUPERSEDED", last.id, 0, null]);
  assert.is((await open(device))!.id, last.id);
});

test("storing waits for nobody: a request that is being given its outcome is left alone", async () => {
  const device = randomUUID() as DeviceId;
  const [first, next] = [notification({ deviceId: device }), notification({ deviceId: device, priority: "low" })];
  await store(first);
  await sql.begin(async (other) => {
    await other`select from premise_core.notifications where id = ${first.id} for update`;
    assert.equal(await store(next), [entryOf(next)]);
  });
  assert.is((await row(first.id)).state, "STORED");
  const last = notification({ deviceId: device });
  await store(last);
  assert.equal([(await row(first.id)).supersededBy, (await row(next.id)).supersededBy], [last.id, last.id]);
});

test("storing and recording for the same devices at once never fails, and every request leads to one that was not superseded", async () => {
  const devices = Array.from({ length: 12 }, () => randomUUID() as DeviceId);
  const stored: NotificationId[] = [];
  const storing = Array.from({ length: 6 }, async () => {
    for (let round = 0; round < 25; round += 1) {
      const some = devices
        .filter(() => Math.random() < 0.5)
        .sort(() => Math.random() - 0.5)
        .map((deviceId) => notification({ deviceId, priority: Math.random() < 0.5 ? "high" : "low" }));
      await store(...some);
      stored.push(...some.map(({ id }) => id));
    }
  });
  let busy = true;
  const recording = Array.from({ length: 3 }, async () => {
    while (busy) {
      const found = await openNotifications(database, devices);
      await recordOutcomes(
        database,
        found
          .sort(() => Math.random() - 0.5)
          .map(({ id, attempts }) => outcome(id, { attempts, state: Math.random() < 0.5 ? "SENT" : "STORED" })),
      );
    }
  });
  await Promise.all(storing);
  busy = false;
  await Promise.all(recording);
  const ends = await sql<{ id: NotificationId; end: string }[]>`
    with recursive chain as (
      select id, device_id, id as at, state, superseded_by from premise_core.notifications
      union all
      select chain.id, chain.device_id, next.id, next.state, next.superseded_by
      from chain join premise_core.notifications as next on next.id = chain.superseded_by and next.device_id = chain.device_id)
    select id, state as end from chain where superseded_by is null`;
  assert.equal(ends.map(({ id }) => id).sort(), stored.sort());
  assert.ok(ends.every(({ end }) => end === "SENT" || end === "STORED"));
});

test("an outcome is written once: a second one made on the same reading changes nothing", async () => {
  const [{ id, deviceId }] = (await owed()) as [Notification];
  await recordOutcomes(database, [outcome(id, { code: "first", providerId: "p1" })]);
  await recordOutcomes(database, [outcome(id, { code: "second", state: "REFUSED" })]);
  await recordOutcomes(database, [outcome(id, { attempts: 1, code: "third", state: "STORED" })]);
  assert.equal(await row(id), {
    state: "SENT",
    attempts: 1,
    code: "first",
    supersededBy: null,
    done: true,
    checkMs: null,
  });
  assert.is(await open(deviceId), undefined);
});

test("an outcome that is not final leaves the request open, to be looked at again after its wait", async () => {
  const [{ id, deviceId }] = (await owed()) as [Notification];
  await recordOutcomes(database, [outcome(id, { state: "STORED", code: "503", retryMs: 20_000 })]);
  const after = await row(id);
  assert.equal([after.state, after.attempts, after.done], ["STORED", 1, false]);
  near(after.checkMs, 25_000);
  assert.is((await open(deviceId))!.attempts, 1);
  await Promise.all([1, 2, 3].map(() => recordOutcomes(database, [outcome(id, { attempts: 1, state: "SENT" })])));
  assert.is((await row(id)).attempts, 2);
});

test("a request settled because nothing waits is final and was no attempt", async () => {
  const [{ id, deviceId }] = (await owed()) as [Notification];
  await recordOutcomes(database, [outcome(id, { state: "SETTLED" })]);
  const { state, attempts, done, checkMs } = await row(id);
  assert.equal([state, attempts, done, checkMs], ["SETTLED", 0, true, null]);
  assert.is(await open(deviceId), undefined);
});

test("what is overdue is handed to one of those who ask at once, and not again for a while", async () => {
  const notifications = Array.from({ length: 40 }, () => notification());
  await store(...notifications);
  assert.equal(await overdueNotifications(database, 100), [], "not before its time");
  await timePasses();
  const found = (await Promise.all([1, 2, 3, 4].map(() => overdueNotifications(database, 100)))).flat();
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  assert.equal(found.sort(byId), notifications.map(entryOf).sort(byId));
  assert.equal(await overdueNotifications(database, 100), []);
  near((await row(found[0]!.id)).checkMs, 10_000);
});

test.run();
