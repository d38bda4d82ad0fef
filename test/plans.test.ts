/**
 * Statements are planned once on each connection, at worst while there is nothing in the tables. What each reads once they are
 * full is counted by Postgres; docs/decisions/0014 says what that asks of a statement.
 */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, UniqueId } from "../domain.ts";
import { silentLog } from "../log.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { releaseClaims } from "../persistence/claims.ts";
import { openDatabase } from "../persistence/database.ts";
import { claimDispatches, dispatchesOf, recordDispatches } from "../persistence/dispatches.ts";
import { enqueue } from "../persistence/message-queue.ts";
import { storeNotifications } from "../persistence/notifications.ts";
import { openDispatches } from "./helpers/dispatches.ts";
import { byId, type Person, pageStatements } from "./helpers/page-statements.ts";
import { openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const PEOPLE = 2_000;
const BATCH = 50;
/** Of rows and index entries, for each entry of a statement; to read one of the tables whole takes 40. */
const READ_MAX = 25;
/** These read their lane of the outbox, which has two rows for each page. */
const LANE_READERS = ["look", "repeat", "trace"];
const LANE_READ_MAX = (5 * PEOPLE) / BATCH;

const ward = await openWard();
const { sql } = ward;
// One connection, so that each statement keeps the plan of its first call.
const one = { name: "premise_core", urls: [ward.url], node: "test", connectionsMax: 1 } as const;
const database = openDatabase(one, { log: silentLog });
await database.untilUp(5_000);
const lab = await ward.host("lab");
const link = await openPages(ward).link(lab);
const [{ boot: living }] = (await sql`
  insert into premise_core.nodes (boot, name, address, state, lock_key, lease_until, knows)
  values (gen_random_uuid(), 'living', '', 'LIVE', 2, now() + interval '1 hour', 32767) returning boot`) as unknown as [
  { boot: BootId },
];
test.after(async () => {
  await database.close();
  await ward.close();
});

const { journey, notification, passesOn, comesBack, saysBack } = pageStatements({ ward, database, living, lab, link });

async function people(from: number, to: number): Promise<Person[]> {
  return Promise.all(
    Array.from({ length: to - from }, async (_, n) => {
      const [destination, token] = [`6${from + n}`, randomUUID()];
      const subscriberId = await ward.subscriber(destination);
      if (from + n < BATCH) await ward.device(subscriberId);
      return { destination, subscriberId, token, deviceId: await ward.device(subscriberId, { token }) };
    }),
  );
}

/** Rows and index entries read so far, by all connections that have told. */
async function read(): Promise<number> {
  await database.run((tell) => tell`select pg_stat_force_next_flush()`);
  await database.run((tell) => tell`select 1`);
  const [row] = await sql<{ read: number }[]>`
    select (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes)::integer
      + (select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables)::integer as read`;
  return row!.read;
}

test("planned on empty tables, each statement of a page's way reads no more than what it is about once they are full", async () => {
  await sql`vacuum (analyze)`;
  const planned = (_: string, work: () => Promise<unknown>) => work().then(() => {});
  await journey([], planned);
  await passesOn([], planned);
  await comesBack([], planned);
  await saysBack([], planned);
  await releaseClaims(database, "node", [], BATCH);
  const all = await people(0, PEOPLE);
  // Never analysed: what the planner knows of the tables is what they were.
  for (let n = 0; n < all.length; n += 250) {
    const pages = all.slice(n, n + 250).map(({ destination }) => pageFor(ward, lab, destination, { linkId: link }));
    await acceptPages(database, "node", pages.sort(byId));
    const notes = all.slice(n, n + 250).map(notification);
    await storeNotifications(database, notes);
    await enqueue(
      database,
      notes.map(({ id, deviceId }) => ({ id, deviceId, gatewayType: "APNS", priority: "low" })),
    );
  }
  // Groups of one site, every second person in one of them.
  await sql`
    insert into premise_core.device_groups (tenant_id, site_id, name, is_default, settings)
    select 'default', ${ward.siteId}, n::text, n = 1, '{}' from generate_series(1, ${PEOPLE}) as n`;
  await sql`
    update premise_core.devices set group_id = (select id from premise_core.device_groups where name = right(destination, 3))
    from premise_core.subscribers where subscribers.id = subscriber_id and destination ~ '[1-9][0-9][02468]$'`;
  // Before where they stood: on a slow machine that is past by now, and what they left there would be read first.
  await sql`update premise_core.notifications set queue_check_at = now() - interval '1 hour'`;
  // What the test's own connections have read they tell now, and not in the middle.
  for (let n = 0; n < 2; n += 1)
    await Promise.all([1, 2].map(() => sql`select pg_stat_force_next_flush(), pg_sleep(0.1)`));
  // On the connection whose reading is counted, so that it is counted by now.
  await database.run(
    (fill) =>
      fill`update premise_core.devices set stream_boot = ${living}, stream_epoch = gen_random_uuid(), stream_opened_at = now() - interval '1 hour'`,
  );
  await database.run(
    (fill) => fill`insert into premise_core.device_notices (device_id, unique_id, kind, expires_at)
    select id, gen_random_uuid(), 'RECALLED', now() + interval '1 hour' from premise_core.devices`,
  );
  const costs: string[] = [];
  const counted = async (what: string, work: () => Promise<unknown>) => {
    const before = await read();
    await work();
    const each = ((await read()) - before) / BATCH;
    if (each > (LANE_READERS.includes(what) ? LANE_READ_MAX : READ_MAX)) costs.push(`${what}: ${each}`);
  };
  await journey(all.slice(0, BATCH), counted);
  await passesOn(all.slice(BATCH, 2 * BATCH), counted);
  await comesBack(all.slice(2 * BATCH, 3 * BATCH), counted);
  await saysBack(all.slice(3 * BATCH, 4 * BATCH), counted);
  assert.equal(costs, []);
});

test("what a lost node had claimed is found without a look at what others are to do, and that there is nothing at once", async () => {
  const [lost] = await sql<{ boot: BootId }[]>`
    insert into premise_core.nodes (boot, name, address, state, lock_key, lease_until)
    values (gen_random_uuid(), 'lost', '', 'LIVE', 1, now()) returning boot`;
  // The claims of the 2,000 pages accepted before run out.
  await sql`select pg_sleep(5)`;
  const whose = await people(PEOPLE, PEOPLE + BATCH);
  await acceptPages(database, "lost", whose.map(({ destination }) => pageFor(ward, lab, destination)).sort(byId));
  await Promise.all([1, 2].map(() => sql`select pg_stat_force_next_flush(), pg_sleep(0.1)`));
  for (const [boots, released] of [
    [[], 0],
    [[lost!.boot], BATCH],
    [[lost!.boot], 0],
  ] as const) {
    const before = await read();
    assert.is(await releaseClaims(database, "node", boots, 2 * BATCH), released);
    const each = ((await read()) - before) / BATCH;
    assert.ok(each <= (released > 0 ? READ_MAX : 4), `${boots.length} lost, ${released} released: ${each}`);
  }
});

test("what leaves by gateways is found by its gateway and its page, whatever else is there", async () => {
  const { gateway } = openDispatches(sql, ward.siteId);
  let desk: string[] = [];
  const round = async (ran: (what: string, work: () => Promise<unknown>) => Promise<void>) => {
    let claimed: Awaited<ReturnType<typeof claimDispatches>> = [];
    await ran("claim dispatches", async () => {
      claimed = await claimDispatches(database, { answering: desk, each: BATCH }, [], BATCH);
    });
    const outcome = { state: "REFUSED", code: "550", tried: true, retryMs: 0 } as const;
    await ran("record dispatches", () =>
      recordDispatches(
        database,
        claimed.map(({ id, attempts }) => ({ id, attempts, ...outcome })),
      ),
    );
    await ran("dispatches of a page", () =>
      dispatchesOf(database, claimed[0]?.uniqueId ?? (randomUUID() as UniqueId), 10),
    );
  };
  await round((_, work) => work().then(() => {}));
  desk = [await gateway("Desk")];
  await sql`insert into premise_core.dispatches (id, unique_id, gateway_id, address, expires_at, state, done_at)
    select gen_random_uuid(), unique_id, ${desk[0]!}, 'desk@hospital.example', now() + interval '1 hour',
      case when n % 2 = 0 then 'STORED' else 'SENT' end, case when n % 2 = 1 then now() end
    from (select unique_id, row_number() over () as n from premise_core.messages limit ${PEOPLE}) as page`;
  await Promise.all([1, 2].map(() => sql`select pg_stat_force_next_flush(), pg_sleep(0.1)`));
  const costs: string[] = [];
  await round(async (what, work) => {
    const before = await read();
    await work();
    const each = ((await read()) - before) / BATCH;
    if (each > READ_MAX) costs.push(`${what}: ${each}`);
  });
  assert.equal(costs, []);
  const [row] = await sql`select count(*)::integer as refused from premise_core.dispatches where code = '550'`;
  assert.is(row!.refused, BATCH);
});

test.run();
