import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Log, silentLog } from "../log.ts";
import { migrate, type Schema, SchemaTooNew } from "../persistence/migrate.ts";
import { openTestDatabase } from "./helpers/database.ts";

const ROOT = join(import.meta.dirname, "..");
const SCHEMAS: readonly Schema[] = ["premise_core", "meta", "core"];
const numberOf = (schema: Schema) => readdirSync(join(ROOT, "persistence/migrations", schema)).length;

/** Of every file that others may have run: the beginning of its SHA-256. A new one adds its line, none is ever changed. */
const DIGESTS: Readonly<Record<string, string>> = {
  "core/0001-message-queue.sql": "d5ab5873731d3d7d",
  "meta/0001-directory.sql": "8cf5cad40c1a25ad",
  "premise_core/0001-pages.sql": "9cfcb5d5dd124e8c",
  "premise_core/0002-cluster.sql": "5dbfa80f719b2e04",
  "premise_core/0003-message-list.sql": "28b3ffd9c333a025",
  "premise_core/0004-due-by-priority.sql": "fb600dbc9036eacd",
  "premise_core/0005-steering.sql": "84f6116070527dbe",
  "premise_core/0006-synthetic.sql": "8ecbce89689b82a9",
  "premise_core/0007-weights.sql": "0b4b5814a733ec75",
  "premise_core/0008-passing-on.sql": "04926e9a55a70d72",
  "premise_core/0009-answers.sql": "29383a9927a97357",
  "premise_core/0010-subscriber-groups.sql": "00442845533d8f5a",
  "premise_core/0011-devices.sql": "8a1b227fc0cd8dc0",
  "premise_core/0012-replies-told.sql": "3c672bb029aea535",
  "premise_core/0013-nodes-know.sql": "9f5ce141ee2a2a2d",
  "premise_core/0014-answered-by.sql": "18407fdf5c110032",
  "premise_core/0015-answers-of-others.sql": "99e47b3c56167a98",
  "premise_core/0016-urgent-dispatches.sql": "47c7c3e060654137",
};

const folders: string[] = [];
const ends: (() => Promise<void>)[] = [];

async function openEmpty(): Promise<{ url: string; sql: postgres.Sql }> {
  const place = await openTestDatabase();
  const sql = postgres(place.url, { max: 1, onnotice: () => {} });
  ends.push(async () => {
    await sql.end({ timeout: 1 });
    await place.close();
  });
  return { url: place.url, sql };
}

/** Another version of this program: the same code beside migrations of a test's own. */
async function versionWith(migrations: Readonly<Record<string, string>>): Promise<typeof migrate> {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-migrate-"));
  folders.push(folder);
  const own = join(folder, "persistence/migrations/core");
  mkdirSync(own, { recursive: true });
  for (const file of [
    "domain.ts",
    "log.ts",
    ...["migrate", "connecting", "array-types", "database-faults"].map((name) => `persistence/${name}.ts`),
  ])
    cpSync(join(ROOT, file), join(folder, file));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  for (const [name, text] of Object.entries(migrations)) writeFileSync(join(own, name), text);
  const module = (await import(join(folder, "persistence/migrate.ts"))) as { migrate: typeof migrate };
  return module.migrate;
}

/** A log that remembers the events of one level. */
function remembering(level: "warn" | "info"): { log: Log; events: string[] } {
  const events: string[] = [];
  return { log: { ...silentLog, [level]: (_fields: unknown, event: string) => events.push(event) }, events };
}

async function ledger(sql: postgres.Sql, schema: Schema): Promise<number[]> {
  return (await sql<{ id: number }[]>`select id from ${sql(schema)}.migrations order by id`).map((row) => row.id);
}

async function faultOf(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it went through");
}

test.after.each(async () => {
  await Promise.all(ends.splice(0).map((end) => end()));
});

