import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, DeviceId, GatewayType, NotificationId, Priority, UniqueId } from "../domain.ts";
import {
  claimDuePushes,
  claimPushes,
  enqueue,
  type Notification,
  openNotifications,
  overdueNotifications,
  type RecordedOutcome,
  recordOutcomes,
  settlePushes,
  storeNotifications,
} from "../persistence/notifications.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const boots = [randomUUID(), randomUUID()] as BootId[];
const boot = boots[0]!;
test.after(() => ward.close());
test.after.each(async () => {
  await sql`truncate premise_core.notifications, core.message_queue`;
});

function notification(more: Partial<Notification> = {}): Notification {
  return {
    id: randomUUID() as NotificationId,
    tenantId: "default" as Notification["tenantId"],
    siteId: ward.siteId,
    deviceId: randomUUID() as DeviceId,
    callbackData: randomUUID() as UniqueId,
    callbackUri: "http://127.0.0.1:1",
    gatewayType: "GCM",
    notificationAddress: "address",
    urls: ["http://127.0.0.1:1", "http://127.0.0.1:2"],
    messageCount: 1,
    priority: "high",
    coreVersion: "1",
    expiresAt: Date.now() + 3_600_000,
    ...more,
  };
}

async function owed(more: Partial<Notification> = {}, count = 1): Promise<NotificationId[]> {
  const notifications = Array.from({ length: count }, () => notification(more));
  await storeNotifications(database, notifications);
  await enqueue(database, notifications);
  return notifications.map(({ id }) => id);
}

const outcome = (id: NotificationId, more: Partial<RecordedOutcome> = {}): RecordedOutcome => ({
  id,
  attempts: 0,
  state: "SENT",
  code: null,
  providerId: null,
  retryMs: 0,
  ...more,
});

async function row(id: NotificationId) {
  const [one] = await sql<
    { state: string; attempts: number; code: string | null; done: boolean; checkMs: number | null }[]
  >`
    select state, attempts, code, done_at is not null as done, extract(epoch from queue_check_at - clock_timestamp())::float8 * 1000 as "checkMs"
    from premise_core.notifications where id = ${id}`;
  return one!;
}
async function queueRow(id: NotificationId) {
  const [one] = await sql<{ dueMs: number; claimed: boolean; attempt: number }[]>`
    select extract(epoch from due_at - clock_timestamp())::float8 * 1000 as "dueMs", claimed_until > clock_timestamp() as claimed, attempt
    from core.message_queue where id = ${id}`;
  return one;
}
/** The claims and waits of everything that is owed are over. */
async function timePasses(): Promise<void> {
  await sql`update premise_core.notifications set queue_check_at = clock_timestamp() - interval '1 ms' where queue_check_at is not null`;
  await sql`update core.message_queue set claimed_until = clock_timestamp() - interval '1 ms', due_at = clock_timestamp() - interval '1 ms'`;
}
const near = (actual: number | null, expected: number) =>
  assert.ok(actual !== null && actual <= expected && actual > expected - 2_000, `${actual}, not ${expected}`);

test("a request is stored as it was made, and storing it again changes nothing", async () => {
  const one = notification({ priority: "low" });
  await storeNotifications(database, [one]);
  await storeNotifications(database, [{ ...one, messageCount: 9 }, notification()]);
  const [stored] = await openNotifications(database, [one.id]);
  const { attempts, createdAt, ...rest } = stored!;
  assert.equal(rest, one);
  assert.is(attempts, 0);
  assert.ok(Math.abs(createdAt - Date.now()) < 60_000);
});

test("queueing twice, also after a claim, leaves one row and its claim", async () => {
  const [id] = await owed();
  assert.equal(await claimPushes(database, boot, [id!]), [id]);
  await enqueue(database, [{ id: id!, gatewayType: "GCM", priority: "high" }]);
  assert.is((await queueRow(id!))!.claimed, true);
  assert.equal(await claimPushes(database, boots[1]!, [id!]), []);
});

