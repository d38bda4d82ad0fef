/** Where a page is and why, from the rows that accepting, waking, fetching and answering left behind. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, DeviceId, LinkId, NotificationId, SubscriberId } from "../domain.ts";
import type { PageToAccept } from "../persistence/acceptance.ts";
import { messagesUnder } from "../persistence/message-list.ts";
import { type Change, changeMessages } from "../persistence/messages.ts";
import { storeNotifications } from "../persistence/notifications.ts";
import { openLink } from "../persistence/outbox.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { trace } from "../persistence/trace.ts";
import { openPagedWard, type PagedWard } from "./helpers/paged-ward.ts";

let ward: PagedWard;
test.before(async () => {
  ward = await openPagedWard();
});
test.after(() => ward.close());

async function change(
  page: PageToAccept,
  version: number,
  event: Change["event"],
  more: Partial<Change> = {},
): Promise<void> {
  const base = {
    uniqueId: page.uniqueId,
    version,
    event,
    detail: null,
    transport: null,
    outcome: null,
    tell: null,
    wakes: false,
    due: 5_000,
  };
  const [written] = await changeMessages(ward.database, "node-b", [{ ...base, ...more }]);
  assert.ok(written, "the change was taken");
}

async function notify(page: PageToAccept, device: DeviceId): Promise<NotificationId> {
  const id = randomUUID() as NotificationId;
  await storeNotifications(ward.database, [
    {
      id,
      tenantId: page.tenantId,
      siteId: page.siteId,
      deviceId: device,
      callbackData: page.uniqueId,
      callbackUri: "http://localhost",
      gatewayType: "GCM",
      notificationAddress: "SECRET-push-token",
      urls: ["http://localhost"],
      messageCount: 1,
      priority: "high",
      coreVersion: "1",
      expiresAt: Date.now() + 3_600_000,
    },
  ]);
  return id;
}

test("a page is followed from acceptance to its answer, and no text, name or push token shows", async () => {
  const { page, device } = await ward.accepted({ trackingId: "follow" });
  const why = async () => {
    const found = (await trace(ward.database, "follow"))!;
    assert.not.match(JSON.stringify(found), "SECRET");
    return found.why;
  };
  assert.match(await why(), /^Waiting for the first wake-up/);
  const id = await notify(page, device);
  await change(page, 2, "ENROUTE", { detail: id, transport: "ENROUTE", tell: "ENROUTE" });
  assert.match(await why(), /^The wake-up is with the hosted side since \d+ s and was not answered by FCM yet/);
  await ward.sql`update premise_core.notifications set state = 'SENT', attempts = 1, done_at = clock_timestamp() where id = ${id}`;
  assert.match(await why(), /^FCM accepted the wake-up \d s ago, the phone has not fetched the page yet/);
  await recordReceipts(ward.database, "node-c", [{ uniqueId: page.uniqueId, deviceId: device, receipt: "DELIVERED" }]);
  assert.match(
    await why(),
    /^On the phone and not opened yet, fetched \d s ago, no answer yet \(asked for within [45] min\)/,
  );
  await recordReceipts(ward.database, "node-c", [
    { uniqueId: page.uniqueId, deviceId: device, receipt: "ACKNOWLEDGED" },
  ]);
  assert.match(
    await why(),
    /^Answered ACKNOWLEDGED \d s ago; the host system is not connected and has not taken ACKNOWLEDGED yet\.$/,
  );
  const found = (await trace(ward.database, page.uniqueId))!;
  assert.equal(
    found.events.map((event) => [event.event, event.node]),
    [
      ["ACCEPTED", "node-a"],
      ["QUEUED", "node-a"],
      ["ENROUTE", "node-b"],
      ["PUSH SENT", "hosted"],
      ["DELIVERED", "node-c"],
      ["ACKNOWLEDGED", "node-c"],
    ],
  );
  assert.is(found.status, "ACKNOWLEDGED");
});

test("what a host with an open connection has just been written is not told as untaken", async () => {
  const host = await ward.host("connected");
  const link = randomUUID() as LinkId;
  await openLink(ward.database, link, host, randomUUID() as BootId);
  const { page, device } = await ward.accepted({ hostSystemId: host, linkId: link });
  await recordReceipts(ward.database, "node-a", [{ uniqueId: page.uniqueId, deviceId: device, receipt: "READ" }]);
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^Read \d s ago, no answer yet \([^;]*\)\.$/);
  await ward.sql`update premise_core.host_outbox set at = at - interval '1 minute' where unique_id = ${page.uniqueId}`;
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /; the host system is connected but has not taken READ yet\.$/,
  );
});

test("the wake-up that got furthest is the one told of", async () => {
  const { page, device } = await ward.accepted();
  const [dead, sent] = [await notify(page, device), await notify(page, device)];
  await change(page, 2, "ENROUTE", { detail: `${sent}, ${dead}`, transport: "ENROUTE" });
  await ward.sql`update premise_core.notifications set state = 'DEAD', code = 'UNREGISTERED', attempts = 1, done_at = now() where id = ${dead}`;
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^The wake-up is with the hosted side/);
  await ward.sql`update premise_core.notifications set state = 'SENT', attempts = 1, done_at = now() where id = ${sent}`;
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^FCM accepted/);
});

test("a page that could not be sent says what it waits for", async () => {
  const { page } = await ward.accepted();
  await change(page, 2, "WAIT", { detail: "the hosted side is away" });
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /^Waiting: the hosted side is away, tried again in [45] s/,
  );
});

test("a page for one phone is told of by that phone's state, whatever other phones its recipient has", async () => {
  const { page } = await ward.accepted();
  const [row] = await ward.sql<{ subscriber: SubscriberId }[]>`
    select subscriber_id as subscriber from premise_core.messages where unique_id = ${page.uniqueId}`;
  const unreachable = await ward.device(row!.subscriber, { address: null });
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^Waiting for the first wake-up/);
  await ward.sql`update premise_core.messages set device_id = ${unreachable} where unique_id = ${page.uniqueId}`;
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /^Waiting: no phone of the recipient has a live notification address \(1 phone registered\)/,
  );
});

test("a page whose named phone is gone waits for the recipient's others", async () => {
  const { page, device } = await ward.accepted();
  const [row] = await ward.sql<{ id: SubscriberId }[]>`
    select subscriber_id as id from premise_core.messages where unique_id = ${page.uniqueId}`;
  await ward.sql`update premise_core.messages set device_id = ${device} where unique_id = ${page.uniqueId}`;
  await ward.sql`update premise_core.devices set state = 'REMOVED' where id = ${device}`;
  const why = async () => (await trace(ward.database, page.uniqueId))!.why;
  assert.match(await why(), /^Waiting: the recipient has no registered phone any more/);
  await ward.device(row!.id);
  assert.match(await why(), /^Waiting for the first wake-up/);
});

test("a failed page says why, and how long it can still be fetched", async () => {
  const { page } = await ward.accepted();
  await change(page, 2, "FAILED", {
    detail: "no phone reached in time",
    outcome: "FAILED",
    tell: "FAILED",
    due: "expiry",
  });
  const found = (await trace(ward.database, page.uniqueId))!;
  assert.is(found.status, "FAILED");
  assert.match(found.why, /^Failed \d s ago: no phone reached in time; a phone can still fetch it for [23] days/);
});

test("a refused page is traced by its trackingId, and a later refusal hides no earlier page", async () => {
  const refuse = (trackingId: string) => ward.sql`
    insert into premise_core.refusals (origin, tracking_id, destination, reason, node) values ('lab', ${trackingId}, '5559999', 'unknown destination', 'node-a')`;
  await refuse("refused");
  const found = (await trace(ward.database, "refused"))!;
  assert.equal(
    [found.uniqueId, found.status, found.why],
    [null, "FAILED", "Refused before it was accepted: unknown destination."],
  );
  assert.equal(
    found.events.map((event) => [event.event, event.detail]),
    [["REFUSED", "unknown destination"]],
  );
  assert.is((await trace(ward.database, "last"))?.trackingId, "refused");
  const { page } = await ward.accepted({ trackingId: "both" });
  // Which of the two is later is told by the millisecond.
  await new Promise((resolve) => setTimeout(resolve, 5));
  await refuse("both");
  const both = (await trace(ward.database, "both"))!;
  assert.equal([both.uniqueId, both.others], [null, [page.uniqueId]]);
});

test("of several pages under one trackingId the newest is traced and the others are named", async () => {
  const first = await ward.accepted({ trackingId: "thread" });
  const second = await ward.accepted({ trackingId: "thread" });
  const found = (await trace(ward.database, "thread"))!;
  assert.equal([found.uniqueId, found.others], [second.page.uniqueId, [first.page.uniqueId]]);
  assert.is((await trace(ward.database, "last"))?.uniqueId, second.page.uniqueId);
  const listed = await messagesUnder(ward.database, "thread", { status: null, destination: null, synthetic: null }, 10);
  assert.equal(
    listed.map((item) => item.uniqueId),
    [second.page.uniqueId, first.page.uniqueId],
  );
  assert.is(await trace(ward.database, "threa"), null);
  // As if two trackingIds had one digest.
  await ward.sql`update premise_core.messages set tracking_id = 'other' where unique_id = ${first.page.uniqueId}`;
  assert.equal((await trace(ward.database, "thread"))!.others, []);
});

test.run();
