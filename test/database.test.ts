// limit: 120 s, waits
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DatabaseDown } from "../persistence/database.ts";
import { freePort } from "../persistence/embedded-server.ts";
import { type PostgresServer, startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { administer, downOf, found, openings, sleeps, works } from "./helpers/tested-database.ts";

const [server, other] = await Promise.all([startPostgres({ max_connections: "30" }), startPostgres()]);
const { open, openUp, closeAll } = openings(server.url);
test.after.each(closeAll);

test("a server killed in the middle of statements: they may have been carried out, those after were not, and it is found again", async () => {
  const database = await openUp();
  const seen: boolean[] = [];
  database.onChange((up) => seen.push(up));
  const flying = Array.from({ length: 4 }, () => downOf(sleeps(database, 3)));
  await sleep(200);
  await server.kill();
  for (const down of await Promise.all(flying)) assert.is(down.unknown, true);
  assert.is(database.isUp(), false);
  assert.is(database.currentUrl(), null);
  assert.is((await downOf(works(database))).unknown, false);
  assert.is((await downOf(database.untilUp(200))).unknown, false);
  await server.start();
  await found(database);
  assert.is(database.currentUrl(), server.url);
  assert.equal(seen, [false, true]);
});

test("a server stopped by its administrator and started again is found again by itself", async () => {
  const database = await openUp();
  assert.is(await works(database), true);
  const flying = downOf(sleeps(database, 3));
  await sleep(100);
  await server.stop();
  assert.is((await flying).unknown, true);
  assert.is((await downOf(works(database))).unknown, false);
  await server.start();
  await found(database);
});

test("a server that freezes holds no statement beyond its deadline, and is found again when it thaws", async () => {
  const database = await openUp();
  await works(database);
  server.freeze();
  try {
    const started = performance.now();
    const flying = Array.from({ length: 40 }, async (_, n) => {
      const deadlineMs = 300 + n * 20;
      const down = await downOf(database.run((sql) => sql`select ${n}::integer`, deadlineMs));
      return { unknown: down.unknown, late: performance.now() - started - deadlineMs };
    });
    for (const [n, { unknown, late }] of (await Promise.all(flying)).entries()) {
      assert.is(unknown, n < 4, "one on each connection was sent, the others were not");
      assert.ok(late < 2_000, `${Math.round(late)} ms after its deadline`);
    }
    assert.is(database.isUp(), false);
    assert.is((await downOf(works(database))).unknown, false, "at once, while none is known");
  } finally {
    server.thaw();
  }
  await found(database);
});

test("what is queued behind a frozen pool is settled too", async () => {
  const database = await openUp([server.url], 1);
  await works(database);
  server.freeze();
  try {
    const ends = await Promise.all(Array.from({ length: 20 }, () => downOf(sleeps(database, 0, 500))));
    assert.is(ends.length, 20);
  } finally {
    server.thaw();
  }
  await found(database);
});

test("closing while the server is frozen ends in bounded time", async () => {
  const database = await openUp();
  const flying = downOf(sleeps(database, 1, 1_000));
  server.freeze();
  try {
    await eventually("close returns", () => database.close().then(() => true), 4_000);
    await flying;
    assert.is((await downOf(works(database))).unknown, false);
  } finally {
    server.thaw();
  }
});

test("one statement over its deadline does not take down those under way beside it", async () => {
  const database = await openUp();
  const beside = sleeps(database, 1);
  assert.is((await downOf(sleeps(database, 3, 200))).unknown, true);
  await beside;
  await found(database);
});

test("sessions ended under plain statements and batches, again and again: the process lives and the next statement works", async () => {
  const database = await openUp();
  const admin = postgres(server.url, { max: 1, onnotice: () => {} });
  try {
    await database.run((sql) => sql`create table if not exists written (id integer primary key)`);
    let next = 0;
    const maybe = new Set<number>();
    const sure = new Set<number>();
    const not = new Set<number>();
    let ending = false;
    const writer = async () => {
      while (!ending) {
        const ids = Array.from({ length: 5 }, () => next++);
        try {
          await database.run((sql) => sql`insert into written select * from unnest(${ids}::integer[])`);
          for (const id of ids) sure.add(id);
        } catch (error) {
          assert.instance(error, DatabaseDown);
          for (const id of ids) ((error as DatabaseDown).unknown ? maybe : not).add(id);
          await database.untilUp(5_000);
        }
      }
    };
    const writers = Array.from({ length: 6 }, writer);
    for (let round = 0; round < 12; round += 1) {
      await sleep(100);
      await admin`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin test'`;
    }
    ending = true;
    await Promise.all(writers);
    await found(database);
    const rows = await database.run<{ id: number }>((sql) => sql`select id from written`);
    const there = new Set(rows.map((row) => row.id));
    for (const id of sure) assert.ok(there.has(id), "what was answered is there");
    for (const id of not) assert.not(there.has(id), "what was said not to be carried out is not there");
    assert.ok(maybe.size + not.size > 0, "sessions were ended under statements");
    for (const id of there) assert.ok(sure.has(id) || maybe.has(id));
  } finally {
    await admin`drop table if exists written`;
    await admin.end();
  }
});

test("sessions ended while idle fail at most one statement", async () => {
  const database = await openUp();
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(Array.from({ length: 8 }, () => sleeps(database, 0.01)));
    await administer(
      server,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin test'",
    );
    await sleep(50);
    await works(database).catch((error) => assert.instance(error, DatabaseDown));
    await database.untilUp(5_000);
    assert.is(await works(database), true);
  }
});

