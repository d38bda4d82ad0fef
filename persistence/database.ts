/**
 * One logical database: finds the primary among its servers, runs single statements on it with a deadline, and names
 * what went wrong. A server that dies never ends the process and is found again by itself.
 *
 *            a statement meets a dead or read-only server
 *     up ──────────────────────────────────────────────────► down
 *      ▲                                                       │ probe every server in turn,
 *      └───────────────────────────────────────────────────────┘ 100 ms to 1 s apart
 *               one answers and is writable
 *
 * postgres.js is held to what it does safely: one pool for one host (its multi-host list spins when all are down), no
 * `begin` and no `reserve` (both end the process when the server dies inside), no look-up of types at connecting (the same), and
 * a pool that has seen a connection die is replaced, since its next statement would be given the dead one's error.
 */
import postgres from "postgres";
import { faultFields, type Log } from "../log.ts";
import { ARRAY_TYPES } from "./array-types.ts";
import { classify, DatabaseDown, DeadlinePassed } from "./database-faults.ts";
import { openStatementLine, type StatementLine } from "./statement-line.ts";

export { BadData, Conflict, DatabaseDown } from "./database-faults.ts";

export type Sql = postgres.Sql;
/** A part of a statement. */
export type Fragment = ReturnType<Sql>;
type Statement<Row> = postgres.PendingQuery<Row[] & readonly postgres.MaybeRow[]>;

export type DatabaseSlice = {
  readonly name: "premise_core" | "meta" | "core";
  readonly urls: readonly string[];
  readonly node: string;
  readonly connectionsMax: number;
  /** For leases: the connection is kept for as long as it lasts, and its commits do not wait for a standby. */
  readonly lease?: boolean;
};

export type Database = {
  /**
   * Runs one statement; rejects with DatabaseDown, BadData, Conflict, or the server's own error for a fault of ours. The
   * deadline counts from when it is sent; before that it waits up to 3 s in the line, where `urgent` ones go first.
   */
  run<Row>(build: (sql: Sql) => Statement<Row>, deadlineMs?: number, urgent?: boolean): Promise<Row[]>;
  isUp(): boolean;
  /** The primary's URL; null while none is known. */
  currentUrl(): string | null;
  /** Resolves when a primary has been found; rejects with DatabaseDown after the deadline. */
  untilUp(deadlineMs: number): Promise<void>;
  /** Called on each change between up and down. */
  onChange(listener: (up: boolean) => void): void;
  close(): Promise<void>;
};

/** The same database for statements that a page of high priority waits for: all of them go first in the line. */
export function urgently(database: Database): Database {
  return { ...database, run: (build, deadlineMs) => database.run(build, deadlineMs, true) };
}

const STATEMENT_DEADLINE_MS = 5_000;
/** Those that wait for a connection; a server that does 1,000 a second is 2 s behind a full line. */
const WAITING_MAX = 2_000;
const WAIT_MS = 3_000;
/** Server-side limits end the statement before the client gives up on it, so that its outcome is known. */
const SERVER_STATEMENT_TIMEOUT_MS = 4_000;
const SERVER_LOCK_TIMEOUT_MS = 3_000;
const PROBE_DEADLINE_MS = 1_500;
const PROBE_PAUSE_MIN_MS = 100;
const PROBE_PAUSE_MAX_MS = 1_000;

/**
 * How statements are planned. Each on a page's way looks rows up by an index, whatever the tables hold, so it is planned once on
 * each connection and not again at every call, which took longer than the statement itself. Without the other settings a plan
 * made while a table was empty would read the whole of it later.
 */
const PLANNING = {
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  jit: "off",
};

/** Options every connection of Tocsin shares. */
export function connectionOptions(name: string): postgres.Options<Record<string, postgres.PostgresType>> {
  return {
    types: ARRAY_TYPES,
    fetch_types: false,
    connect_timeout: 3,
    onnotice: () => {},
    connection: {
      ...PLANNING,
      application_name: name,
      statement_timeout: SERVER_STATEMENT_TIMEOUT_MS,
      lock_timeout: SERVER_LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: SERVER_STATEMENT_TIMEOUT_MS,
    },
  };
}

