// limit: 300 s, waits
/** The primary is followed among a real pair of servers, whatever becomes of them. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Database, DatabaseDown, openDatabase } from "../persistence/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { recordLog } from "./helpers/log-record.ts";
import { openPair, type Pair } from "./helpers/pair.ts";
import { openProxy, through } from "./helpers/proxy.ts";

const WRITES_MS = 1_000;
const folder = mkdtempSync(join(tmpdir(), "tocsin-timelines-"));
const closers: (() => Promise<void>)[] = [];
let files = 0;

let shared: Pair | null = null;

/** The pair that all tests share, as new but for its timeline; `old` and `next`: its primary and its standby as the test begins. */
async function pairOf({ synchronous = true } = {}) {
  await shared?.rebuildOld().catch(async () => {
    // A test that failed may have left anything.
    await shared?.close();
    shared = null;
  });
  shared ??= await openPair({ settings: { max_connections: "40" } });
  const pair = shared;
  if (!synchronous) await pair.dropStandby();
  await pair.sql().unsafe("drop table if exists pages; create table pages (n integer)");
  const [row] = await pair.sql()<{ timeline: string }[]>`
    select substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8) as timeline`;
  const old = pair.primaryUrl();
  const next = pair.urls.find((url) => url !== old)!;
  return { pair, old, next, timeline: Number.parseInt(row!.timeline, 16) };
}

/** Each with what is remembered in a file of its own, as if it were a process of its own. */
function open(pair: Pair, more: { readonly lease?: boolean; readonly timelineFile?: string } = {}) {
  const { log, lines } = recordLog();
  const timelineFile = more.timelineFile ?? join(folder, `${++files}`);
  const slice = { name: "core" as const, urls: pair.urls, node: "test", connectionsMax: 4, ...more, timelineFile };
  const database = openDatabase(slice, { log });
  closers.unshift(database.close);
  return { database, lines, timelineFile };
}

async function openUp(pair: Pair, more: Parameters<typeof open>[1] = {}) {
  const opened = open(pair, more);
  await opened.database.untilUp(5_000);
  return opened;
}

const write = (database: Database, n: number) => database.run((sql) => sql`insert into pages values (${n})`);
const refusals = (lines: ReturnType<typeof recordLog>["lines"]) =>
  lines.filter(({ level, event }) => level === "error" && event === "a database server that takes writes is refused");

/** Writes one row after the other until it is told to end; what was acknowledged, and when each write ended well. */
function writeOn(database: Database) {
  const acknowledged: number[] = [];
  let lastAt = 0;
  let ending = false;
  const running = (async () => {
    for (let n = 0; !ending; n += 1) {
      try {
        await write(database, n);
        acknowledged.push(n);
        lastAt = performance.now();
      } catch (error) {
        assert.instance(error, DatabaseDown);
        await sleep(5);
      }
    }
  })();
  const writer = {
    acknowledged,
    wroteAfter: (at: number) =>
      eventually("it writes", () => (lastAt > at ? lastAt - at : undefined), 10_000) as Promise<number>,
    async ends() {
      ending = true;
      await running;
    },
  };
  closers.unshift(writer.ends);
  return writer;
}

test.after.each(async () => {
  for (const close of closers.splice(0)) await close();
});
test.after(async () => {
  await shared?.close();
  rmSync(folder, { recursive: true, force: true });
});

test("after the primary is killed and its standby promoted it writes within 1 s, and nothing acknowledged is lost", async () => {
  const { pair, next } = await pairOf();
  const { database } = await openUp(pair);
  const writer = writeOn(database);
  await eventually("it writes", () => writer.acknowledged.length > 50);
  await pair.killPrimary();
  await sleep(1_500);
  const promoted = await pair.promote();
  const took = await writer.wroteAfter(promoted);
  await writer.ends();
  assert.ok(took < WRITES_MS, `${Math.round(took)} ms`);
  assert.is(database.currentUrl(), next);
  const there = new Set((await pair.sql()<{ n: number }[]>`select n from pages`).map(({ n }) => n));
  assert.equal(
    writer.acknowledged.filter((n) => !there.has(n)),
    [],
  );
});

