import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Membership } from "../cluster/membership.ts";
import { openRetention } from "../cluster/retention.ts";
import { systemClock, type UniqueId } from "../domain.ts";
import { silentLog } from "../log.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { noticesOf } from "../persistence/device-notices.ts";
import { recordRefusals } from "../persistence/refusals.ts";
import {
  deleteEndedNotifications,
  deleteEndedPages,
  deleteExpiredNotices,
  deleteForgottenPushes,
  deleteOldRefusals,
  endExpiredNotifications,
} from "../persistence/retention.ts";
import { eventually } from "./helpers/eventually.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const DAYS = 90;
const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
await ward.device(await ward.subscriber("5550101"));
test.after(() => ward.close());
test.after.each(async () => {
  await sql`truncate premise_core.messages, premise_core.message_history, premise_core.host_outbox, premise_core.notifications,
    premise_core.refusals, core.message_queue`;
});

/** As a page was left: hours since its expiry (negative: it has yet to come), when something is due for it, what is untold. */
type Left = {
  readonly hours: number;
  readonly due: number | null;
  readonly open: boolean;
  readonly untold: number;
  readonly synthetic: boolean;
};
const OVER: Left = { hours: DAYS * 24 + 1, due: null, open: false, untold: 0, synthetic: false };

async function leave(pages: readonly Left[], lines = 2): Promise<UniqueId[]> {
  const ids: UniqueId[] = [];
  for (let at = 0; at < pages.length; at += 200) {
    const accepted = pages.slice(at, at + 200).map(({ synthetic }) => pageFor(ward, lab, "5550101", { synthetic }));
    await acceptPages(database, "node-a", accepted);
    ids.push(...accepted.map((page) => page.uniqueId));
  }
  const input = pages.map((page, n) => ({ ...page, id: ids[n] }));
  await sql`
    with input as (select * from json_to_recordset(${JSON.stringify(input)}::text::json)
      as page (id uuid, hours float, due float, open boolean, untold integer)),
    changed as (
      update premise_core.messages set open = input.open, expires_at = now() - input.hours * interval '1 hour',
        due_at = now() + input.due * interval '1 hour', version = ${lines}
      from input where unique_id = input.id)
    delete from premise_core.host_outbox using input
    where unique_id = input.id and host_outbox.id > coalesce(
      (select min(first.id) from premise_core.host_outbox as first where first.unique_id = input.id), 0) + input.untold - 1`;
  if (lines > 2) {
    await sql`insert into premise_core.message_history (unique_id, seq, event, at, node)
      select id, seq, 'WAKE', now(), 'node-a' from unnest(${ids}::uuid[]) as id, generate_series(3, ${lines}::integer) as seq`;
  }
  return ids;
}

async function presentPages() {
  const rows = await sql<{ id: UniqueId; open: boolean; version: number; lines: number; untold: number }[]>`
    select unique_id as id, open, version,
      (select count(*)::integer from premise_core.message_history as line where line.unique_id = messages.unique_id) as lines,
      (select count(*)::integer from premise_core.host_outbox as row where row.unique_id = messages.unique_id) as untold
    from premise_core.messages`;
  return new Map(rows.map((row) => [row.id, row]));
}

/** As the loop does, to its end. */
async function tidies(): Promise<void> {
  for (let place: string | null = null, more = true; more; ) {
    const { next, unfinished } = await deleteEndedPages(database, DAYS, place);
    place = next;
    more = unfinished || next !== null;
  }
}

const anyLeft = fc.record({
  hours: fc.constantFrom(-72, -0.1, 0.1, 24, DAYS * 24 - 1, DAYS * 24 + 1, 5_000),
  due: fc.constantFrom(null, null, null, -2_000, 0, 1),
  open: fc.boolean(),
  untold: fc.constantFrom(0, 0, 0, 1, 2),
  synthetic: fc.constantFrom(false, false, true),
});
/** What can be fetched has something due. */
const lefts = anyLeft.map((page) => ({ ...page, open: page.open && page.due !== null }));

