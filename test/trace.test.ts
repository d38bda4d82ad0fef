/** Where a page is and why: the sentence from every state, and the trace and lists of real rows. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, DeviceId, LinkId, NotificationId } from "../domain.ts";
import { acceptPages, type PageToAccept } from "../persistence/acceptance.ts";
import { dueBacklog, outboxBacklog, pushBacklog } from "../persistence/backlog.ts";
import { listMessages, messagesUnder, stuckMessages } from "../persistence/message-list.ts";
import { type Change, changeMessages } from "../persistence/messages.ts";
import { enqueue, storeNotifications } from "../persistence/notifications.ts";
import { openLink } from "../persistence/outbox.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { trace } from "../persistence/trace.ts";
import { type TraceFacts, whyOf } from "../persistence/trace-reason.ts";
import { MESSAGE_KEY, openWard, pageFor, type Ward } from "./helpers/ward.ts";

const NOW = Date.UTC(2026, 0, 2, 12);
const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const WAITING: TraceFacts = {
  now: NOW,
  status: "QUEUED",
  answer: null,
  outcome: null,
  outcomeReason: null,
  dueAt: NOW + 2 * SECOND,
  userDeadline: null,
  expiresAt: NOW + 71 * HOUR,
  since: { status: NOW - 12 * SECOND, answer: null, outcome: null },
  attempt: null,
  push: null,
  devices: { active: 1, reachable: 1, lastSeenAt: NOW - 2_460 * SECOND },
  host: { connected: true, waiting: [] },
};
const PUSHED: TraceFacts = {
  ...WAITING,
  status: "ENROUTE",
  attempt: { event: "ENROUTE", at: NOW - 5 * SECOND, detail: null },
  push: {
    gatewayType: "GCM",
    state: "SENT",
    attempts: 1,
    code: null,
    createdAt: NOW - 5 * SECOND,
    doneAt: NOW - 4 * SECOND,
  },
};
const push = (change: Partial<NonNullable<TraceFacts["push"]>>): TraceFacts => ({
  ...PUSHED,
  push: { ...PUSHED.push!, ...change },
});

const SENTENCES: [string, TraceFacts, string][] = [
  ["before the first wake-up", WAITING, "Waiting for the first wake-up (at the latest in 2 s)."],
  [
    "no live address",
    { ...WAITING, devices: { active: 2, reachable: 0, lastSeenAt: null } },
    "Waiting: no phone of the recipient has a live notification address (2 phones registered).",
  ],
  [
    "no phone any more",
    { ...WAITING, devices: { active: 0, reachable: 0, lastSeenAt: null } },
    "Waiting: the recipient has no registered phone any more.",
  ],
  [
    "hosted side away",
    { ...WAITING, attempt: { event: "WAIT", at: NOW - SECOND, detail: "the hosted side is away" } },
    "Waiting: the hosted side is away, tried again in 2 s.",
  ],
  [
    "claimed, request not stored yet",
    { ...WAITING, attempt: { event: "WAKE", at: NOW - SECOND, detail: null } },
    "A wake-up was begun 1 s ago and is not yet with the hosted side.",
  ],
  [
    "written to the phone's stream",
    { ...PUSHED, push: null },
    "On its way since 5 s, not fetched yet (phone last seen 41 min ago).",
  ],
  [
    "accepted by FCM",
    PUSHED,
    "FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago).",
  ],
  [
    "accepted by APNs, phone never seen",
    { ...push({ gatewayType: "APNS" }), devices: { active: 1, reachable: 1, lastSeenAt: null } },
    "APNs accepted the wake-up 4 s ago, the phone has not fetched the page yet (never seen since it was registered).",
  ],
  [
    "not sent yet",
    push({ state: "STORED", attempts: 0, doneAt: null }),
    "The wake-up is with the hosted side since 5 s and was not answered by FCM yet.",
  ],
  [
    "retried",
    push({ state: "STORED", attempts: 3, code: "UNAVAILABLE", doneAt: null }),
    "FCM has not taken the wake-up after 3 attempts (last answer UNAVAILABLE).",
  ],
  [
    "refused",
    push({ state: "REFUSED", code: "SENDER_ID_MISMATCH" }),
    "FCM refused the wake-up 4 s ago (SENDER_ID_MISMATCH).",
  ],
  [
    "dead address",
    push({ state: "DEAD", code: "UNREGISTERED" }),
    "FCM said 4 s ago that the phone's notification address is dead (UNREGISTERED); the phone must open its app.",
  ],
  [
    "wake-up expired",
    push({ state: "EXPIRED", code: "TTL" }),
    "The wake-up expired 4 s ago, before FCM took it (TTL).",
  ],
  ["delivered", { ...PUSHED, status: "DELIVERED" }, "On the phone and not opened yet, fetched 12 s ago."],
  [
    "delivered, answer wanted",
    { ...PUSHED, status: "DELIVERED", userDeadline: NOW + 200 * SECOND },
    "On the phone and not opened yet, fetched 12 s ago, no answer yet (asked for within 3 min).",
  ],
  ["read", { ...PUSHED, status: "READ" }, "Read 12 s ago."],
  [
    "read, answer overdue",
    { ...PUSHED, status: "READ", userDeadline: NOW - 3 * SECOND },
    "Read 12 s ago, no answer yet (was due 3 s ago).",
  ],
  [
    "read but not answered in time",
    { ...PUSHED, status: "READ", outcome: "FAILED", outcomeReason: "no answer" },
    "Read 12 s ago; the host was told FAILED (no answer).",
  ],
  [
    "answered",
    {
      ...PUSHED,
      status: "READ",
      answer: "ACKNOWLEDGED",
      since: { status: NOW - 30 * SECOND, answer: NOW - 9 * SECOND, outcome: null },
    },
    "Answered ACKNOWLEDGED 9 s ago.",
  ],
  [
    "answered late",
    {
      ...PUSHED,
      status: "READ",
      answer: "IGNORED",
      outcome: "FAILED",
      outcomeReason: "timeoutDevice passed",
      since: { status: NOW, answer: NOW - 9 * SECOND, outcome: NOW - HOUR },
    },
    "Answered IGNORED 9 s ago, after the host had been told FAILED (timeoutDevice passed).",
  ],
  [
    "failed",
    {
      ...PUSHED,
      outcome: "FAILED",
      outcomeReason: "no phone reached",
      dueAt: NOW + 71 * HOUR,
      since: { status: NOW, answer: null, outcome: NOW - 130 * SECOND },
    },
    "Failed 2 min ago: no phone reached; a phone can still fetch it for 2 days.",
  ],
  [
    "expired",
    {
      ...PUSHED,
      outcome: "EXPIRED",
      dueAt: null,
      expiresAt: NOW - HOUR,
      since: { status: NOW, answer: null, outcome: NOW - HOUR },
    },
    "Expired 60 min ago before any phone fetched it.",
  ],
  [
    "recalled",
    { ...PUSHED, outcome: "RECALLED", dueAt: null, since: { status: NOW, answer: null, outcome: NOW - SECOND } },
    "Recalled by its host 1 s ago, before any phone fetched it.",
  ],
  [
    "nobody drives it",
    { ...WAITING, dueAt: NOW - 45 * SECOND },
    "Waiting for the first wake-up (due 45 s ago); its next step is overdue by 45 s: no node drives it.",
  ],
  ["nothing is due", { ...WAITING, dueAt: null }, "Waiting for the first wake-up; nothing more is due for it."],
  [
    "host away",
    {
      ...PUSHED,
      status: "READ",
      host: {
        connected: false,
        waiting: [
          { status: "DELIVERED", at: NOW },
          { status: "READ", at: NOW },
        ],
      },
    },
    "Read 12 s ago; the host system is not connected and has not taken READ yet.",
  ],
  [
    "host slow",
    { ...PUSHED, status: "READ", host: { connected: true, waiting: [{ status: "READ", at: NOW - 60 * SECOND }] } },
    "Read 12 s ago; the host system is connected but has not taken READ yet.",
  ],
  [
    "host just being told",
    { ...PUSHED, status: "READ", host: { connected: true, waiting: [{ status: "READ", at: NOW - 10 * SECOND }] } },
    "Read 12 s ago.",
  ],
];
for (const [state, facts, sentence] of SENTENCES) {
  test(`a page's trace says why: ${state}`, () => {
    assert.is(whyOf(facts), sentence);
  });
}

let ward: Ward;
test.before(async () => {
  ward = await openWard();
  await ward.sql`update premise_core.install set message_key = ${MESSAGE_KEY}`;
});
test.after(() => ward.close());

let people = 0;
/** A page that was accepted for a subscriber of its own. */
async function accepted(
  more: Partial<PageToAccept> = {},
): Promise<{ page: PageToAccept; device: DeviceId; destination: string }> {
  people += 1;
  const destination = `555${String(people).padStart(4, "0")}`;
  const host = more.hostSystemId ?? (await ward.host(`host ${people}`));
  const device = await ward.device(await ward.subscriber(destination));
  const page = pageFor(ward, host, destination, { text: "SECRET", fromName: "SECRET", ...more });
  const [verdict] = await acceptPages(ward.database, "node-a", [page]);
  assert.is(verdict?.kind, "accepted");
  return { page, device, destination };
}

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
      expiresAt: Date.now() + HOUR,
    },
  ]);
  return id;
}