test("a push is claimed by one of two nodes at once, and by another only when the claim has run out", async () => {
  const ids = await owed({}, 60);
  const claims = await Promise.all([0, 1, 0, 1, 0, 1].map((n) => claimPushes(database, boots[n]!, ids)));
  assert.equal(claims.flat().sort(), [...ids].sort(), "each once");
  assert.equal(await claimPushes(database, boots[1]!, ids), []);
  assert.equal(await claimDuePushes(database, boots[1]!, "GCM", 0, 100), []);
  await timePasses();
  assert.is((await claimPushes(database, boots[1]!, ids)).length, 60);
});

test("nodes that sweep at once share what is due and claim nothing twice", async () => {
  const ids = await owed({}, 100);
  const claims = await Promise.all(
    Array.from({ length: 8 }, (_, n) => claimDuePushes(database, boots[n % 2]!, "GCM", 0, 20)),
  );
  const all = claims.flat();
  assert.is(new Set(all).size, all.length);
  assert.ok(claims.every((one) => one.length <= 20));
  const rest = await claimDuePushes(database, boot, "GCM", 0, 100);
  assert.equal([...all, ...rest].sort(), [...ids].sort());
});

test("the most urgent are claimed first, those of the network asked for, and only when overdue", async () => {
  const ids: NotificationId[] = [];
  for (const priority of ["low", "medium", "high"] as Priority[]) ids.push(...(await owed({ priority })));
  await owed({ gatewayType: "APNS" as GatewayType });
  assert.equal(await claimDuePushes(database, boot, "GCM", 60_000, 10), []);
  assert.equal(await claimDuePushes(database, boot, "GCM", 0, 1), [ids[2]]);
  assert.equal(await claimDuePushes(database, boot, "GCM", 0, 1), [ids[1]]);
  assert.equal(await claimDuePushes(database, boot, "GCM", 0, 10), [ids[0]]);
  assert.is((await claimDuePushes(database, boot, "APNS", 0, 10)).length, 1);
});

test("an outcome is written once: a second one made on the same reading changes nothing", async () => {
  const [id] = await owed();
  await recordOutcomes(database, [outcome(id!, { code: "first", providerId: "p1" })]);
  await recordOutcomes(database, [outcome(id!, { code: "second", state: "REFUSED" })]);
  await recordOutcomes(database, [outcome(id!, { attempts: 1, code: "third", state: "STORED" })]);
  assert.equal({ ...(await row(id!)) }, { state: "SENT", attempts: 1, code: "first", done: true, checkMs: null });
  assert.equal(await openNotifications(database, [id!]), []);
});

test("an outcome that is not final leaves the request open, to be looked at again after its wait", async () => {
  const [id] = await owed();
  await recordOutcomes(database, [outcome(id!, { state: "STORED", code: "503", retryMs: 20_000 })]);
  const after = await row(id!);
  assert.equal([after.state, after.attempts, after.done], ["STORED", 1, false]);
  near(after.checkMs, 25_000);
  const [open] = await openNotifications(database, [id!]);
  assert.is(open!.attempts, 1);
  await Promise.all([1, 2, 3].map(() => recordOutcomes(database, [outcome(id!, { attempts: 1, state: "SENT" })])));
  assert.is((await row(id!)).attempts, 2);
});

test("settling takes a done push out and makes the other due again; a second time changes nothing that matters", async () => {
  const [done, again] = await owed({}, 2);
  await claimPushes(database, boot, [done!, again!]);
  const settle = [
    { id: done!, retryMs: null },
    { id: again!, retryMs: 20_000 },
  ];
  await settlePushes(database, settle);
  await settlePushes(database, settle);
  assert.is(await queueRow(done!), undefined);
  const waiting = await queueRow(again!);
  near(waiting!.dueMs, 20_000);
  assert.not(waiting!.claimed);
  assert.equal(await claimPushes(database, boot, [again!]), [], "not before it is due");
  await timePasses();
  assert.equal(await claimPushes(database, boot, [again!]), [again]);
});

