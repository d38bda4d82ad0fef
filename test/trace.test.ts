/** Where a page is and why, from the rows that accepting, waking, fetching and answering left behind. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, DeviceId, LinkId, NotificationId, SubscriberId } from "../domain.ts";
import type { PageToAccept } from "../persistence/acceptance.ts";
import { ANY_MESSAGE, messagesUnder } from "../persistence/message-list.ts";
import { type Change, changeMessages } from "../persistence/messages.ts";
import { storeNotifications } from "../persistence/notifications.ts";
import { openLink } from "../persistence/outbox.ts";
import { RECALL_REASON } from "../persistence/recalls.ts";
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
    /^On the phone and not opened yet, fetched \d s ago, no answer yet.* If nobody answers by [\d -:]+ UTC \(in [45] min\), the host is told FAILED\.$/,
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
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^Read \d s ago, no answer yet\. If [^;]*\.$/);
  await ward.sql`update premise_core.host_outbox set at = at - interval '1 minute' where unique_id = ${page.uniqueId}`;
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /; the host system is connected but has not taken READ yet\. If nobody answers/,
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

/** A child as passing on makes it: a message of its own whose parent's history tells of the step in the same statement. */
async function passOn(parent: PageToAccept, step: number): Promise<{ page: PageToAccept; device: DeviceId }> {
  const child = await ward.accepted();
  await ward.sql`
    with child as (
      update premise_core.messages set parent_id = ${parent.uniqueId}, accepted_at = now() where unique_id = ${child.page.uniqueId}
    ), parent as (
      update premise_core.messages set step = ${step}, step_deadline = now() + interval '60 s', version = version + 1, due_at = now() + interval '60 s'
      where unique_id = ${parent.uniqueId} returning version
    )
    insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
    select ${parent.uniqueId}, version, 'ESCALATED', clock_timestamp(), 'node-b', ${`step ${step}: GROUP 1 -> 1 recipients`} from parent`;
  return child;
}

async function ruled(page: PageToAccept): Promise<void> {
  const [group] = await ward.sql<{ id: string }[]>`
    insert into premise_core.subscriber_groups (tenant_id, site_id, name) values ('default', ${page.siteId}, 'ICU on call') returning id`;
  const steps = [
    { kind: "GROUP", groupId: group!.id },
    { kind: "SUBSCRIBER", subscriberId: randomUUID() },
  ];
  await ward.sql`
    insert into premise_core.escalation_rules (site_id, message_type, tenant_id, on_ignored, steps)
    values (${page.siteId}, 'alert', 'default', false, ${ward.sql.json(steps)})`;
}

test("a page that is passed on says what its rule has next, and shows its family from every side", async () => {
  const { page } = await ward.accepted({ trackingId: "escalates" });
  await ruled(page);
  const before = (await trace(ward.database, page.uniqueId))!;
  assert.match(
    before.why,
    /If nobody fetches it by [\d:]+ UTC \(in \d+ (s|min)\), it goes to the group ICU on call, then to a person who is no more; then FAILED\.$/,
  );
  assert.equal(
    [before.next?.what, before.next?.at, before.finished],
    [
      "if nobody fetches it, it goes to the group ICU on call, then to a person who is no more; then FAILED",
      before.deadlines?.device,
      false,
    ],
  );
  const first = await passOn(page, 1);
  const second = await passOn(page, 2);
  const parent = (await trace(ward.database, page.uniqueId))!;
  assert.match(
    parent.why,
    /^Passed on to a person who is no more 0 s ago \(step 2 of 2 of the rule\), 0 of 2 pages fetched, none answered yet/,
  );
  assert.equal(
    parent.family.map(({ uniqueId, relation, status, why }) => [uniqueId, relation, status, why]),
    [
      [first.page.uniqueId, "child", "QUEUED", "this page was passed on to it by step 1 of the rule"],
      [second.page.uniqueId, "child", "QUEUED", "this page was passed on to it by step 2 of the rule"],
    ],
  );
  const child = (await trace(ward.database, second.page.uniqueId))!;
  assert.match(
    child.why,
    new RegExp(`passed on from ${page.uniqueId} by step 2 of its rule.*the host is told FAILED\\.$`),
  );
  assert.equal(
    child.family.map(({ uniqueId, relation, why }) => [uniqueId, relation, why]),
    [
      [page.uniqueId, "parent", "this page was passed on from it"],
      [first.page.uniqueId, "sibling", "passed on from the same page by step 1 of the rule"],
    ],
  );
  await recordReceipts(ward.database, "node-c", [
    { uniqueId: first.page.uniqueId, deviceId: first.device, receipt: "ACKNOWLEDGED" },
  ]);
  const answered = (await trace(ward.database, page.uniqueId))!;
  assert.match(answered.why, new RegExp(`^Answered by ${first.page.destination}, to whom it was passed on`));
  assert.equal([answered.next, answered.finished], [null, true]);
});