test("a page is followed from acceptance to its answer, and no text, name or push token shows", async () => {
  const { page, device } = await accepted({ trackingId: "follow" });
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
  await openLink(ward.database, link, host, randomUUID() as BootId, "127.0.0.1");
  const { page, device } = await accepted({ hostSystemId: host, linkId: link });
  await recordReceipts(ward.database, "node-a", [{ uniqueId: page.uniqueId, deviceId: device, receipt: "READ" }]);
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^Read \d s ago, no answer yet \([^;]*\)\.$/);
  await ward.sql`update premise_core.host_outbox set at = at - interval '1 minute' where unique_id = ${page.uniqueId}`;
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /; the host system is connected but has not taken READ yet\.$/,
  );
});

test("the wake-up that got furthest is the one told of", async () => {
  const { page, device } = await accepted();
  const [dead, sent] = [await notify(page, device), await notify(page, device)];
  await change(page, 2, "ENROUTE", { detail: `${sent}, ${dead}`, transport: "ENROUTE" });
  await ward.sql`update premise_core.notifications set state = 'DEAD', code = 'UNREGISTERED', attempts = 1, done_at = now() where id = ${dead}`;
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^The wake-up is with the hosted side/);
  await ward.sql`update premise_core.notifications set state = 'SENT', attempts = 1, done_at = now() where id = ${sent}`;
  assert.match((await trace(ward.database, page.uniqueId))!.why, /^FCM accepted/);
});