test("what is overdue is handed to one of those who ask at once, and not again for a while", async () => {
  const notifications = Array.from({ length: 40 }, () => notification());
  await storeNotifications(database, notifications);
  assert.equal(await overdueNotifications(database, 100), [], "not before its time");
  await timePasses();
  const found = (await Promise.all([1, 2, 3, 4].map(() => overdueNotifications(database, 100)))).flat();
  assert.equal(found.map(({ id }) => id).sort(), notifications.map(({ id }) => id).sort());
  assert.equal(found[0], { id: found[0]!.id, gatewayType: "GCM", priority: "high" });
  assert.equal(await overdueNotifications(database, 100), []);
  near((await row(found[0]!.id)).checkMs, 10_000);
});

/** One node that may die after any of its steps. */
async function work(
  id: NotificationId,
  result: RecordedOutcome["state"],
  sent: NotificationId[],
  steps = Number.POSITIVE_INFINITY,
): Promise<void> {
  let left = steps;
  const dies = () => left-- <= 0;
  for (const claimed of await claimDuePushes(database, boot, "GCM", 0, 10)) {
    if (dies()) return;
    const [open] = await openNotifications(database, [claimed]);
    if (dies()) return;
    if (open !== undefined) {
      assert.is(open.id, id);
      sent.push(claimed);
      if (dies()) return;
      await recordOutcomes(database, [outcome(claimed, { attempts: open.attempts, state: result, retryMs: 1_000 })]);
      if (dies()) return;
    }
    await settlePushes(database, [{ id: claimed, retryMs: open !== undefined && result === "STORED" ? 1_000 : null }]);
  }
}

async function requeue(): Promise<void> {
  await enqueue(database, await overdueNotifications(database, 100));
}

const NAMES = ["stored", "queued", "claimed", "read", "sent", "recorded", "settled"];
for (const [death, name] of NAMES.entries()) {
  for (const result of ["SENT", "STORED"] as const) {
    test(`a node that dies once it has ${name} it, where the push service says ${result}: another one finishes the work`, async () => {
      const one = notification();
      const sent: NotificationId[] = [];
      await storeNotifications(database, [one]);
      if (death >= 1) await enqueue(database, [one]);
      if (death >= 2) await work(one.id, result, sent, death - 2);
      for (let round = 0; round < 4; round += 1) {
        await timePasses();
        await requeue();
        await work(one.id, "SENT", sent);
      }
      const after = await row(one.id);
      assert.is(after.state, "SENT");
      assert.is(await queueRow(one.id), undefined, "nothing is owed any more");
      assert.ok(sent.length >= 1 && sent.length <= 2, `sent ${sent.length} times`);
      assert.is(
        after.attempts,
        1 + Number(result === "STORED" && death >= 5),
        "an attempt is counted with its outcome",
      );
      await timePasses();
      await requeue();
      assert.is(await queueRow(one.id), undefined);
    });
  }
}

test("a slow node's late word about a push that another has taken over leaves nothing undone", async () => {
  const [id] = await owed();
  const [slow, next] = boots as [BootId, BootId];
  await claimPushes(database, slow, [id!]);
  await timePasses();
  await claimPushes(database, next, [id!]);
  await recordOutcomes(database, [outcome(id!, { state: "STORED", retryMs: 60_000 })]);
  await settlePushes(database, [{ id: id!, retryMs: 60_000 }]);
  // The slow one took the same reading, and takes its push out of the queue.
  await recordOutcomes(database, [outcome(id!, { state: "REFUSED" })]);
  await settlePushes(database, [{ id: id!, retryMs: null }]);
  assert.is((await row(id!)).state, "STORED");
  await timePasses();
  await requeue();
  const sent: NotificationId[] = [];
  await work(id!, "SENT", sent);
  assert.equal([(await row(id!)).state, sent.length], ["SENT", 1]);
});

test("a row queued again after its request was done is found done and settled", async () => {
  const [id] = await owed();
  const sent: NotificationId[] = [];
  await work(id!, "SENT", sent);
  await enqueue(database, [{ id: id!, gatewayType: "GCM", priority: "high" }]);
  await work(id!, "SENT", sent);
  assert.equal([await queueRow(id!), sent.length], [undefined, 1]);
});

test.run();
