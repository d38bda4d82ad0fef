/**
 * Statements are planned once on each connection, at worst while there is nothing in the tables. What each reads once they are
 * full is counted by Postgres; docs/decisions/0014 says what that asks of a statement.
 */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type BootId,
  type DeviceId,
  type NotificationId,
  SHARD_COUNT,
  type Shard,
  type SubscriberId,
  type UniqueId,
} from "../domain.ts";
import { silentLog } from "../log.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { releaseClaims } from "../persistence/claims.ts";
import { openDatabase } from "../persistence/database.ts";
import { confirmNotices, noticesOf } from "../persistence/device-notices.ts";
import { recordVersions, settingsOf, versionsOf } from "../persistence/device-settings.ts";
import { authenticate, clearDeadAddresses } from "../persistence/devices.ts";
import { claimDispatches, dispatchesOf, recordDispatches } from "../persistence/dispatches.ts";
import { inboxes } from "../persistence/inbox.ts";
import { claimDuePushes, claimPushes, enqueue, settlePushes } from "../persistence/message-queue.ts";
import { changeMessages, dueMessages } from "../persistence/messages.ts";
import {
  type Notification,
  openNotifications,
  overdueNotifications,
  recordOutcomes,
  storeNotifications,
} from "../persistence/notifications.ts";
import { claimNews, forgetNews, newsOfLinks, readNews } from "../persistence/outbox.ts";
import { changesSince } from "../persistence/page-changes.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { answerRepeats } from "../persistence/repeats.ts";
import { recordReplies } from "../persistence/replies.ts";
import { deleteExpiredNotices } from "../persistence/retention.ts";
import { trace } from "../persistence/trace.ts";
import { openDispatches } from "./helpers/dispatches.ts";

