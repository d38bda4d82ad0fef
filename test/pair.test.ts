// limit: 120 s
/** The pair of servers that tests of failover stand on behaves as a pair does. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openPair, type Pair } from "./helpers/pair.ts";

async function withPair(synchronous: boolean, use: (pair: Pair) => Promise<void>): Promise<void> {
  const pair = await openPair({ synchronous });
  try {
    await use(pair);
  } finally {
    await pair.close();
  }
}

const HANGS_MS = 700;

function session(url: string): postgres.Sql {
  return postgres(url, { max: 1, onnotice: () => {} });
}

const TIMELINE = "substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8)";

test("what a synchronous pair committed is there after its primary was killed and its standby promoted", () =>
  withPair(true, async (pair) => {
    await pair.sql()`create table pages (n int)`;
    await pair.sql()`insert into pages select generate_series(1, 100)`;
    await pair.killPrimary();
    await pair.promote();
    assert.is(pair.primaryUrl(), pair.urls[1]);
    await pair.sql()`insert into pages values (101)`;
    assert.is((await pair.sql()`select from pages`).length, 101);
    await pair.startOldAgain();
    const old = session(pair.urls[0]);
    try {
      const [theirs] = await old.unsafe(`select ${TIMELINE} as timeline, pg_is_in_recovery() as standby`);
      const [ours] = await pair.sql().unsafe(`select ${TIMELINE} as timeline`);
      assert.equal([theirs!.timeline, theirs!.standby, ours!.timeline], ["00000001", false, "00000002"]);
    } finally {
      await old.end({ timeout: 0 });
    }
  }));

test("the old primary is rebuilt as the standby, and the roles change again and again", () =>
  withPair(true, async (pair) => {
    await pair.sql()`create table pages (n int)`;
    for (const round of [1, 2, 3]) {
      await pair.sql()`insert into pages values (${round})`;
      await pair.killPrimary();
      await pair.promote();
      assert.is((await pair.sql()`select from pages`).length, round);
      await pair.rebuildOld();
    }
    assert.is(pair.primaryUrl(), pair.urls[1]);
  }));

test("without its standby a synchronous primary's commits hang until the standby is dropped, or is back", () =>
  withPair(true, async (pair) => {
    await pair.sql()`create table pages (n int)`;
    for (const heal of [pair.startStandby, pair.dropStandby]) {
      await pair.killStandby();
      let done = false;
      const written = pair.sql()`insert into pages values (1)`.then(() => {
        done = true;
      });
      await sleep(HANGS_MS);
      assert.not(done, "a commit without a standby");
      await heal();
      await written;
    }
  }));

test("a primary demoted in place keeps its sessions and refuses their writes", () =>
  withPair(false, async (pair) => {
    const sql = pair.sql();
    await sql`create table pages (n int)`;
    const [before] = await sql`select pg_backend_pid() as pid`;
    await pair.demoteInPlace();
    await sleep(HANGS_MS);
    const [after] = await sql`select pg_backend_pid() as pid`;
    assert.is(after!.pid, before!.pid);
    const refused = await sql`insert into pages values (1)`.catch((error: { code: string }) => error.code);
    assert.is(refused, "25006");
    await pair.raiseAgain();
    await sleep(HANGS_MS);
    await sql`insert into pages values (1)`;
  }));

test("a frozen primary answers nothing, and its standby can be promoted all the same", () =>
  withPair(true, async (pair) => {
    pair.freezePrimary();
    const old = session(pair.urls[0]);
    const asked = await Promise.race([old`select 1`.then(() => "answered"), sleep(HANGS_MS, "silent")]);
    assert.is(asked, "silent");
    await pair.promote();
    await pair.sql()`create table pages (n int)`;
    pair.thawPrimary();
    await old`select 1`;
    await old.end({ timeout: 0 });
  }));

test.run();