/** What is known of the primary: its pool, and the line before it. */
type Pool = { readonly url: string; readonly sql: Sql; readonly line: StatementLine };

export function openDatabase(slice: DatabaseSlice, ports: { log: Log }): Database {
  const log = ports.log.child({ database: slice.name });
  const listeners: ((up: boolean) => void)[] = [];
  const waiting = new Set<() => void>();
  let pool: Pool | null = null;
  let searching = false;
  let closed = false;

  function openPool(url: string): Pool {
    const { connectionsMax, lease = false } = slice;
    const options = { ...connectionOptions(`tocsin ${slice.node}`), max: connectionsMax };
    const connection = { ...options.connection, synchronous_commit: "local" };
    const sql = postgres(url, lease ? { ...options, connection, max_lifetime: null } : options);
    return { url, sql, line: openStatementLine({ places: connectionsMax, waitingMax: WAITING_MAX, waitMs: WAIT_MS }) };
  }

  /** Lets statements under way finish; nothing new reaches this pool, and what waited for it was not sent. */
  async function retire(old: Pool): Promise<void> {
    old.line.end(new DatabaseDown(false));
    await old.sql.end({ timeout: 2 }).catch(() => {});
  }

  function lose(seen: Pool, error: unknown): void {
    if (pool !== seen) return;
    pool = null;
    void retire(seen);
    log.warn(faultFields(error), "database lost");
    for (const listener of listeners) listener(false);
    void search();
  }

  async function search(): Promise<void> {
    if (searching || closed) return;
    searching = true;
    let pause = 0;
    while (pool === null && !closed) {
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(Math.max(pause * 2, PROBE_PAUSE_MIN_MS), PROBE_PAUSE_MAX_MS);
      for (const url of slice.urls) {
        if (!(await isPrimary(url, slice.node)) || closed) continue;
        pool = openPool(url);
        break;
      }
    }
    searching = false;
    if (pool === null) return;
    log.info({ server: new URL(pool.url).host }, "database found");
    for (const listener of listeners) listener(true);
    for (const wake of waiting) wake();
  }

  void search();

  return {
    isUp: () => pool !== null,
    currentUrl: () => pool?.url ?? null,
    onChange: (listener) => {
      listeners.push(listener);
    },

    async untilUp(deadlineMs) {
      if (pool !== null) return;
      await new Promise<void>((resolve, reject) => {
        const wake = () => {
          clearTimeout(timer);
          waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(() => {
          waiting.delete(wake);
          reject(new DatabaseDown(false));
        }, deadlineMs);
        waiting.add(wake);
      });
    },

    async run(build, deadlineMs = STATEMENT_DEADLINE_MS, urgent = false) {
      const used = pool;
      if (used === null) throw new DatabaseDown(false);
      return used.line.enter(urgent, async () => {
        try {
          return await withDeadline(build(used.sql), deadlineMs);
        } catch (error) {
          const { fault, connectionLost } = classify(error);
          if (connectionLost) lose(used, error);
          throw fault;
        }
      });
    },

    async close() {
      closed = true;
      const last = pool;
      pool = null;
      if (last !== null) await retire(last);
    },
  };
}

/** Whether the server at this URL answers in time and takes writes. */
async function isPrimary(url: string, node: string): Promise<boolean> {
  const probe = postgres(url, {
    ...connectionOptions(`tocsin probe ${node}`),
    max: 1,
    connect_timeout: 1,
  });
  try {
    const [row] = await withDeadline(
      probe<{ writable: boolean }[]>`
        select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off' as writable`,
      PROBE_DEADLINE_MS,
    );
    return row?.writable === true;
  } catch {
    return false;
  } finally {
    probe.end({ timeout: 0 }).catch(() => {});
  }
}

async function withDeadline<Row>(statement: Statement<Row>, deadlineMs: number): Promise<Row[]> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlinePassed()), deadlineMs);
  });
  // The loser of the race may still reject; without a listener that would end the process.
  const settled = Promise.resolve(statement);
  settled.catch(() => {});
  try {
    return (await Promise.race([settled, deadline])) as Row[];
  } finally {
    clearTimeout(timer);
  }
}