test("nothing open, unexpired, due or untold is ever deleted, and everything else is, with its history; test pages after an hour", async () => {
  await fc.assert(
    fc
      .asyncProperty(fc.array(lefts, { minLength: 1, maxLength: 60 }), async (pages) => {
        const ids = await leave(pages);
        const outside = await sql`select from premise_core.message_history where not unique_id = any (${ids}::uuid[])`;
        assert.is(outside.length, 0);
        await tidies();
        const present = await presentPages();
        for (const [n, page] of pages.entries()) {
          const row = present.get(ids[n]!);
          const said = JSON.stringify(page);
          const over = page.synthetic ? page.hours > 1 : page.hours > DAYS * 24 && page.untold === 0;
          if (page.due === null && over) {
            assert.is(row, undefined, `${said} is over`);
            continue;
          }
          assert.equal(row, { id: ids[n]!, open: page.open, version: 2, lines: 2, untold: page.untold }, said);
        }
        const [history] = await sql<
          { orphans: number }[]
        >`select count(*)::integer as orphans from premise_core.message_history
          where unique_id not in (select unique_id from premise_core.messages)`;
        assert.is(history!.orphans, 0);
        const [news] = await sql<
          { orphans: number }[]
        >`select count(*)::integer as orphans from premise_core.host_outbox
          where unique_id not in (select unique_id from premise_core.messages)`;
        assert.is(news!.orphans, 0);
      })
      .afterEach(async () => {
        await sql`truncate premise_core.messages, premise_core.message_history, premise_core.host_outbox`;
      }),
    { numRuns: 25 },
  );
});

test("a page with more history than one batch may hold goes last line and all, in bounded batches", async () => {
  const [long, short] = [await leave([OVER], 2_500), await leave([OVER])];
  const counts: number[] = [];
  const count = async () => {
    const [row] = await sql<{ count: number }[]>`select count(*)::integer as count from premise_core.message_history`;
    return row!.count;
  };
  let before = await count();
  for (let more = true; more; ) {
    more = (await deleteEndedPages(database, DAYS)).unfinished;
    const after = await count();
    counts.push(before - after);
    before = after;
  }
  assert.ok(Math.max(...counts) <= 1_000, counts.join());
  assert.is(before, 0);
  const present = await presentPages();
  assert.equal([present.has(long[0]!), present.has(short[0]!)], [false, false]);
});

test("any number of pages that a host has yet to be told of keep none behind them", async () => {
  const untold = await leave(Array.from({ length: 600 }, () => ({ ...OVER, hours: OVER.hours + 24, untold: 1 })));
  await leave(Array.from({ length: 300 }, () => OVER));
  await tidies();
  const present = await presentPages();
  assert.is(present.size, untold.length);
  assert.ok(untold.every((id) => present.has(id)));
});