test("the first URL that takes writes is used: not a closed port, not a read-only server", async () => {
  const closed = `postgres://nobody@127.0.0.1:${await freePort(null)}/test`;
  await administer(other, "alter system set default_transaction_read_only = on", "select pg_reload_conf()");
  try {
    const database = await openUp([closed, other.url, server.url]);
    assert.is(database.currentUrl(), server.url);
    const none = open([closed, other.url]);
    assert.is((await downOf(none.untilUp(1_500))).unknown, false);
    assert.is(none.isUp(), false);
  } finally {
    await administer(
      other,
      "set default_transaction_read_only = off",
      "alter system reset all",
      "select pg_reload_conf()",
    );
  }
});

test("a primary made read-only in place is left at its first write, for no server of another cluster, and found again", async () => {
  const database = await openUp([server.url, other.url]);
  assert.is(database.currentUrl(), server.url);
  await administer(server, "create table if not exists demoted (id integer)");
  await administer(server, "alter system set default_transaction_read_only = on", "select pg_reload_conf()");
  try {
    await eventually("the setting has reached the sessions", async () => {
      const [row] = await database.run<{ now: string }>(
        (sql) => sql`select current_setting('default_transaction_read_only') as now`,
      );
      return row?.now === "on";
    });
    const down = await downOf(database.run((sql) => sql`insert into demoted values (1)`));
    assert.is(down.unknown, false);
    await sleep(500);
    assert.is(database.currentUrl(), null);
  } finally {
    await administer(
      server,
      "set default_transaction_read_only = off",
      "alter system reset all",
      "select pg_reload_conf()",
    );
  }
  await found(database);
  assert.is(database.currentUrl(), server.url);
});

test("a standby is not taken for the primary until it is promoted", async () => {
  await startAsStandby(other);
  const database = open([other.url]);
  assert.is((await downOf(database.untilUp(1_500))).unknown, false);
  await administer(other, "select pg_promote()");
  await found(database);
});

/** Starts the server's own command again on data that say it follows a primary. */
async function startAsStandby(standby: PostgresServer): Promise<void> {
  const process = `/proc/${standby.pid}`;
  const [file, ...args] = readFileSync(`${process}/cmdline`, "utf8").split("\0").slice(0, -1);
  const data = args[args.indexOf("-D") + 1]!;
  const { uid, gid } = statSync(data);
  await standby.stop();
  writeFileSync(join(data, "standby.signal"), "");
  spawn(file!, args, { uid, gid, cwd: "/", env: { LC_ALL: "C" }, detached: true, stdio: "ignore" }).unref();
  await eventually("the standby answers", () => administer(standby, "select 1").then(() => true), 10_000);
}