test("a primary demoted in place is left at once, though its sessions stay open and no statement meets it", async () => {
  const { pair, next } = await pairOf({ synchronous: false });
  const { database } = await openUp(pair);
  await pair.demoteInPlace();
  await eventually("it is left", () => !database.isUp(), 1_500);
  await pair.raiseAgain();
  await eventually("it is found again", () => database.isUp(), 1_500);
  await write(database, 1);
  await pair.demoteInPlace();
  const promoted = await pair.promote();
  const took = await writeOn(database).wroteAfter(promoted);
  assert.ok(took < WRITES_MS, `${Math.round(took)} ms`);
  assert.is(database.currentUrl(), next);
});

test("a primary that still writes is left within a second of its standby's promotion, and refused from then on", async () => {
  const { pair, next } = await pairOf({ synchronous: false });
  const { database, lines } = await openUp(pair);
  const promoted = await pair.promote();
  await eventually("it is left", () => database.currentUrl() === next, 1_500);
  assert.ok(performance.now() - promoted < WRITES_MS);
  await write(database, 1);
  assert.is((await pair.sql()`select from pages`).length, 1);
  assert.is(refusals(lines).length, 1);
});

test("an old primary that comes back able to write is refused, told once, and not taken when the new one is gone", async () => {
  const { pair, old, next, timeline } = await pairOf();
  const { database, lines } = await openUp(pair);
  await pair.killPrimary();
  await pair.promote();
  await eventually("the new one is found", () => database.currentUrl() === next);
  await pair.startOldAgain();
  await eventually("it is refused", () => database.servers().refused.length === 1);
  await sleep(1_500);
  assert.is(database.currentUrl(), next);
  await pair.killPrimary();
  await eventually("the new one is lost", () => !database.isUp());
  await sleep(2_000);
  assert.is(database.isUp(), false);
  assert.is(refusals(lines).length, 1, "once");
  assert.is(refusals(lines)[0]!.fields.timeline, timeline);
  assert.not.match(JSON.stringify(lines), new URL(old).password);
  await pair.startPrimary();
  await eventually("the new one is found again", () => database.currentUrl() === next);
});

test("a node that starts again refuses the old primary by its file", async () => {
  const { pair, old, next, timeline } = await pairOf({ synchronous: false });
  const { database, timelineFile } = await openUp(pair);
  await pair.killPrimary();
  await pair.promote();
  await eventually("the new one is found", () => database.currentUrl() === next);
  await database.close();
  await pair.killPrimary();
  await pair.startOldAgain();
  // Another file is another memory: nothing but what was written to it is known.
  const kept = join(folder, "kept");
  copyFileSync(timelineFile, kept);
  assert.match(readFileSync(kept, "utf8"), new RegExp(`^\\d+ ${timeline + 1}\n$`));
  const remembering = open(pair, { timelineFile: kept });
  await remembering.database.untilUp(3_000).then(
    () => assert.unreachable("it fell for it"),
    (error) => assert.instance(error, DatabaseDown),
  );
  assert.is(refusals(remembering.lines).length, 1);
  const { database: new_ } = await openUp(pair, { timelineFile: join(folder, "none") });
  assert.is(new_.currentUrl(), old, "one that knows of nothing takes it");
  await pair.startPrimary();
});

test("a frozen primary is left, its promoted standby written to within 1 s, and it is refused when it thaws", async () => {
  const { pair, next } = await pairOf();
  const { database, lines } = await openUp(pair);
  const writer = writeOn(database);
  await eventually("it writes", () => writer.acknowledged.length > 50);
  pair.freezePrimary();
  await eventually("it is left", () => !database.isUp(), 3_000);
  const promoted = await pair.promote();
  const took = await writer.wroteAfter(promoted);
  assert.ok(took < WRITES_MS, `${Math.round(took)} ms`);
  await writer.ends();
  pair.thawPrimary();
  await eventually("it is refused", () => refusals(lines).length === 1);
  assert.is(database.currentUrl(), next);
});