test("a page that could not be sent says what it waits for", async () => {
  const { page } = await accepted();
  await change(page, 2, "WAIT", { detail: "the hosted side is away" });
  assert.match(
    (await trace(ward.database, page.uniqueId))!.why,
    /^Waiting: the hosted side is away, tried again in [45] s/,
  );
});

test("a failed page says why, and how long it can still be fetched", async () => {
  const { page } = await accepted();
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
  const { page } = await accepted({ trackingId: "both" });
  await refuse("both");
  const both = (await trace(ward.database, "both"))!;
  assert.equal([both.uniqueId, both.others], [null, [page.uniqueId]]);
});

test("of several pages under one trackingId the newest is traced and the others are named", async () => {
  const first = await accepted({ trackingId: "thread" });
  const second = await accepted({ trackingId: "thread" });
  const found = (await trace(ward.database, "thread"))!;
  assert.equal([found.uniqueId, found.others], [second.page.uniqueId, [first.page.uniqueId]]);
  assert.is((await trace(ward.database, "last"))?.uniqueId, second.page.uniqueId);
  const listed = await messagesUnder(ward.database, "thread", { status: null, destination: null }, 10);
  assert.equal(
    listed.map((item) => item.uniqueId),
    [second.page.uniqueId, first.page.uniqueId],
  );
  assert.is(await trace(ward.database, "threa"), null);
});

const ANY = { status: null, destination: null };

test("the list reaches back over every window to the oldest page, each once and newest first", async () => {
  await ward.sql`truncate premise_core.messages`;
  const ages = ["0 s", "0 s", "1 minute", "11 minutes", "2 hours", "20 hours", "6 days", "7 days", "8 days", "30 days"];
  const ids: string[] = [];
  const now = new Date();
  for (const age of ages) {
    const { page } = await accepted();
    await ward.sql`update premise_core.messages set accepted_at = ${now}::timestamptz - ${age}::text::interval where unique_id = ${page.uniqueId}`;
    ids.push(page.uniqueId);
  }
  for (const limit of [1, 3, 100]) {
    const seen: string[] = [];
    let cursor: string | null = null;
    for (let calls = 0; calls < 40; calls += 1) {
      const page = await listMessages(ward.database, ANY, cursor, limit);
      seen.push(...page.items.map((item) => item.uniqueId));
      cursor = page.next;
      if (cursor === null) break;
    }
    assert.is(cursor, null, "the list ends");
    assert.equal(seen.slice(2), ids.slice(2), `by ${limit}`);
    assert.equal(seen.slice(0, 2).sort(), ids.slice(0, 2).sort(), "two of one instant");
  }
  assert.is(
    (await trace(ward.database, "last"))!.uniqueId,
    (await listMessages(ward.database, ANY, null, 1)).items[0]!.uniqueId,
  );
});

