/** What a lost node had claimed and not concluded is due at once, with its number. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { notificationFor } from "../actors/device.ts";
import type { PushTarget } from "../actors/message.ts";
import { openPaging } from "../actors/paging.ts";
import { startActorSystem } from "../cluster/actor-system.ts";
import { openBus } from "../cluster/bus.ts";
import type { Membership } from "../cluster/membership.ts";
import { openBranches } from "../cluster/shards.ts";
import { type BootId, type DeviceId, type NotificationId, SHARD_COUNT, type Shard, systemClock } from "../domain.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import { acceptPages, type Verdict } from "../persistence/acceptance.ts";
import { releaseClaims } from "../persistence/claims.ts";
import { declareDead } from "../persistence/leases.ts";
import { changeMessages, dueMessages } from "../persistence/messages.ts";
import { storeNotifications } from "../persistence/notifications.ts";
import { eventually } from "./helpers/eventually.ts";
import { change, openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
const pages = openPages(ward);
const ends: (() => void)[] = [];
test.after.each(() => {
  for (const end of ends.splice(0)) end();
});
test.after(() => ward.close());

const SHARDS = Array.from({ length: SHARD_COUNT }, (_, shard) => shard as Shard);

/** Held by nobody, unless a test says so. */
const LOCK = 1;

async function nodeRow(name: string, silentMs: number, state = "LIVE"): Promise<BootId> {
  const boot = randomUUID() as BootId;
  await sql`insert into premise_core.nodes (boot, name, address, state, lock_key, renewed_at, lease_until)
    values (${boot}, ${name}, '', ${state}, ${LOCK}, now() - ${silentMs} * interval '1 ms', now() + (2000 - ${silentMs}) * interval '1 ms')`;
  return boot;
}

/** Accepted by the node, which has the first wake-up to itself for 3 s. */
async function accepted(node: string) {
  const { destination, deviceId } = await pages.recipient();
  const page = pageFor(ward, lab, destination);
  const [verdict] = (await acceptPages(database, node, [page])) as [Verdict & { kind: "accepted" }];
  return { page, deviceId, verdict };
}

async function row(uniqueId: string) {
  const [found] = await sql<{ version: number; wakeups: number; ms: number; last: string }[]>`
    select version, wakeups, extract(epoch from due_at - clock_timestamp())::float8 * 1000 as ms,
      (select event || ' ' || node from premise_core.message_history as h where h.unique_id = m.unique_id order by seq desc limit 1) as last
    from premise_core.messages as m where unique_id = ${uniqueId}`;
  return found!;
}

/** A living node that drives everything, with the real store of notifications behind it. */
function owner() {
  const system = startActorSystem("owner");
  ends.push(() => system.close());
  return openPaging(
    { node: "owner", urls: () => ["http://127.0.0.1:1"], coreVersion: "1" },
    {
      database,
      system,
      branch: openBranches(system, "owner"),
      membership: { drives: () => true } as unknown as Membership,
      bus: openBus(null, { log: silentLog }),
      hosted: { request: async (notification) => void (await storeNotifications(database, [notification])) },
      log: silentLog,
      meter: silentMeter,
      clock: systemClock,
    },
  );
}

