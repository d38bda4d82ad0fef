/** The operator's lists of pages: newest first to the very end, the stuck ones, and how much waits. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, NotificationId } from "../domain.ts";
import { dueBacklog, outboxBacklog, pushBacklog } from "../persistence/gauges.ts";
import {
  ANY_MESSAGE,
  listMessages,
  type MessageFilter,
  messagesUnder,
  stuckMessages,
} from "../persistence/message-list.ts";
import { enqueue } from "../persistence/message-queue.ts";
import { trace } from "../persistence/trace.ts";
import { openPagedWard, type PagedWard } from "./helpers/paged-ward.ts";

let ward: PagedWard;
test.before(async () => {
  ward = await openPagedWard();
});
test.after(() => ward.close());

const ANY = ANY_MESSAGE;

test("the list reaches back over every window to the oldest page, each once and newest first", async () => {
  await ward.sql`truncate premise_core.messages`;
  const ages = ["0 s", "0 s", "1 minute", "11 minutes", "2 hours", "20 hours", "6 days", "7 days", "8 days", "30 days"];
  const ids: string[] = [];
  const now = new Date();
  for (const age of ages) {
    const { page } = await ward.accepted();
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
    const { page } = await ward.accepted();
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

test("a page at the very edge of what one call looks at is listed by the next", async () => {
  await ward.sql`truncate premise_core.messages`;
  const at = new Date();
  const ids: string[] = [];
  for (const age of ["0 s", "1 s", "7 days"]) {
    const { page } = await ward.accepted();
    await ward.sql`update premise_core.messages set accepted_at = ${at}::timestamptz - ${age}::text::interval where unique_id = ${page.uniqueId}`;
    ids.push(page.uniqueId);
  }
  const first = await listMessages(ward.database, ANY, null, 1);
  const second = await listMessages(ward.database, ANY, first.next, 5);
  const third = await listMessages(ward.database, ANY, second.next, 5);
  const seen = [first, second, third].map((page) => page.items.map((item) => item.uniqueId));
  assert.equal(seen, [[ids[0]], [ids[1]], [ids[2]]]);
  assert.is(third.next, null);
});

test("stuck are pages long due or past timeoutDevice without an outcome; and no others", async () => {
  await ward.sql`truncate premise_core.messages`;
  const set = async (text: (id: string) => PromiseLike<unknown>) => {
    const { page } = await ward.accepted();
    await text(page.uniqueId);
    return page.uniqueId;
  };
  const overdue = await set(
    (id) => ward.sql`update premise_core.messages set due_at = now() - interval '11 s' where unique_id = ${id}`,
  );
  const late = await set(
    (id) => ward.sql`update premise_core.messages set device_deadline = now() - interval '1 s' where unique_id = ${id}`,
  );
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
    [overdue, late],
  );
  const first = await stuckMessages(ward.database, ANY, null, 1);
  const rest = await stuckMessages(ward.database, ANY, first.next, 1);
  assert.equal(
    [...first.items, ...rest.items].map((item) => item.uniqueId),
    [overdue, late],
  );
  assert.is(rest.next, null);
});

test("a page that was passed on is stuck only when its step's time is over", async () => {
  await ward.sql`truncate premise_core.messages`;
  const ids: string[] = [];
  for (const [step, left] of [
    [0, "-1 s"],
    [1, "1 minute"],
    [1, "-1 s"],
  ] as const) {
    const { page } = await ward.accepted();
    await ward.sql`
      update premise_core.messages set device_deadline = now() - interval '1 s', step = ${step},
        step_deadline = case when ${step} = 1 then now() + ${left}::text::interval end
      where unique_id = ${page.uniqueId}`;
    ids.push(page.uniqueId);
  }
  const stuck = await stuckMessages(ward.database, ANY, null, 10);
  assert.equal(
    stuck.items.map((item) => item.uniqueId),
    [ids[0], ids[2]],
  );
});

test("host system, priority, outcome and time narrow each list, and a time ends it", async () => {
  await ward.sql`truncate premise_core.messages`;
  const host = await ward.host("the lab");
  const at = new Date();
  const ids: Record<string, string> = {};
  const ages = { now: "0 s", minute: "1 minute", hour: "1 hour", days: "3 days", weeks: "20 days" };
  for (const [name, age] of Object.entries(ages)) {
    const { page } = await ward.accepted({
      trackingId: "narrowed",
      hostSystemId: host,
      priority: name === "hour" ? "low" : "high",
      text: name,
    });
    await ward.sql`
      update premise_core.messages set accepted_at = ${at}::timestamptz - ${age}::text::interval,
        outcome = case when ${name} = 'minute' then 'FAILED' end where unique_id = ${page.uniqueId}`;
    ids[name] = page.uniqueId;
  }
  const { page: other } = await ward.accepted();
  const before = (ms: number) => new Date(at.getTime() - ms);
  const [minute, hour, day] = [60_000, 3_600_000, 86_400_000];
  const cases: [Partial<MessageFilter>, string[]][] = [
    [{ host: "the lab" }, ["now", "minute", "hour", "days", "weeks"]],
    [{ host: "nobody" }, []],
    [{ priority: "low" }, ["hour"]],
    [{ outcome: "FAILED" }, ["minute"]],
    [{ since: before(hour) }, ["other", "now", "minute", "hour"]],
    [{ until: before(minute) }, ["minute", "hour", "days", "weeks"]],
    [{ since: before(4 * day), until: before(2 * minute) }, ["hour", "days"]],
    [{ until: before(10 * day) }, ["weeks"]],
    [{ since: before(5 * day), until: before(4 * day) }, []],
    [{ host: "the lab", priority: "high", until: before(minute) }, ["minute", "days", "weeks"]],
  ];
  ids.other = other.uniqueId;
  for (const [filter, expected] of cases) {
    for (const limit of [1, 100]) {
      const seen: string[] = [];
      let cursor: string | null = null;
      let calls = 0;
      do {
        const page = await listMessages(ward.database, { ...ANY, ...filter }, cursor, limit);
        seen.push(...page.items.map((item) => item.uniqueId));
        cursor = page.next;
        calls += 1;
      } while (cursor !== null && calls < 20);
      assert.is(cursor, null);
      assert.equal(
        seen,
        expected.map((name) => ids[name]!),
        JSON.stringify(filter),
      );
    }
  }
  const under = await messagesUnder(ward.database, "narrowed", { ...ANY, priority: "low" }, 10);
  assert.equal(
    under.map((item) => item.uniqueId),
    [ids.hour],
  );
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
  assert.equal(await outboxBacklog(ward.database), { rows: 0, oldestSeconds: 0 });
  const { page } = await ward.accepted();
  await ward.sql`update premise_core.messages set due_at = now() - interval '30 s' where unique_id = ${page.uniqueId}`;
  const [id, deviceId] = [randomUUID() as NotificationId, randomUUID() as DeviceId];
  await enqueue(ward.database, [{ id, deviceId, gatewayType: "GCM", priority: "high" }]);
  const [outbox, due, pushes] = await Promise.all([
    outboxBacklog(ward.database),
    dueBacklog(ward.database),
    pushBacklog(ward.database),
  ]);
  assert.equal([outbox.rows, due.rows, pushes.rows], [2, 1, 1]);
  assert.ok(due.oldestSeconds >= 30 && due.oldestSeconds < 60);
  assert.ok(outbox.oldestSeconds >= 0 && pushes.oldestSeconds >= 0);
});

test.run();