test("pages written with microseconds between them, or none, are each listed once", async () => {
  await ward.sql`truncate premise_core.messages`;
  const ids: string[] = [];
  for (let n = 0; n < 6; n += 1) {
    const { page } = await accepted();
    await ward.sql`update premise_core.messages set accepted_at = date_trunc('second', now()) + ${n >> 1} * interval '1 microsecond' where unique_id = ${page.uniqueId}`;
    ids.push(page.uniqueId);
  }
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const page = await listMessages(ward.database, ANY, cursor, 1);
    seen.push(...page.items.map((item) => item.uniqueId));
    cursor = page.next;
  } while (cursor !== null && seen.length < 10);
  assert.equal([...seen].sort(), [...ids].sort());
});

test("stuck are pages long due, past timeoutDevice without an outcome, or with nothing due; and no others", async () => {
  await ward.sql`truncate premise_core.messages`;
  const set = async (text: (id: string) => PromiseLike<unknown>) => {
    const { page } = await accepted();
    await text(page.uniqueId);
    return page.uniqueId;
  };
  const overdue = await set(
    (id) => ward.sql`update premise_core.messages set due_at = now() - interval '11 s' where unique_id = ${id}`,
  );
  const late = await set(
    (id) => ward.sql`update premise_core.messages set device_deadline = now() - interval '1 s' where unique_id = ${id}`,
  );
  const forgotten = await set((id) => ward.sql`update premise_core.messages set due_at = null where unique_id = ${id}`);
  await set((id) => ward.sql`update premise_core.messages set due_at = now() - interval '2 s' where unique_id = ${id}`);
  await set(
    (id) =>
      ward.sql`update premise_core.messages set device_deadline = now() - interval '1 s', outcome = 'FAILED' where unique_id = ${id}`,
  );
  await set(
    (id) =>
      ward.sql`update premise_core.messages set device_deadline = now() - interval '1 s', status = 4 where unique_id = ${id}`,
  );
  await set(
    (id) => ward.sql`update premise_core.messages set due_at = null, status = 5, open = false where unique_id = ${id}`,
  );
  const page = await stuckMessages(ward.database, ANY, null, 10);
  assert.equal(
    page.items.map((item) => item.uniqueId),
    [overdue, late, forgotten],
  );
  const first = await stuckMessages(ward.database, ANY, null, 2);
  const rest = await stuckMessages(ward.database, ANY, first.next, 2);
  assert.equal(
    [...first.items, ...rest.items].map((item) => item.uniqueId),
    [overdue, late, forgotten],
  );
  assert.is(rest.next, null);
});

test("a cursor nobody gave out is refused", async () => {
  for (const cursor of ["", "1", "x.y", "1.2", `${"9".repeat(17)}.`]) {
    try {
      await listMessages(ward.database, ANY, cursor, 1);
      assert.unreachable(cursor);
    } catch (error) {
      assert.instance(error, RangeError, cursor);
    }
  }
});

test("the backlog counts what waits and how long", async () => {
  await ward.sql`truncate premise_core.messages, premise_core.host_outbox, core.message_queue`;
  assert.equal(await outboxBacklog(ward.database), { rows: 0, oldestSeconds: null });
  const { page } = await accepted();
  await ward.sql`update premise_core.messages set due_at = now() - interval '30 s' where unique_id = ${page.uniqueId}`;
  await enqueue(ward.database, [{ id: randomUUID() as NotificationId, gatewayType: "GCM", priority: "high" }]);
  const [outbox, due, pushes] = await Promise.all([
    outboxBacklog(ward.database),
    dueBacklog(ward.database),
    pushBacklog(ward.database),
  ]);
  assert.equal([outbox.rows, due.rows, pushes.rows], [2, 1, 1]);
  assert.ok(due.oldestSeconds! >= 30 && due.oldestSeconds! < 60);
  assert.ok(outbox.oldestSeconds! >= 0 && pushes.oldestSeconds! >= 0);
});

test.run();