test("while commits wait for a lost standby it says so, reads and leases go on, and no session is left behind for each try", async () => {
  const { pair } = await pairOf();
  const { database, timelineFile } = await openUp(pair);
  const { database: lease } = await openUp(pair, { lease: true, timelineFile });
  await pair.killStandby();
  const writers = Array.from({ length: 8 }, () => writeOn(database));
  await eventually("commits hang", () => database.servers().primary?.state === "stalled", 5_000);
  await eventually(
    "the standby is missed",
    () => {
      const replication = database.servers().primary?.replication;
      return replication?.required === 1 && replication.inSync === 0 && replication.waiting > 0;
    },
    5_000,
  );
  const sessions = async () =>
    (await pair.sql()`select from pg_stat_activity where application_name like 'tocsin%'`).length;
  await sleep(6_000);
  const early = await sessions();
  await sleep(7_000);
  assert.ok((await sessions()) <= early, `${early} sessions became ${await sessions()}`);
  await write(lease, -1);
  await pair.dropStandby();
  for (const writer of writers) {
    const took = await writer.wroteAfter(performance.now());
    assert.ok(took < 3_000, `${Math.round(took)} ms`);
    await writer.ends();
  }
  const there = new Set((await pair.sql()<{ n: number }[]>`select n from pages`).map(({ n }) => n));
  for (const writer of writers) for (const n of writer.acknowledged) assert.ok(there.has(n));
});

test("a role without rights of its own follows the primary; what standbys do it sees as a member of pg_monitor", async () => {
  const { pair } = await pairOf();
  await pair.sql().unsafe("create role plain login password 'plain'");
  const urls = pair.urls.map((url) => Object.assign(new URL(url), { username: "plain", password: "plain" }).href);
  const { log } = recordLog();
  const database = openDatabase({ name: "core", urls, node: "test", connectionsMax: 1 }, { log });
  closers.unshift(database.close);
  await database.untilUp(5_000);
  const replication = () => database.servers().primary?.replication;
  await eventually("it has asked", () => replication() != null);
  assert.equal([replication()?.required, replication()?.inSync], [1, null]);
  await pair.sql().unsafe("grant pg_monitor to plain");
  await eventually("it sees the standby", () => replication()?.inSync === 1);
});

test("behind an address that leads to the promoted server now, it is found and the old one's sessions are left", async () => {
  const { pair, old, next, timeline } = await pairOf({ synchronous: false });
  const address = (url: string) => ({ host: new URL(url).hostname, port: Number(new URL(url).port) });
  const target = address(old);
  const proxy = await openProxy(target);
  closers.push(proxy.close);
  const { log } = recordLog();
  const slice = { name: "core" as const, urls: [through(proxy, old)], node: "test", connectionsMax: 2 };
  const database = openDatabase(slice, { log });
  closers.unshift(database.close);
  await database.untilUp(5_000);
  await pair.demoteInPlace();
  await eventually("it is left", () => !database.isUp());
  await pair.promote();
  // For connections to come; those there are stay where they are.
  Object.assign(target, address(next));
  await eventually(
    "the new one is found",
    () => database.servers().primary?.timeline === timeline + 1 && database.isUp(),
    3_000,
  );
  await write(database, 1);
});

test("with both servers away nothing spins, and the first that is back and may be the primary is found", async () => {
  const { pair, next } = await pairOf();
  const { database } = await openUp(pair);
  await Promise.all([pair.killStandby(), pair.killPrimary()]);
  await eventually("it is lost", () => !database.isUp());
  const before = process.cpuUsage();
  await sleep(3_000);
  const { user, system } = process.cpuUsage(before);
  assert.ok((user + system) / 1_000 < 1_000, `${Math.round((user + system) / 1_000)} ms of 3 s at work`);
  await pair.startStandby();
  await sleep(1_000);
  assert.is(database.isUp(), false, "a standby is none");
  await pair.promote();
  await eventually("it is found", () => database.currentUrl() === next, WRITES_MS);
});

test.run();
