// limit: 120 s, waits
/** The pair of servers that tests of failover stand on behaves as a pair does. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openPair } from "./helpers/pair.ts";

const HANGS_MS = 700;
/** One pair for all: each test leaves a primary and its synchronous standby, whichever is which. */
const pair = await openPair();
await pair.sql()`create table pages (n int)`;

function session(url: string): postgres.Sql {
  return postgres(url, { max: 1, onnotice: () => {} });
}

const TIMELINE = "substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8)";

test("what a synchronous pair committed is there after its primary was killed and its standby promoted", async () => {
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
});

test("the old primary is rebuilt as the standby, and the roles change again and again", async () => {
  const [before] = await pair.sql()<{ n: number }[]>`select count(*)::integer as n from pages`;
  for (const round of [1, 2]) {
    await pair.rebuildOld();
    await pair.sql()`insert into pages values (${round})`;
    await pair.killPrimary();
    await pair.promote();
    assert.is((await pair.sql()`select from pages`).length, before!.n + round);
  }
  assert.is(pair.primaryUrl(), pair.urls[1], "as before the two rounds");
  await pair.rebuildOld();
});

test("a primary demoted in place keeps its sessions and refuses their writes", async () => {
  const sql = pair.sql();
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
});

test("without its standby a synchronous primary's commits hang until the standby is back, or is dropped", async () => {
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
  await pair.rebuildOld();
});

test("a frozen primary answers nothing, and its standby can be promoted all the same", async () => {
  const old = session(pair.primaryUrl());
  await old`select 1`;
  pair.freezePrimary();
  const asked = await Promise.race([old`select 1`.then(() => "answered"), sleep(HANGS_MS, "silent")]);
  assert.is(asked, "silent");
  await pair.promote();
  await pair.sql()`insert into pages values (1)`;
  pair.thawPrimary();
  await old`select 1`;
  await old.end({ timeout: 0 });
});

test.after(() => pair.close());
test.run();