test("no migration is what it was not: who has run it never runs it again", () => {
  const folder = join(ROOT, "persistence/migrations");
  const files = SCHEMAS.flatMap((schema) => readdirSync(join(folder, schema)).map((file) => `${schema}/${file}`));
  const digests = files.map((file) => {
    const digest = createHash("sha256").update(readFileSync(join(folder, file)));
    return [file, digest.digest("hex").slice(0, 16)];
  });
  assert.equal(Object.fromEntries(digests), DIGESTS, "see CONTRIBUTING.md, Migrations");
});

test("an empty database gets every migration once; another run has nothing to do", async () => {
  const { url, sql } = await openEmpty();
  for (const schema of SCHEMAS) {
    assert.is(await migrate(url, schema, { log: silentLog }), numberOf(schema));
    const first = await ledger(sql, schema);
    assert.is(first.length, numberOf(schema));
    assert.is(await migrate(url, schema, { log: silentLog }), 0);
    assert.equal(await ledger(sql, schema), first);
  }
});

test("twenty nodes that migrate at once make one schema, and all succeed", async () => {
  for (let round = 0; round < 3; round += 1) {
    const { url, sql } = await openEmpty();
    for (const schema of SCHEMAS) {
      const counts = await Promise.all(Array.from({ length: 20 }, () => migrate(url, schema, { log: silentLog })));
      assert.is(
        counts.reduce((sum, count) => sum + count, 0),
        numberOf(schema),
        "each migration is counted by the one that applied it",
      );
      assert.is((await ledger(sql, schema)).length, numberOf(schema));
    }
    const [shards] = await sql`select count(*)::integer as count from premise_core.shards`;
    assert.is(shards!.count, 256);
    await ends.pop()!();
  }
});

test("a newer migration that is harmless is said and worked with", async () => {
  const { url, sql } = await openEmpty();
  await migrate(url, "core", { log: silentLog });
  await sql`insert into core.migrations (id, name, breaking) values (9000, 'later', false)`;
  const { log, events } = remembering("warn");
  assert.is(await migrate(url, "core", { log }), 0);
  assert.is(events.length, 1);
});

test("a newer migration that is breaking is refused, with what to do, and nothing is changed", async () => {
  const { url, sql } = await openEmpty();
  const older = await versionWith({
    "0001-one.sql": "create table core.one ();",
    "0002-two.sql": "create table core.two ();",
  });
  const first = await versionWith({ "0001-one.sql": "create table core.one ();" });
  await first(url, "core", { log: silentLog });
  await sql`insert into core.migrations (id, name, breaking) values (9000, 'harmless', false), (9001, 'breaking', true)`;
  const fault = await faultOf(older(url, "core", { log: silentLog }));
  assert.is(fault.name, "SchemaTooNew");
  assert.match(fault.message, /core .* 9001 .* newer/);
  assert.equal(await ledger(sql, "core"), [1, 9000, 9001], "not even what this version would add");
  assert.instance(await faultOf(migrate(url, "core", { log: silentLog })), SchemaTooNew);
});

test("a migration marked breaking is written down as such, and locks out the version before it", async () => {
  const { url } = await openEmpty();
  const one = { "0001-one.sql": "create table core.one ();" };
  const older = await versionWith(one);
  const newer = await versionWith({ ...one, "0002-two.sql": "--! breaking\ndrop table core.one;" });
  assert.is(await older(url, "core", { log: silentLog }), 1);
  assert.is(await newer(url, "core", { log: silentLog }), 1);
  assert.is((await faultOf(older(url, "core", { log: silentLog }))).name, "SchemaTooNew");
  assert.is(await newer(url, "core", { log: silentLog }), 0);
});

