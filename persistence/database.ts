/**
 * One logical database: runs single statements on the primary among its servers with a deadline, and names what went wrong. A
 * server that dies never ends the process and is found again by itself.
 *
 *            a statement meets a dead or read-only server, or the primary is another now, or none
 *     up ─────────────────────────────────────────────────────────────────────────────────────────► down
 *      ▲                                                                                             │
 *      └─────────────────────────────────────────────────────────────────────────────────────────────┘
 *               a look younger than the loss shows a primary that commits (primary.ts)
 *
 * A primary whose commits hang is not left, since what is read from it is good; but no pool is opened to it before a commit begun
 * since the loss has come back: those whose statements have waited out their deadline would leave session after session behind in it.
 *
 * postgres.js is held to what it does safely: one pool for one host (its multi-host list spins when all are down), no
 * `begin` and no `reserve` (both end the process when the server dies inside), no look-up of types at connecting (the same), and
 * a pool that has seen a connection die is replaced, since its next statement would be given the dead one's error.
 */
import postgres from "postgres";
import { systemClock } from "../domain.ts";
import { faultFields, type Log, type LogFields } from "../log.ts";
import { connectionOptions, withDeadline } from "./connecting.ts";
import { classify, DatabaseDown } from "./database-faults.ts";
import { followPrimary, hostOf, type PrimaryState, type PrimaryWatch } from "./primary.ts";
import type { ServerView } from "./primary-choice.ts";
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
  /** Keeps which timeline was seen over restarts (timelines.ts); without it that lasts as long as the process. */
  readonly timelineFile?: string | null;
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
  /** What is known of its servers. */
  servers(): PrimaryState;
  /** Resolves when a primary has been found; rejects with DatabaseDown after the deadline. */
  untilUp(deadlineMs: number): Promise<void>;
  /** Called on each change between up and down. */
  onChange(listener: (up: boolean) => void): void;
  close(): Promise<void>;
};

/** The same database for statements that a page of high priority waits for: all of them go first in the line. @param urgent whether one does */
export function urgently(database: Database, urgent = true): Database {
  if (!urgent) return database;
  return { ...database, run: (build, deadlineMs) => database.run(build, deadlineMs, true) };
}

const STATEMENT_DEADLINE_MS = 5_000;
/** Those that wait for a connection; a server that does 1,000 a second is 2 s behind a full line. */
const WAITING_MAX = 2_000;
const WAIT_MS = 3_000;
/** How long statements under way may take when their pool is left: after one failed; after the primary was another. */
const LEAVING_SECONDS = { failed: 2, moved: 0.2 };
/** A pool that is lost as soon as it was found is opened again after so long, doubled each time. */
const AGAIN_MIN_MS = 100;
const AGAIN_MAX_MS = 1_000;
const SOON_MS = 1_000;

/** What is known of the primary: its pool, and the line before it. */
type Pool = {
  readonly url: string;
  readonly timeline: number | null;
  readonly sql: Sql;
  readonly line: StatementLine;
  readonly openedAt: number;
};

/** @param ports `primary`: who follows it, where that is another's work already */
export function openDatabase(
  slice: DatabaseSlice,
  ports: { readonly log: Log; readonly primary?: PrimaryWatch },
): Database {
  const log = ports.log.child({ database: slice.name });
  const { urls, node, connectionsMax, lease = false, timelineFile = null } = slice;
  const listeners: ((up: boolean) => void)[] = [];
  const waiting = new Set<() => void>();
  const primary = ports.primary ?? followPrimary({ urls, node, timelineFile }, { log: ports.log });
  let pool: Pool | null = null;
  /** A look must be younger than the last loss. */
  let lostAt = Number.NEGATIVE_INFINITY;
  let againMs = 0;
  let closed = false;

  function openPool({ url, timeline }: ServerView): Pool {
    const options = { ...connectionOptions(`tocsin ${node}`), max: connectionsMax };
    const connection = { ...options.connection, synchronous_commit: "local" };
    const sql = postgres(url, lease ? { ...options, connection, max_lifetime: null } : options);
    const line = openStatementLine({ places: connectionsMax, waitingMax: WAITING_MAX, waitMs: WAIT_MS });
    return { url, timeline, sql, line, openedAt: systemClock.monotonic() };
  }

  /** Lets statements under way finish for so long; nothing new reaches this pool, and what waited for it was not sent. */
  async function retire(old: Pool, seconds: number): Promise<void> {
    old.line.end(new DatabaseDown(false));
    await old.sql.end({ timeout: seconds }).catch(() => {});
  }

  function lose(seen: Pool, fields: LogFields, leavingSeconds: number): void {
    if (pool !== seen) return;
    pool = null;
    lostAt = systemClock.monotonic();
    const soon = lostAt - seen.openedAt < SOON_MS;
    againMs = soon ? Math.min(Math.max(againMs * 2, AGAIN_MIN_MS), AGAIN_MAX_MS) : 0;
    void retire(seen, leavingSeconds);
    log.warn(fields, "database lost");
    for (const listener of listeners) listener(false);
    primary.search();
  }

  primary.onLook(() => {
    if (closed) return;
    const used = pool;
    const now = primary.state().primary;
    // Behind one address another server may stand now.
    if (used !== null && (now?.url !== used.url || now.timeline !== used.timeline)) {
      lose(used, { why: now === null ? "no primary" : "the primary is another" }, LEAVING_SECONDS.moved);
    }
    if (pool !== null || systemClock.monotonic() < lostAt + againMs) return;
    const found = primary.confirmed(lostAt, lease);
    if (found === null) return;
    pool = openPool(found);
    log.info({ server: hostOf(found.url), timeline: found.timeline }, "database found");
    for (const listener of listeners) listener(true);
    for (const wake of waiting) wake();
  });

  return {
    isUp: () => pool !== null,
    currentUrl: () => pool?.url ?? null,
    servers: () => primary.state(),
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

    async run<Row>(build: (sql: Sql) => Statement<Row>, deadlineMs = STATEMENT_DEADLINE_MS, urgent = false) {
      const used = pool;
      if (used === null) throw new DatabaseDown(false);
      return used.line.enter(urgent, async () => {
        try {
          return await withDeadline(build(used.sql), deadlineMs);
        } catch (error) {
          const { fault, connectionLost } = classify(error);
          if (connectionLost) lose(used, faultFields(error), LEAVING_SECONDS.failed);
          throw fault;
        }
      });
    },

    async close() {
      closed = true;
      primary.close();
      const last = pool;
      pool = null;
      if (last !== null) await retire(last, LEAVING_SECONDS.failed);
    },
  };
}