import { change, openPages } from "./helpers/pages.ts";
import { listens } from "./helpers/stream-journey.ts";
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
  insert into premise_core.nodes (boot, name, address, state, lock_key, lease_until)
  values (gen_random_uuid(), 'living', '', 'LIVE', 2, now() + interval '1 hour') returning boot`) as unknown as [
  { boot: BootId },
];
test.after(async () => {
  await database.close();
  await ward.close();
});

type Person = { destination: string; subscriberId: SubscriberId; deviceId: DeviceId; token: string };
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

/** What one page goes through, a statement each, for so many people at once. */
async function journey(whose: readonly Person[], ran: (what: string, work: () => Promise<unknown>) => Promise<void>) {
  // Every other one for one of the two devices of its person.
  const pages = whose
    .map(({ destination, deviceId }, n) =>
      pageFor(ward, lab, destination, { linkId: link, deviceId: n % 2 === 0 ? deviceId : null }),
    )
    .sort(byId);
  const ids = pages.map(({ uniqueId }) => uniqueId);
  const devices = whose.map(({ deviceId }) => deviceId);
  const to = new Map(whose.map((person) => [person.destination, person]));
  const entries = pages.map(({ uniqueId, destination }) => ({
    uniqueId,
    deviceId: to.get(destination)!.deviceId,
    receipt: "READ" as const,
  }));
  const notes = whose.map((person) => notification(person));
  const due = whose.map(
    ({ deviceId }, n) => ({ id: notes[n]!.id, deviceId, gatewayType: "GCM", priority: "high" }) as const,
  );
  const lane = { gatewayType: "GCM", urgent: true } as const;
  const shards = Array.from({ length: SHARD_COUNT }, (_, shard) => shard as Shard);

  let place: string | null = null;
  await ran("place", async () => {
    ({ next: place } = await changesSince(database, ANY_CHANGE, null, 1));
  });
  await ran("accept", () => acceptPages(database, "node", pages));
  await ran("repeat", () =>
    answerRepeats(
      database,
      (ids.length === 0 ? [randomUUID() as UniqueId] : ids).map((uniqueId) => ({ uniqueId, linkId: link })),
    ),
  );
  await ran("change", () =>
    changeMessages(
      database,
      "node",
      ids.map((id) => change(id, 2, { tell: "ENROUTE" })),
    ),
  );
  await ran("store", () => storeNotifications(database, notes));
  await ran("enqueue", () => enqueue(database, due));
  await ran("overdue", () => overdueNotifications(database, whose.length));
  await ran("claim by device", () => claimPushes(database, devices));
  await ran("settle again", () =>
    settlePushes(
      database,
      whose.map(({ deviceId }) => ({ deviceId, claim: 2, retryMs: 0 })),
    ),
  );
  await ran("claim what is due", () => claimDuePushes(database, lane, 0, whose.length));
  await ran("read", () => openNotifications(database, devices));
  const outcome = { attempts: 0, state: "SENT", code: null, providerId: null, retryMs: 0 } as const;
  await ran("record", () =>
    recordOutcomes(
      database,
      notes.map(({ id }) => ({ id, ...outcome })),
    ),
  );
  await ran("settle", () =>
    settlePushes(
      database,
      whose.map(({ deviceId }) => ({ deviceId, claim: 3, retryMs: null })),
    ),
  );
  await ran("authenticate", () =>
    authenticate(
      database,
      whose.map(({ token }) => token),
    ),
  );
  await ran("settings", () =>
    settingsOf(
      database,
      devices.map((deviceId) => ({ deviceId, have: 1, userSettings: { retentionDays: 3 } })),
    ),
  );
  await ran("versions of settings", () => versionsOf(database, devices));
  await ran("record versions", () =>
    recordVersions(
      database,
      devices.map((deviceId) => ({ deviceId, version: 2 })),
    ),
  );
  await ran("inbox", () =>
    inboxes(
      database,
      whose.map(({ deviceId, subscriberId }) => ({ device: { id: deviceId, subscriberId }, limit: 10 })),
    ),
  );
  await listens({ database, living }, whose, entries, ran);
  await ran("receipt", () => recordReceipts(database, "node", entries));
  await ran("recall", async () => {
    for (const uniqueId of ids.length === 0 ? [randomUUID() as UniqueId] : ids)
      await recallPage(database, "node", { uniqueId, by: "operator", reason: null });
  });
  await ran("due of recalled", () => dueMessages(database, shards, whose.length));
  await ran("store for recalled", () => storeNotifications(database, whose.map(notification)));
  await ran("read for recalled", () => openNotifications(database, devices));
  await ran("notices", () => noticesOf(database, devices, 100));
  await ran("expire", () =>
    changeMessages(
      database,
      "node",
      ids.map((id) => change(id, 5, { event: "EXPIRED", due: "never" })),
    ),
  );
  await ran("confirm notices", async () => {
    const entries = await noticesOf(database, devices, 100);
    await confirmNotices(database, entries);
  });
  await ran("retention of notices", () => deleteExpiredNotices(database));
  await ran("clear", () =>
    clearDeadAddresses(
      database,
      devices.map((deviceId) => ({ deviceId, notificationAddress: "?", since: 0 })),
    ),
  );
  await ran("changes", async () => {
    const { items } = await changesSince(database, ANY_CHANGE, place, 8 * BATCH);
    assert.ok(items.length >= 4 * whose.length);
  });
  await ran("trace", () => trace(database, ids[0] ?? randomUUID()));
  await database.run(
    (here) => here`update premise_core.messages set due_at = now() where unique_id = any (${ids}::uuid[])`,
  );
  await ran("due", () => dueMessages(database, shards, whose.length));
  await ran("news of links", () => newsOfLinks(database, [{ link, hostSystemId: lab, cursor: "0" }]));
  await ran("claim news", () => claimNews(database, link, lab, whose.length));
  let news: Awaited<ReturnType<typeof readNews>>["news"] = [];
  await ran("look", async () => {
    ({ news } = await readNews(database, link, { cursor: "0", afterId: "0", snapshot: null }, 4 * whose.length));
  });
  await ran("forget", () => forgetNews(database, link, news));
  await ran("reply", () =>
    recordReplies(
      database,
      "node",
      entries.map(({ uniqueId, deviceId }) => ({ uniqueId, deviceId, clientId: randomUUID(), text: "x" })),
    ),
  );
  await ran("answer", () =>
    recordReceipts(
      database,
      "node",
      entries.map((entry) => ({ ...entry, receipt: "IGNORED" })),
    ),
  );
  await ran("answer again", () =>
    recordReceipts(
      database,
      "node",
      entries.map((entry) => ({ ...entry, receipt: "ACKNOWLEDGED" })),
    ),
  );
}

const ANY_CHANGE = { host: null, destination: null, status: null, priority: null };
const byId = (a: { uniqueId: UniqueId }, b: { uniqueId: UniqueId }) => (a.uniqueId < b.uniqueId ? -1 : 1);

function notification({ deviceId }: Person): Notification {
  return {
    id: randomUUID() as NotificationId,
    tenantId: "default" as never,
    siteId: ward.siteId,
    deviceId,
    callbackData: randomUUID() as never,
    callbackUri: "http://127.0.0.1",
    gatewayType: "GCM",
    notificationAddress: "?",
    urls: [],
    messageCount: 1,
    priority: "high",
    coreVersion: "1",
    expiresAt: Date.now() + 3_600_000,
  };
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
  await journey([], (_, work) => work().then(() => {}));
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
  await journey(all.slice(0, BATCH), async (what, work) => {
    const before = await read();
    await work();
    const each = ((await read()) - before) / BATCH;
    if (each > (LANE_READERS.includes(what) ? LANE_READ_MAX : READ_MAX)) costs.push(`${what}: ${each}`);
  });
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
  const round = async (ran: (what: string, work: () => Promise<unknown>) => Promise<void>) => {
    let claimed: Awaited<ReturnType<typeof claimDispatches>> = [];
    await ran("claim dispatches", async () => {
      claimed = await claimDispatches(database, BATCH, [], BATCH);
    });
    const outcome = { state: "SENT", code: "250", tried: true, retryMs: 0 } as const;
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
  const desk = await gateway("Desk");
  await sql`insert into premise_core.dispatches (id, unique_id, gateway_id, address, expires_at, state, done_at)
    select gen_random_uuid(), unique_id, ${desk}, 'desk@hospital.example', now() + interval '1 hour',
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
  const [row] = await sql`select count(*)::integer as sent from premise_core.dispatches where code = '250'`;
  assert.is(row!.sent, BATCH);
});

test.run();