test("a migration that fails half-way leaves nothing behind, keeps those before it, and goes on once mended", async () => {
  const { url, sql } = await openEmpty();
  const good = { "0001-one.sql": "create table core.one (id integer); insert into core.one values (1);" };
  const later = { "0003-three.sql": "create table core.three ();" };
  const broken = await versionWith({
    ...good,
    "0002-two.sql": "create table core.two (); insert into core.one values (2); insert into core.one select 1 / 0;",
    ...later,
  });
  for (let tries = 0; tries < 2; tries += 1) {
    assert.is((await faultOf(broken(url, "core", { log: silentLog }))).code, "22012");
    assert.equal(await ledger(sql, "core"), [1]);
    const [left] =
      await sql`select to_regclass('core.two') as two, to_regclass('core.three') as three, count(*)::integer as ones from core.one`;
    assert.equal({ ...left }, { two: null, three: null, ones: 1 });
  }
  const mended = await versionWith({ ...good, "0002-two.sql": "create table core.two ();", ...later });
  assert.is(await mended(url, "core", { log: silentLog }), 2);
  assert.equal(await ledger(sql, "core"), [1, 2, 3]);
});

test("a unique violation inside a migration is its failure, not another node's success", async () => {
  const { url, sql } = await openEmpty();
  const broken = await versionWith({
    "0001-one.sql": "create table core.one (id integer primary key); insert into core.one values (1), (1);",
  });
  assert.is((await faultOf(broken(url, "core", { log: silentLog }))).code, "23505");
  assert.equal(await ledger(sql, "core"), []);
});

test("of nodes that fail at once none takes another's failure for success", async () => {
  const { url, sql } = await openEmpty();
  const broken = await versionWith({
    "0001-one.sql": "create table core.one (); select pg_sleep(0.05); select 1 / 0;",
  });
  const faults = await Promise.all(Array.from({ length: 5 }, () => faultOf(broken(url, "core", { log: silentLog }))));
  for (const fault of faults) assert.is(fault.code, "22012");
  assert.equal(await ledger(sql, "core"), []);
});

test("a file that is not named as a migration stops the start by its name", async () => {
  const { url } = await openEmpty();
  const misnamed = await versionWith({ "0001-one.sql": "select 1;", "two.sql": "select 1;" });
  assert.match((await faultOf(misnamed(url, "core", { log: silentLog }))).message, /core\/two\.sql .* NNNN-name\.sql/);
});

test("two files of one number stop the start, since the second would be taken for done", async () => {
  const { url, sql } = await openEmpty();
  const twins = await versionWith({
    "0001-one.sql": "create table core.one ();",
    "0001-two.sql": "create table core.two ();",
  });
  assert.match((await faultOf(twins(url, "core", { log: silentLog }))).message, /0001-two\.sql .* number/);
  const [left] = await sql`select to_regclass('core.one') as one`;
  assert.is(left!.one, null);
});

test.after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

test("a migration that waits for a reader, such as a backup, holds nobody up for longer than a renewal has", async () => {
  const place = await openTestDatabase();
  const options = { max: 1, onnotice: () => {} };
  const reader = postgres(place.url, options);
  const writer = postgres(place.url, { ...options, connection: { lock_timeout: 2_000 } });
  try {
    await migrate(place.url, "premise_core", { log: silentLog });
    await writer.unsafe(`
      delete from premise_core.migrations where id = 5;
      alter table premise_core.nodes drop column drain_asked, drop column why, drop column asked, drop column moves;
      alter table premise_core.shards drop column moved_from, drop column moved_at`);
    await reader.unsafe("begin; lock table premise_core.nodes, premise_core.shards in access share mode");
    const migrating = migrate(place.url, "premise_core", { log: silentLog });
    let longest = 0;
    for (const until = performance.now() + 4_000; performance.now() < until; ) {
      const asked = performance.now();
      await writer`update premise_core.shards set owner_boot = owner_boot where id = 1`;
      await writer`update premise_core.nodes set load = load`;
      longest = Math.max(longest, performance.now() - asked);
      if (longest > 1_500) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await reader.unsafe("commit");
    assert.is(await migrating, 1);
    assert.ok(longest < 1_500, `${Math.round(longest)} ms`);
  } finally {
    await Promise.all([reader, writer].map((sql) => sql.end({ timeout: 1 })));
    await place.close();
  }
});

test.run();