test("a page that failed is not finished while those it was passed on to may still answer", async () => {
  const { page } = await ward.accepted();
  const child = await passOn(page, 1);
  const fail = (of: PageToAccept) =>
    ward.sql`update premise_core.messages set outcome = 'FAILED', outcome_reason = 'nobody', told = 'FAILED', due_at = expires_at where unique_id = ${of.uniqueId}`;
  await fail(page);
  assert.is((await trace(ward.database, page.uniqueId))!.finished, false);
  await fail(child.page);
  const { finished, next } = (await trace(ward.database, page.uniqueId))!;
  assert.equal([finished, next?.what], [true, "it can no longer be fetched"]);
});

test("a page is found by its trackingId, and as the last one, whatever was passed on from it since", async () => {
  const { page } = await ward.accepted({ trackingId: "first sent" });
  const child = await passOn(page, 1);
  await ward.sql`update premise_core.messages set tracking_id = 'first sent' where unique_id = ${child.page.uniqueId}`;
  for (const which of ["first sent", "last"]) {
    const found = (await trace(ward.database, which))!;
    assert.equal([found.uniqueId, found.others], [page.uniqueId, []]);
  }
  assert.is((await trace(ward.database, child.page.uniqueId))?.uniqueId, child.page.uniqueId);
});

test("of a long history the newest lines are shown and the others counted", async () => {
  const { page } = await ward.accepted();
  await ward.sql`
    insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
    select ${page.uniqueId}, seq, 'PUSH', now() + seq * interval '1 ms', 'node-b', gen_random_uuid()::text from generate_series(3, 5000) as seq`;
  await ward.sql`update premise_core.messages set version = 5000 where unique_id = ${page.uniqueId}`;
  const { events, earlier } = (await trace(ward.database, page.uniqueId))!;
  assert.equal([events.length, earlier, events[0]!.id, events.at(-1)!.id], [500, 4_500, "4501", "5000"]);
});

test("what phones have yet to hear of a page is shown, and no push is looked for by a stream's ids", async () => {
  const { page, device } = await ward.accepted();
  await change(page, 2, "ENROUTE", { detail: `${device} stream ${randomUUID()}:1`, transport: "ENROUTE" });
  await ward.sql`update premise_core.devices set stream_boot = gen_random_uuid() where id = ${device}`;
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /^Sent \d s ago over the phone's stream, which is open, and not confirmed yet; pushed as well in [45] s;/,
  );
  await ward.sql`
    insert into premise_core.device_notices (device_id, unique_id, kind, expires_at) values (${device}, ${page.uniqueId}, 'RECALLED', now() + interval '1 day')`;
  await ward.sql`update premise_core.messages set outcome = 'RECALLED', outcome_reason = ${RECALL_REASON}, due_at = null, open = false where unique_id = ${page.uniqueId}`;
  const { notices, why, finished } = (await trace(ward.database, page.uniqueId))!;
  assert.equal(
    notices.map(({ deviceId, kind }) => [deviceId, kind]),
    [[device, "RECALLED"]],
  );
  assert.match(
    why,
    /^Recalled by an operator \d s ago; no phone has said that it fetched it; 1 phone yet to hear that it is withdrawn/,
  );
  assert.ok(finished);
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
  const listed = await messagesUnder(ward.database, "thread", ANY_MESSAGE, 10);
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
