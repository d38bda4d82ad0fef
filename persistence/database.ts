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
 * `begin` and no `reserve` (both end the process when the server dies inside), no look-up of types at connecting (the same), and a pool that has seen a connection
 * die is replaced, since its next statement would be given the dead one's error.
 */
import postgres from "postgres";
import { faultFields, type Log } from "../log.ts";
import { ARRAY_TYPES } from "./array-types.ts";

export type Sql = postgres.Sql;
type Statement<Row> = postgres.PendingQuery<Row[] & readonly postgres.MaybeRow[]>;

/**
 * No primary can be reached, it went away, or it cannot do its work now. `unknown`: the statement may or may not have been
 * carried out.
 */
export class DatabaseDown extends Error {
  readonly unknown: boolean;
  constructor(unknown: boolean, options?: ErrorOptions) {
    super(unknown ? "the database went away during a statement" : "no writable database server answers", options);
    this.name = "DatabaseDown";
    this.unknown = unknown;
  }
}

/** The server refused the values (SQLSTATE class 22 or 23). Carries the state and constraint, never the values. */
export class BadData extends Error {
  readonly code: string;
  readonly constraint: string | null;
  constructor(code: string, constraint: string | null) {
    super(`the database refused the data (${code}${constraint === null ? "" : `, ${constraint}`})`);
    this.name = "BadData";
    this.code = code;
    this.constraint = constraint;
  }
}

/** The server chose this statement to break a deadlock or serialisation conflict; it was not carried out. */
export class Conflict extends Error {
  override readonly name = "Conflict";
}

export type DatabaseSlice = {
  readonly name: "premise_core" | "meta" | "core";
  readonly urls: readonly string[];
  readonly node: string;
  readonly connectionsMax: number;
  /** For leases: the connection is kept for as long as it lasts, and its commits do not wait for a standby. */
  readonly lease?: boolean;
};

export type Database = {
  readonly name: string;
  readonly urls: readonly string[];
  /** Runs one statement; rejects with DatabaseDown, BadData, Conflict, or the server's own error for a fault of ours. */
  run<Row>(build: (sql: Sql) => Statement<Row>, deadlineMs?: number): Promise<Row[]>;
  isUp(): boolean;
  /** The primary's URL; null while none is known. */
  currentUrl(): string | null;
  /** Resolves when a primary has been found; rejects with DatabaseDown after the deadline. */
  untilUp(deadlineMs: number): Promise<void>;
  /** Called on each change between up and down. */
  onChange(listener: (up: boolean) => void): void;
  close(): Promise<void>;
};

const STATEMENT_DEADLINE_MS = 5_000;
/** Server-side limits end the statement before the client gives up on it, so that its outcome is known. */
const SERVER_STATEMENT_TIMEOUT_MS = 4_000;
const SERVER_LOCK_TIMEOUT_MS = 3_000;
const PROBE_DEADLINE_MS = 1_500;
const PROBE_PAUSE_MIN_MS = 100;
const PROBE_PAUSE_MAX_MS = 1_000;

const CONNECTION_CODES = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENOTFOUND",
  "ENOENT",
  "53300", // too many connections
  "57P01",
  "57P02",
  "57P03",
  "25006", // read-only: demoted in place
]);
/** Errors after which the statement is known not to have been carried out. */
const NOT_STARTED = new Set([
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ENOTFOUND",
  "ENOENT",
  "EHOSTUNREACH",
  "53300",
  "57P03",
  "25006",
]);

/** Options every connection of Tocsin shares. */
export function connectionOptions(name: string): postgres.Options<Record<string, postgres.PostgresType>> {
  return {
    types: ARRAY_TYPES,
    fetch_types: false,
    connect_timeout: 3,
    onnotice: () => {},
    connection: {
      application_name: name,
      statement_timeout: SERVER_STATEMENT_TIMEOUT_MS,
      lock_timeout: SERVER_LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: SERVER_STATEMENT_TIMEOUT_MS,
    },
  };
}

export function openDatabase(slice: DatabaseSlice, ports: { log: Log }): Database {
  const log = ports.log.child({ database: slice.name });
  const listeners: ((up: boolean) => void)[] = [];
  const waiting = new Set<() => void>();
  let pool: Sql | null = null;
  let poolUrl = "";
  let searching = false;
  let closed = false;

  function openPool(url: string): Sql {
    const options = connectionOptions(`tocsin ${slice.node}`);
    if (slice.lease !== true) return postgres(url, { ...options, max: slice.connectionsMax });
    const connection = { ...options.connection, synchronous_commit: "local" };
    return postgres(url, { ...options, connection, max: slice.connectionsMax, max_lifetime: null });
  }

  /** Lets statements under way finish; nothing new reaches this pool. */
  function retire(old: Sql): void {
    old.end({ timeout: 2 }).catch(() => {});
  }

  function lose(seen: Sql, error: unknown): void {
    if (pool !== seen) return;
    pool = null;
    retire(seen);
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
        poolUrl = url;
        break;
      }
    }
    searching = false;
    if (pool === null) return;
    log.info({ server: new URL(poolUrl).host }, "database found");
    for (const listener of listeners) listener(true);
    for (const wake of waiting) wake();
  }

  void search();

  return {
    name: slice.name,
    urls: slice.urls,
    isUp: () => pool !== null,
    currentUrl: () => (pool === null ? null : poolUrl),
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

    async run(build, deadlineMs = STATEMENT_DEADLINE_MS) {
      const used = pool;
      if (used === null) throw new DatabaseDown(false);
      try {
        return await withDeadline(build(used), deadlineMs);
      } catch (error) {
        const { fault, connectionLost } = classify(error);
        if (connectionLost) lose(used, error);
        throw fault;
      }
    },

    async close() {
      closed = true;
      const last = pool;
      pool = null;
      await last?.end({ timeout: 2 }).catch(() => {});
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

/**
 * Whether an error nobody caught comes from inside the driver. The statement it belongs to runs into its deadline and its pool is
 * replaced, so the process may go on.
 */
export function isDriverFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  return (
    error.name === "PostgresError" ||
    (typeof code === "string" && code.startsWith("CONNECTION_")) ||
    /node_modules.postgres.src/.test(error.stack ?? "")
  );
}

class DeadlinePassed extends Error {
  override readonly name = "DeadlinePassed";
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

type Classified = { readonly fault: Error; readonly connectionLost: boolean };

function classify(error: unknown): Classified {
  const kept = (fault: Error): Classified => ({ fault, connectionLost: false });
  if (error instanceof DeadlinePassed) return { fault: new DatabaseDown(true, { cause: error }), connectionLost: true };
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== "string") return kept(error instanceof Error ? error : new Error("the database driver failed"));
  if (CONNECTION_CODES.has(code) || code.startsWith("08")) {
    return { fault: new DatabaseDown(!NOT_STARTED.has(code), { cause: error }), connectionLost: true };
  }
  // A full disk, a server short of something, or a statement it gave up on: rolled back, and worth another try later.
  if (code.startsWith("53") || code.startsWith("58") || code === "57014")
    return kept(new DatabaseDown(false, { cause: error }));
  if (code === "40P01" || code === "40001" || code === "55P03") return kept(new Conflict(code));
  if (code.startsWith("22") || code.startsWith("23")) {
    const constraint = (error as { constraint_name?: unknown }).constraint_name;
    return kept(new BadData(code, typeof constraint === "string" ? constraint : null));
  }
  return kept(error as Error);
}
