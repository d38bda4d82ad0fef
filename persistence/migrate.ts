/**
 * Brings a schema to the version this program knows. Forward only; `migrations/<schema>/NNNN-name.sql` in order. A file
 * whose first line is `--! breaking` may not be followed by an older program: one that meets a newer breaking migration
 * refuses to run, one that meets a newer harmless one says so and goes on.
 *
 * Each migration is one simple-protocol query, hence one transaction of the server's own, and begins with the insert
 * of its number: a second node that migrates at the same time waits there, collides, and takes that for success.
 *
 * Nodes of the version before go on meanwhile. What a migration locks is not waited for long, since whoever comes behind it waits as
 * well, the renewals of all nodes among them: it gives up soon and tries again.
 */
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { Log } from "../log.ts";
import { withDeadline } from "./connecting.ts";

export type Schema = "premise_core" | "meta" | "core";
/** For a table that is being read, as by a backup; a renewal has 1.5 s. */
const TABLE_LOCK_MS = 500;
const AGAIN_MS = 1_000;
const TRIES_MAX = 60;

type Migration = { id: number; name: string; breaking: boolean; text: string };

export class SchemaTooNew extends Error {
  constructor(schema: string, id: number) {
    super(
      `schema ${schema} was migrated to ${id} by a newer Tocsin, in a way this one cannot work with; start the newer one`,
    );
    this.name = "SchemaTooNew";
  }
}

/** For what asks; a server that has stopped answering must not hold up a start. */
const ASK_MS = 10_000;
/** For a migration, which the server itself ends before. */
const APPLY_MS = 610_000;

/** Number of migrations applied. Throws SchemaTooNew, DeadlinePassed, or the server's error when a migration fails. */
export async function migrate(url: string, schema: Schema, ports: { log: Log }): Promise<number> {
  const known = await readMigrations(schema);
  const sql = postgres(url, {
    max: 1,
    connect_timeout: 5,
    // A look-up of types at connecting ends the process when the server dies in it.
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: "tocsin migrate", lock_timeout: 60_000, statement_timeout: 600_000 },
  });
  try {
    await withDeadline(createLedger(sql, schema), ASK_MS);
    const applied = await withDeadline(
      sql<{ id: number; breaking: boolean }[]>`select id, breaking from ${sql(schema)}.migrations order by id`,
      ASK_MS,
    );
    const newest = known.at(-1)?.id ?? 0;
    for (const row of applied) {
      if (row.id <= newest) continue;
      if (row.breaking) throw new SchemaTooNew(schema, row.id);
      ports.log.warn({ schema, migration: row.id }, "schema is newer than this program; the change is harmless to it");
    }
    const done = new Set(applied.map((row) => row.id));
    let count = 0;
    for (const migration of known) {
      if (done.has(migration.id)) continue;
      if (await apply(sql, schema, migration)) {
        ports.log.info({ schema, migration: migration.id }, "migrated");
        count += 1;
      }
    }
    return count;
  } finally {
    // All has come back by now, or never will.
    await sql.end({ timeout: 0 }).catch(() => {});
  }
}

/** The number of the newest migration this program brings. */
export async function newestMigration(schema: Schema): Promise<number> {
  return (await readMigrations(schema)).at(-1)?.id ?? 0;
}

async function createLedger(sql: postgres.Sql, schema: Schema): Promise<void> {
  const ledger = `
    create schema if not exists ${schema};
    create table if not exists ${schema}.migrations (
      id integer primary key, name text not null, breaking boolean not null, at timestamptz not null default now());`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await sql.unsafe(ledger).simple();
      return;
    } catch (error) {
      // "if not exists" still collides in the catalogue when two nodes create at once; the second try finds it there.
      if ((error as { code?: string }).code !== "23505" || attempt === 3) throw error;
    }
  }
}

async function apply(sql: postgres.Sql, schema: Schema, migration: Migration): Promise<boolean> {
  const claim = `insert into ${schema}.migrations (id, name, breaking)
    values (${migration.id}, '${migration.name}', ${migration.breaking});`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const text = `${claim}\nset local lock_timeout = ${TABLE_LOCK_MS};\n${migration.text}`;
      await withDeadline(sql.unsafe(text).simple(), APPLY_MS);
      return true;
    } catch (error) {
      const { code, constraint_name } = error as { code?: string; constraint_name?: string };
      if (code === "23505" && constraint_name === "migrations_pkey") return false;
      // It waited for a table, or for one that somebody held who waited for another of its.
      const passing = code === "55P03" || code === "40P01";
      if (!passing || attempt === TRIES_MAX) throw error;
      await sleep(AGAIN_MS);
    }
  }
}

async function readMigrations(schema: Schema): Promise<Migration[]> {
  const folder = new URL(`./migrations/${schema}/`, import.meta.url);
  const files = (await readdir(folder)).filter((file) => file.endsWith(".sql")).sort();
  const twin = files.find((file, n) => file.slice(0, 4) === files[n - 1]?.slice(0, 4));
  // Of the second one would think that another node has applied it.
  if (twin !== undefined) throw new Error(`migration file ${schema}/${twin} has another's number`);
  return Promise.all(
    files.map(async (file) => {
      const match = /^(\d{4})-([a-z0-9-]+)\.sql$/.exec(file);
      if (match === null) throw new Error(`migration file ${schema}/${file} is not named NNNN-name.sql`);
      const text = await readFile(new URL(file, folder), "utf8");
      return { id: Number(match[1]), name: match[2]!, breaking: text.startsWith("--! breaking"), text };
    }),
  );
}
