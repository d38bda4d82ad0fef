/**
 * A real pair of Postgres servers, the second of which is a standby of the first by streaming replication.
 *
 *   first   primary ──kill──► gone ──startOldAgain──► writable, of the older timeline
 *   second  standby ──promote──► primary, of the next timeline ── rebuildOld ──► the roles are changed, and all begins anew
 */
import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { EmbeddedPlace } from "../../persistence/embedded-place.ts";
import { EMBEDDED_USER, passwordOf } from "../../persistence/embedded-server.ts";
import { copyData, giveToServer } from "./base-backup.ts";
import { type PostgresServer, startPostgres } from "./database.ts";
import { eventually } from "./eventually.ts";

export type Pair = {
  /** Of the same empty database on the first server and on the second. */
  readonly urls: readonly [string, string];
  /** The first until the second was promoted, and so on. */
  primaryUrl(): string;
  /** A session on the server that is the primary now, opened anew after a promotion; it ends with the pair. */
  sql(): postgres.Sql;
  /** As if its machine lost power. */
  killPrimary(): Promise<void>;
  /** The killed one is back, and is the primary still. */
  startPrimary(): Promise<void>;
  /** It keeps its connections and answers nothing. */
  freezePrimary(): void;
  /** Also one that has been replaced meanwhile. */
  thawPrimary(): void;
  /** Resolves once the standby takes writes, with the time (of `performance.now`) at which it did, to 10 ms. */
  promote(): Promise<number>;
  /** The primary takes no writes any more, and no session is ended. */
  demoteInPlace(): Promise<void>;
  /** Undoes `demoteInPlace`. */
  raiseAgain(): Promise<void>;
  /** The one that was primary comes back as it was: it takes writes, on its old timeline. */
  startOldAgain(): Promise<void>;
  /** The one that was primary becomes the standby of the one that is, as its operator must have it do. */
  rebuildOld(): Promise<void>;
  killStandby(): Promise<void>;
  startStandby(): Promise<void>;
  /** The primary waits for no standby any more, as a manager of failovers has it do. */
  dropStandby(): Promise<void>;
  close(): Promise<void>;
};

const STANDBY = "standby";
const LIMIT_MS = 20_000;
const MONITOR_MS = 10;

/**
 * @param synchronous whether a commit waits until the standby has it on its disk
 * @param settings of both servers, by their names in postgresql.conf
 */
export async function openPair(
  options: { readonly synchronous?: boolean; readonly settings?: Readonly<Record<string, string>> } = {},
): Promise<Pair> {
  const { synchronous = true, settings = {} } = options;
  const first = await startPostgres(settings);
  const second = await startPostgres(settings, (place) => copyAsStandby(first, place)).catch(async (error: unknown) => {
    await first.close();
    throw error;
  });
  const urls = [first.url, second.url] as const;
  let [primary, other] = [first, second];
  let frozen: PostgresServer | null = null;
  let session: { readonly url: string; readonly sql: postgres.Sql } | null = null;

  async function alter(...statements: readonly string[]): Promise<void> {
    const sql = openSession(primary.url);
    try {
      for (const statement of [...statements, "select pg_reload_conf()"]) await sql.unsafe(statement);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }

  async function standbyStreams(): Promise<void> {
    const sql = openSession(primary.url);
    const wanted = synchronous ? "sync" : "async";
    try {
      await eventually(
        "the standby streams",
        async () => {
          const rows = await sql`
            select from pg_stat_replication where state = 'streaming' and sync_state = ${wanted}`;
          return rows.length === 1;
        },
        LIMIT_MS,
      );
    } finally {
      await sql.end({ timeout: 1 });
    }
  }

  async function awaitStandby(): Promise<void> {
    if (synchronous) await alter(`alter system set synchronous_standby_names = '${STANDBY}'`);
    await standbyStreams();
  }

  const pair: Pair = {
    urls,
    primaryUrl: () => primary.url,
    sql() {
      if (session?.url !== primary.url) {
        void session?.sql.end({ timeout: 0 }).catch(() => {});
        session = { url: primary.url, sql: openSession(primary.url) };
      }
      return session.sql;
    },
    killPrimary: () => primary.kill(),
    startPrimary: () => primary.start(),
    freezePrimary() {
      frozen = primary;
      primary.freeze();
    },
    thawPrimary() {
      frozen?.thaw();
      frozen = null;
    },
    async promote() {
      const sql = openSession(other.url);
      try {
        await sql`select pg_promote(false)`;
        const until = performance.now() + LIMIT_MS;
        for (;;) {
          const [row] = await sql<{ over: boolean }[]>`select not pg_is_in_recovery() as over`;
          if (row?.over === true) break;
          if (performance.now() > until) throw new Error("the standby was not promoted in time");
          await sleep(MONITOR_MS);
        }
        [primary, other] = [other, primary];
        return performance.now();
      } finally {
        await sql.end({ timeout: 1 });
      }
    },
    demoteInPlace: () => alter("alter system set default_transaction_read_only = on"),
    raiseAgain: () => alter("alter system reset default_transaction_read_only"),
    startOldAgain: () => other.start(),
    async rebuildOld() {
      pair.thawPrimary();
      // It may be gone.
      await Promise.resolve()
        .then(other.kill)
        .catch(() => {});
      rmSync(other.place.data, { recursive: true, force: true });
      await copyAsStandby(primary, other.place);
      await other.start();
      await awaitStandby();
    },
    killStandby: () => other.kill(),
    startStandby: () => other.start(),
    dropStandby: () => alter("alter system reset synchronous_standby_names"),
    async close() {
      await session?.sql.end({ timeout: 0 }).catch(() => {});
      await Promise.all([first.close(), second.close()]);
    },
  };
  try {
    await awaitStandby();
    return pair;
  } catch (error) {
    await pair.close();
    throw error;
  }
}

function openSession(url: string): postgres.Sql {
  return postgres(url, { max: 1, connect_timeout: 5, fetch_types: false, onnotice: () => {} });
}

/** What the standby reads until it is promoted stands in its own settings, so that a promoted one waits for nobody. */
async function copyAsStandby(from: PostgresServer, to: EmbeddedPlace): Promise<void> {
  const password = passwordOf(from.place);
  const sql = openSession(from.url);
  try {
    await sql`
      select pg_create_physical_replication_slot(${STANDBY}, true)
      where not exists (select from pg_replication_slots where slot_name = ${STANDBY})`;
    await copyData(sql, from.place.data, to.data);
  } finally {
    await sql.end({ timeout: 1 });
  }
  writeFileSync(join(to.data, "standby.signal"), "");
  const conninfo = `host=127.0.0.1 port=${from.port} user=${EMBEDDED_USER} password=${password} application_name=${STANDBY}`;
  appendFileSync(
    join(to.data, "postgresql.auto.conf"),
    `\nprimary_conninfo = '${conninfo}'\nprimary_slot_name = '${STANDBY}'\nwal_retrieve_retry_interval = '200ms'\nsynchronous_standby_names = ''\n`,
  );
  writeFileSync(join(to.folder, "password"), `${password}`, { mode: 0o600 });
  giveToServer(to);
}