test("a page whose wake-up a lost node had handed over, but not noted, is taken up at once and its notification made once", async () => {
  const name = randomUUID();
  const boot = await nodeRow(name, 800);
  const { page, deviceId, verdict } = await accepted(name);
  const made = notificationFor(
    [
      {
        uniqueId: page.uniqueId,
        wakeup: 1,
        priority: "high",
        withdrawn: false,
        expiresAt: verdict.expiresAt,
        target: verdict.targets[0]! as PushTarget,
        replyTo: null as never,
      },
    ],
    ["http://127.0.0.1:1"],
    "1",
  );
  await storeNotifications(database, [made]);
  assert.ok((await row(page.uniqueId)).ms > 2_000, "it would have waited for the claim to run out");
  assert.is(await releaseClaims(database, "owner", [boot], 100), 1);
  const { ms, wakeups, last } = await row(page.uniqueId);
  assert.ok(ms <= 0);
  assert.equal([wakeups, last], [0, "RELEASE owner"]);
  for (const due of await dueMessages(database, SHARDS, 100)) {
    if (due.uniqueId === page.uniqueId) assert.ok(owner().drive(due));
  }
  await eventually("it is ENROUTE", async () => (await row(page.uniqueId)).last === "ENROUTE owner");
  const notes = await sql<
    { id: NotificationId }[]
  >`select id from premise_core.notifications where device_id = ${deviceId}`;
  assert.equal(
    notes.map(({ id }) => id),
    [made.id],
  );
  assert.equal(await pages.history(page.uniqueId), ["ACCEPTED", "QUEUED", "RELEASE", "WAKE", "ENROUTE"]);
  assert.equal(await pages.statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
});

test("what the lost node still writes, if it was not lost at all, finds the row changed", async () => {
  const name = randomUUID();
  const boot = await nodeRow(name, 800);
  const { page } = await accepted(name);
  await releaseClaims(database, "owner", [boot], 100);
  const late = change(page.uniqueId, 2, { event: "ENROUTE", transport: "ENROUTE", tell: "ENROUTE" });
  assert.equal(await changeMessages(database, name, [late]), [null]);
});

// what was done last, by whom, released
const table: [string, (name: string) => Promise<string>, boolean][] = [
  ["a first wake-up claimed with the insert", async (name) => (await accepted(name)).page.uniqueId, true],
  ["a later wake-up", (name) => after(name, "WAKE"), true],
  ["a wake-up that was concluded", (name) => after(name, "WAKE", "ENROUTE"), false],
  ["a wake-up that came to nothing", (name) => after(name, "WAKE", "WAIT"), false],
  ["a wake-up of another node", () => after("living", "WAKE"), false],
  ["a page that a phone has fetched meanwhile", (name) => fetched(name), false],
];

async function after(name: string, ...events: ("WAKE" | "ENROUTE" | "WAIT")[]): Promise<string> {
  const { page } = await accepted(name);
  let version = 2;
  for (const event of events) {
    const one = change(page.uniqueId, version, { event, wakes: event === "WAKE", due: 4_000 });
    version = (await changeMessages(database, name, [one]))[0]!.version;
  }
  return page.uniqueId;
}

async function fetched(name: string): Promise<string> {
  const { page, deviceId } = await accepted(name);
  await pages.receipt(page.uniqueId, deviceId as DeviceId, "DELIVERED");
  return page.uniqueId;
}

for (const [what, make, released] of table) {
  test(`${what} is ${released ? "released" : "left alone"}`, async () => {
    const name = randomUUID();
    const boot = await nodeRow(name, 800);
    const id = await make(name);
    const before = await row(id);
    assert.is(await releaseClaims(database, "owner", [boot], 100), Number(released));
    const now = await row(id);
    assert.is(now.wakeups, before.wakeups - Number(released));
    assert.is(now.version, before.version + Number(released));
    assert.is(now.ms <= 0, released);
    assert.is(await releaseClaims(database, "owner", [boot], 100), 0, "and nothing a second time");
  });
}

test("a reminder that a lost node had claimed is not counted twice", async () => {
  const name = randomUUID();
  const boot = await nodeRow(name, 800);
  const { page, deviceId } = await accepted(name);
  await pages.receipt(page.uniqueId, deviceId as DeviceId, "DELIVERED");
  const reminder = change(page.uniqueId, 3, { event: "WAKE", wakes: true, due: 4_000 });
  assert.ok((await changeMessages(database, name, [reminder]))[0]);
  assert.is(await releaseClaims(database, "owner", [boot], 100), 1);
  const [{ reminders } = {}] =
    await sql`select reminders from premise_core.messages where unique_id = ${page.uniqueId}`;
  assert.is(reminders, 0);
});

test("nothing is released of a node that is heard of, or was written off before", async () => {
  const [living, gone] = [randomUUID(), randomUUID()];
  const boots = [await nodeRow(living, 100), await nodeRow(gone, 800, "DEAD")];
  await accepted(living);
  await accepted(gone);
  assert.is(await releaseClaims(database, "owner", boots, 100), 0);
});

test("a node that was silent for a while and holds its lock again is neither written off nor are its claims released", async () => {
  const name = randomUUID();
  const boot = await nodeRow(name, 800);
  await accepted(name);
  const session = await sql.reserve();
  await session`select pg_advisory_lock(${LOCK})`;
  try {
    assert.is(await releaseClaims(database, "owner", [boot], 100), 0);
    assert.equal(await declareDead(database, [boot]), []);
  } finally {
    await session`select pg_advisory_unlock(${LOCK})`;
    session.release();
  }
  assert.is(await releaseClaims(database, "owner", [boot], 100), 1);
  assert.equal(await declareDead(database, [boot]), [boot]);
});

test("many claims are released a bounded number at a time, the most urgent as soon as the others", async () => {
  const name = randomUUID();
  const boot = await nodeRow(name, 800);
  for (let n = 0; n < 7; n += 1) await accepted(name);
  const counts = [];
  for (let n = 0; n < 4; n += 1) counts.push(await releaseClaims(database, "owner", [boot], 3));
  assert.equal(counts, [3, 3, 1, 0]);
});

test("two nodes that release at once release each claim once", async () => {
  const name = randomUUID();
  const boot = await nodeRow(name, 800);
  for (let n = 0; n < 20; n += 1) await accepted(name);
  const counts = await Promise.all(["a", "b", "c"].map((node) => releaseClaims(database, node, [boot], 100)));
  assert.is(
    counts.reduce((sum, count) => sum + count, 0),
    20,
  );
  const rows = await sql`select from premise_core.messages join premise_core.message_history using (unique_id)
    where event = 'RELEASE' and wakeups <> 0 and unique_id in (
      select unique_id from premise_core.message_history where event = 'QUEUED' and node = ${name})`;
  assert.is(rows.length, 0);
});

test.run();