test("a server with no connection left is down, what it refused was not carried out, and it is found when there is room", async () => {
  const database = await openUp([server.url], 10);
  const holding: postgres.Sql[] = [];
  try {
    for (;;) {
      const hold = postgres(server.url, { max: 1, fetch_types: false, onnotice: () => {} });
      holding.push(hold);
      const full = await hold`select 1`.then(
        () => false,
        (error: { code?: string }) => error.code === "53300",
      );
      if (full) break;
      assert.ok(holding.length < 60);
    }
    const ends = await Promise.allSettled(Array.from({ length: 10 }, () => sleeps(database, 0.3)));
    for (const end of ends) {
      if (end.status === "fulfilled") continue;
      assert.instance(end.reason, DatabaseDown);
      assert.is(end.reason.unknown, false, "refused before it began");
    }
    assert.ok(
      ends.some((end) => end.status === "rejected"),
      "the server was full",
    );
  } finally {
    await Promise.all(holding.map((hold) => hold.end({ timeout: 1 })));
  }
  await found(database);
});

/** A process that writes without pause until its input ends, and then has to end by itself. */
const CHILD = `
  const { openDatabase, DatabaseDown } = await import(process.argv[1] + "/persistence/database.ts");
  const { makeBatch } = await import(process.argv[1] + "/persistence/batch.ts");
  const { silentLog } = await import(process.argv[1] + "/log.ts");
  const database = openDatabase({ name: "core", urls: [process.argv[2]], node: "child", connectionsMax: 4 }, { log: silentLog });
  await database.untilUp(10000);
  const batch = makeBatch({
    entriesMax: 50, waitingMax: 1000, key: String, urgent: (n) => n % 2 === 0,
    write: async (ns) => (await database.run((sql) => sql\`select n * 2 as twice, pg_sleep(0.02) from unnest(\${ns}::integer[]) as n\`, 1000)).map((row) => row.twice),
  });
  const counts = { done: 0, down: 0, other: [], longest: 0 };
  let ending = false;
  process.stdin.on("end", () => { ending = true; }).resume();
  async function load(one) {
    for (let n = 0; !ending; n++) {
      const began = performance.now();
      try { await one(n); counts.done++; }
      catch (error) {
        if (error instanceof DatabaseDown) counts.down++; else counts.other.push(error.name + " " + error.code);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      counts.longest = Math.max(counts.longest, performance.now() - began);
    }
  }
  const plain = () => database.run((sql) => sql\`select pg_sleep(0.01)\`, 1000);
  console.log("ready");
  await Promise.all([load(plain), load(plain), load(plain), load((n) => batch.submit(n)), load((n) => batch.submit(n + 1))]);
  await database.untilUp(10000);
  await database.run((sql) => sql\`select 1\`);
  await database.close();
  console.log(JSON.stringify(counts));
`;

test("a process whose server is killed, frozen, stopped and loses its sessions lives through it all and ends with 0", async () => {
  const child = spawn(
    process.execPath,
    ["--input-type=module", "-e", CHILD, join(import.meta.dirname, ".."), server.url],
    {
      stdio: ["pipe", "pipe", "pipe"],
    },
  );
  const limit = setTimeout(() => child.kill("SIGKILL"), 30_000);
  let said = "";
  let complained = "";
  child.stdout.on("data", (chunk) => {
    said += chunk;
  });
  child.stderr.on("data", (chunk) => {
    complained += chunk;
  });
  const exit = once(child, "exit");
  await eventually("the child is ready", () => said.includes("ready") || child.exitCode !== null, 10_000);
  for (const how of ["kill", "freeze", "stop", "terminate", "kill"] as const) {
    await sleep(400);
    if (how === "freeze") {
      server.freeze();
      await sleep(1_800);
      server.thaw();
    } else if (how === "terminate") {
      await administer(
        server,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin child'",
      );
    } else {
      await server[how]();
      await sleep(300);
      await server.start();
    }
  }
  await sleep(1_000);
  child.stdin.end();
  const [code, signal] = await exit;
  clearTimeout(limit);
  assert.equal([code, signal, complained], [0, null, ""]);
  const counts = JSON.parse(said.split("\n")[1]!) as { done: number; down: number; other: string[]; longest: number };
  assert.equal(counts.other, []);
  assert.ok(counts.done > 0 && counts.down > 0);
  assert.ok(counts.longest < 3_000, `a statement with a deadline of 1 s took ${Math.round(counts.longest)} ms`);
});

test.after(async () => {
  await Promise.all([server.close(), other.close()]);
});
test.run();
