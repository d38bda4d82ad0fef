/**
 * The three logical databases of a node, each brought to the schema this program knows, on servers of the operator's or on
 * an embedded one. Those with the same servers share a pool.
 */
import { join } from "node:path";
import { faultFields, type Log } from "../log.ts";
import { type Database, openDatabase } from "./database.ts";
import { classify } from "./database-faults.ts";
import { startEmbeddedPostgres } from "./embedded.ts";
import { migrate, type Schema } from "./migrate.ts";

export type StoresSlice = {
  readonly node: string;
  readonly dataDir: string;
  /** null: embedded. */
  readonly premise: readonly string[] | null;
  readonly meta: readonly string[] | null;
  readonly core: readonly string[] | null;
};

export type Stores = {
  readonly premise: Database;
  readonly meta: Database;
  readonly core: Database;
  /** Where the premise database is, for what keeps a connection of its own. */
  readonly premiseServers: { readonly urls: readonly string[]; readonly timelineFile: string };
  readonly embedded: boolean;
  /** What the operator should know of the embedded server. */
  readonly note: string | null;
  close(): Promise<void>;
};

const CONNECTIONS_MAX = 10;
const RETRY_MS = 200;

/** Waits for servers that are away; rejects when a schema is newer than this program or a migration fails. */
export async function openStores(slice: StoresSlice, ports: { readonly log: Log }): Promise<Stores> {
  const { log } = ports;
  const premise = slice.premise;
  const embedded = premise === null ? await startEmbeddedPostgres({ dataDir: slice.dataDir, log }) : null;
  const premiseUrls = premise ?? [embedded!.url];
  const urls: Record<Schema, readonly string[]> = {
    premise_core: premiseUrls,
    meta: slice.meta ?? premiseUrls,
    core: slice.core ?? premiseUrls,
  };
  // Each by itself: where one database was moved out by promoting a copy of the server, both bear the same system identifier, and
  // the timeline of the one says nothing of the other.
  const timelineFile = (name: Schema) =>
    join(slice.dataDir, urls[name].join() === premiseUrls.join() ? "timelines" : `timelines-${name}`);
  const opened: Database[] = [];
  const byServers = new Map<string, Database>();

  async function open(name: Schema): Promise<Database> {
    const servers = urls[name].join(",");
    const shared = byServers.get(servers);
    const database =
      shared ??
      openDatabase(
        {
          ...{ name, urls: urls[name], node: slice.node, connectionsMax: CONNECTIONS_MAX },
          timelineFile: timelineFile(name),
        },
        { log },
      );
    if (shared === undefined) {
      opened.push(database);
      byServers.set(servers, database);
    }
    await migrateWhenUp(database, name);
    return database;
  }

  async function migrateWhenUp(database: Database, schema: Schema): Promise<void> {
    for (;;) {
      await database.untilUp(10_000).catch(() => log.warn({ schema }, "waiting for a writable database server"));
      const url = database.currentUrl();
      if (url === null) continue;
      try {
        await migrate(url, schema, { log });
        return;
      } catch (error) {
        // A server that went away, or stopped answering, has rolled it back or will; anything else will not mend itself.
        if (!classify(error).connectionLost) throw error;
        log.warn({ schema, ...faultFields(error) }, "the database went away before its schema was known to be right");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async function close(): Promise<void> {
    await Promise.all(opened.map((database) => database.close()));
    await embedded?.stop();
  }

  try {
    return {
      premise: await open("premise_core"),
      meta: await open("meta"),
      core: await open("core"),
      premiseServers: { urls: premiseUrls, timelineFile: timelineFile("premise_core") },
      embedded: embedded !== null,
      note: embedded?.note ?? null,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
