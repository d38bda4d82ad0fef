/** The database router under test, and what its tests ask of it in words. */
import postgres from "postgres";
import * as assert from "uvu/assert";
import { silentLog } from "../../log.ts";
import { type Database, DatabaseDown, openDatabase } from "../../persistence/database.ts";
import { eventually } from "./eventually.ts";

export type Openings = {
  open(urls?: readonly string[], connectionsMax?: number): Database;
  /** The same, once it has found its server. */
  openUp(urls?: readonly string[], connectionsMax?: number): Promise<Database>;
  closeAll(): Promise<void>;
};

/** @param url of the server that is meant where no URLs are given */
export function openings(url: string): Openings {
  const opened: Database[] = [];
  function open(urls: readonly string[] = [url], connectionsMax = 4): Database {
    const database = openDatabase({ name: "core", urls, node: "test", connectionsMax }, { log: silentLog });
    opened.push(database);
    return database;
  }
  return {
    open,
    async openUp(urls, connectionsMax) {
      const database = open(urls, connectionsMax);
      await database.untilUp(10_000);
      return database;
    },
    async closeAll() {
      await Promise.all(opened.splice(0).map((database) => database.close()));
    },
  };
}

/** A connection of the test's own, beside what is under test. */
export async function administer(at: { readonly url: string }, ...commands: string[]): Promise<void> {
  const sql = postgres(at.url, { max: 1, onnotice: () => {} });
  for (const command of commands) await sql.unsafe(command);
  await sql.end({ timeout: 1 });
}

export const sleeps = (database: Database, seconds: number, deadlineMs?: number) =>
  database.run((sql) => sql`select pg_sleep(${seconds})`, deadlineMs);
export const works = async (database: Database) =>
  (await database.run<{ one: number }>((sql) => sql`select 1 as one`))[0]?.one === 1;

export async function faultOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("the statement was carried out");
}

export async function downOf(promise: Promise<unknown>): Promise<DatabaseDown> {
  const error = await faultOf(promise);
  assert.instance(error, DatabaseDown);
  return error as DatabaseDown;
}

export const found = (database: Database) =>
  eventually("the database is found again by itself", () => database.isUp() && works(database), 15_000);