test("pages that others hold or have just changed are passed over without a wait", async () => {
  const [held, free] = await leave([OVER, OVER]);
  const [locked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const holding = sql.begin(async (transaction) => {
    await transaction`update premise_core.messages set version = version + 1, status = 5 where unique_id = ${held!}`;
    locked.resolve();
    await released.promise;
  });
  await locked.promise;
  const deleting = deleteEndedPages(database, DAYS).finally(released.resolve);
  assert.equal(await deleting, { pages: 1, next: null, unfinished: false });
  await holding;
  const present = await presentPages();
  assert.equal([present.has(held!), present.has(free!)], [true, false]);
});

type Push = {
  readonly state: "STORED" | "SENT" | "EXPIRED";
  readonly doneDays: number;
  readonly expiredHours: number;
  readonly queueDays: number | null;
};

test("pushes go a week after their outcome; one that nobody took up is ended when its page has expired", async () => {
  const push = fc.record<Push>({
    state: fc.constantFrom("STORED", "SENT", "EXPIRED"),
    doneDays: fc.constantFrom(0, 6.9, 7.1, 100),
    expiredHours: fc.constantFrom(-72, 0.5, 1.5, 500),
    queueDays: fc.constantFrom(null, 0, 6.9, 7.1),
  });
  await fc.assert(
    fc
      .asyncProperty(fc.array(push, { minLength: 1, maxLength: 40 }), async (pushes) => {
        const rows = pushes.map((one) => ({ ...one, id: randomUUID() }));
        await sql`
          insert into premise_core.notifications (id, tenant_id, site_id, device_id, callback_data, callback_uri, gateway_type,
            notification_address, urls, message_count, priority, core_version, expires_at, state, done_at, queue_check_at)
          select id, 'default', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '', 'GCM', 'a', '{}', 1, 0, '1',
            now() - "expiredHours" * interval '1 hour', state, case when state <> 'STORED' then now() - "doneDays" * interval '1 day' end,
            case when state = 'STORED' then now() end
          from json_to_recordset(${JSON.stringify(rows)}::text::json) as push(id uuid, state text, "doneDays" float, "expiredHours" float)`;
        await sql`
          insert into core.message_queue (device_id, gateway_type, priority, due_at)
          select id, 'GCM', 0, now() - "queueDays" * interval '1 day'
          from json_to_recordset(${JSON.stringify(rows.filter((row) => row.queueDays !== null))}::text::json) as push(id uuid, "queueDays" float)`;
        await endExpiredNotifications(database);
        await deleteEndedNotifications(database);
        await deleteForgottenPushes(database);
        const left = new Map(
          (await sql<{ id: string; state: string }[]>`select id, state from premise_core.notifications`).map((row) => [
            row.id,
            row.state,
          ]),
        );
        const queued = new Set(
          (await sql<{ id: string }[]>`select device_id as id from core.message_queue`).map((row) => row.id),
        );
        for (const { id, state, doneDays, expiredHours, queueDays } of rows) {
          const said = JSON.stringify({ state, doneDays, expiredHours, queueDays });
          const expected =
            state === "STORED" ? (expiredHours > 1 ? "EXPIRED" : "STORED") : doneDays > 7 ? undefined : state;
          assert.is(left.get(id), expected, said);
          assert.is(queued.has(id), queueDays !== null && queueDays < 7, said);
        }
      })
      .afterEach(async () => {
        await sql`truncate premise_core.notifications, core.message_queue`;
      }),
    { numRuns: 20 },
  );
});

test("refusals are kept for a week", async () => {
  const refusal = { hostSystemId: null, origin: "lab", destination: "1", reason: "unknown destination" };
  await recordRefusals(database, "node-a", [
    { ...refusal, trackingId: "old" },
    { ...refusal, trackingId: "new" },
  ]);
  await sql`update premise_core.refusals set at = now() - interval '169 hours' where tracking_id = 'old'`;
  assert.is(await deleteOldRefusals(database), 1);
  const rows = await sql<{ id: string }[]>`select tracking_id as id from premise_core.refusals`;
  assert.equal(
    rows.map((row) => row.id),
    ["new"],
  );
});

test("what a device was to hear goes when its time is over, confirmed or not", async () => {
  const device = await ward.device(await ward.subscriber("5550102"));
  await sql`insert into premise_core.device_notices (device_id, unique_id, kind, expires_at)
    select ${device}, gen_random_uuid(), 'RECALLED', now() + hours * interval '1 hour' from unnest(array[-100, -0.1, 0.1, 100]) as hours`;
  assert.is(await deleteExpiredNotices(database), 2);
  assert.is(await deleteExpiredNotices(database), 0);
  assert.is((await noticesOf(database, [device], 10)).length, 2);
});

test("the node that drives shard 0 tidies up to the end, the others do nothing", async () => {
  await leave(Array.from({ length: 600 }, () => OVER));
  let drives = false;
  const membership = { drives: (shard: number) => drives && shard === 0 } as unknown as Membership;
  const retention = openRetention(
    { days: DAYS },
    { premise: database, core: database, membership, log: silentLog, clock: systemClock },
  );
  try {
    await retention.run();
    assert.is((await presentPages()).size, 600);
    drives = true;
    await retention.run();
    assert.is((await presentPages()).size, 350, "a batch at a time");
    await eventually("the rest follows by itself", async () => (await presentPages()).size === 0);
  } finally {
    await retention.close();
  }
});

test.run();
