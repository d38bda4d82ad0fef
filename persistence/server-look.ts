/**
 * Looks at one server again and again, over connections of its own, and says what it is.
 *
 *                     ┌────────────── no answer, or its connection broke ──────────────┐
 *     unknown ─► down ┤                                                                │
 *                     └─ it answers ─► standby | read-only | writable ⇄ stalled ───────┘
 *
 * A server that says it takes writes is believed when one of ours has been committed. That write is sent on a connection
 * beside the one that asks, and no second one before it has come back: a primary that waits for a lost standby keeps a
 * session for each commit that somebody gave up on, and a new one at every look would soon fill it. While it waits the server answers
 * what is asked, which tells it from one that is frozen or gone.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { systemClock } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import { connectionOptions, withDeadline } from "./connecting.ts";
import { DeadlinePassed, isStarved } from "./database-faults.ts";
import { isOlder, type Replication, type ServerView, standbysRequired, type Timelines } from "./primary-choice.ts";

export type ServerLook = {
  view(): ServerView;
  /** Looks now, or at once when the look under way is over. */
  hurry(): void;
  close(): void;
};

const EVERY_MS = 500;
const SEARCHING_EVERY_MS = 100;
/** For an answer. Connecting may take longer: a process that has just been started does not come to read that it has succeeded. */
const LOOK_MS = 1_500;
const CONNECT_SECONDS = 3;
/** A write that takes longer waits for something other than a disk. */
const STALL_MS = 1_500;
/** Between two writes to a primary that is in use and well. */
const WRITE_EVERY_MS = 1_000;
const REPLICATION_EVERY_MS = 2_000;
/** How long a session serves for a server that takes no writes, while a primary is searched for. */
const ANEW_MS = 1_000;

type Said = {
  readonly recovering: boolean;
  readonly readOnly: boolean;
  readonly system: string;
  readonly timeline: string | null;
};
/** `over` rejects when the server refused it. */
type Write = { readonly begun: number; readonly over: Promise<void>; done: boolean };

export function lookAt(
  slice: { readonly url: string; readonly node: string },
  ports: {
    /** Whether somebody waits for a primary. */
    readonly searching: () => boolean;
    readonly timelines: () => Timelines;
    readonly changed: () => void;
    readonly log: Log;
  },
): ServerLook {
  const { url } = slice;
  const nobody = { url, system: null, timeline: null, committedAt: Number.NEGATIVE_INFINITY, replication: null };
  let view: ServerView = { ...nobody, state: "unknown", at: systemClock.monotonic() };
  let asking: postgres.Sql | null = null;
  let writing: postgres.Sql | null = null;
  let write: Write | null = null;
  /** When the last write began that came back well. */
  let wroteAt = Number.NEGATIVE_INFINITY;
  let askedAt = Number.NEGATIVE_INFINITY;
  let replication: Replication | null = null;
  let openedAt = 0;
  let interrupt = new AbortController();
  let hurried = false;
  let closed = false;
  /** Since it last answered. */
  const faultsSaid = new Set<string>();

  function hurry(): void {
    hurried = true;
    interrupt.abort();
  }

  function session(lost: (sql: postgres.Sql) => void): postgres.Sql {
    const sql: postgres.Sql = postgres(url, {
      ...connectionOptions(`tocsin probe ${slice.node}`),
      max: 1,
      max_lifetime: null,
      connect_timeout: CONNECT_SECONDS,
      onclose: () => lost(sql),
    });
    return sql;
  }

  /** A connection that died would answer the next statement with its own error, so each has a client of its own. */
  function drop(): void {
    for (const sql of [asking, writing]) sql?.end({ timeout: 0 }).catch(() => {});
    asking = null;
    writing = null;
    write = null;
    replication = null;
    wroteAt = Number.NEGATIVE_INFINITY;
    askedAt = Number.NEGATIVE_INFINITY;
  }

  async function look(): Promise<Omit<ServerView, "at">> {
    // Behind this address another server may stand by now, which a session that has stayed open does not see.
    const idle = view.state === "standby" || view.state === "read-only";
    if (idle && ports.searching() && systemClock.monotonic() - openedAt >= ANEW_MS) drop();
    if (asking === null) openedAt = systemClock.monotonic();
    asking ??= session((sql) => {
      if (sql !== asking) return;
      drop();
      hurry();
    });
    const said = await ask(asking);
    const { system } = said;
    if (said.recovering || said.timeline === null) return { ...nobody, state: "standby", system };
    const primary = { ...nobody, system, timeline: Number.parseInt(said.timeline, 16) };
    if (said.readOnly) return { ...primary, state: "read-only" };
    // What is refused anyway is given nothing to write.
    if (isOlder(primary, ports.timelines())) return { ...primary, state: "writable" };
    const state = (await writes()) ? "writable" : "stalled";
    if (asking !== null && systemClock.monotonic() - askedAt >= REPLICATION_EVERY_MS) {
      askedAt = systemClock.monotonic();
      // What standbys there are is for operators to know; a server that will not say it takes writes all the same.
      replication = await askReplication(asking).catch(() => null);
    }
    return { ...primary, state, committedAt: wroteAt, replication };
  }

  /** Whether a write of ours has come back, lately or within its time; rejects when the server refused it. */
  async function writes(): Promise<boolean> {
    if (write === null && !ports.searching() && systemClock.monotonic() - wroteAt < WRITE_EVERY_MS) return true;
    writing ??= session((sql) => {
      if (sql === writing) writing = null;
    });
    write ??= begin(writing);
    const mine = write;
    await Promise.race([mine.over, sleep(Math.max(0, mine.begun + STALL_MS - systemClock.monotonic()))]);
    // Where it was this process that stood still, the answer may lie there unread.
    if (!mine.done) await nextTurn();
    return mine.done;
  }

  function begin(sql: postgres.Sql): Write {
    const begun = systemClock.monotonic();
    const over = sql`select pg_logical_emit_message(true, 'tocsin', '')`.then(() => {
      own.done = true;
      if (write !== own) return;
      write = null;
      wroteAt = begun;
      if (view.state === "stalled") hurry();
    });
    const own: Write = { begun, over, done: false };
    over.catch(() => {});
    return own;
  }

  /** A connection may have been ended under a server that is well, so one that was open before is no proof. */
  async function lookTwice(): Promise<Omit<ServerView, "at">> {
    const wasOpen = asking !== null;
    try {
      return await look();
    } catch (error) {
      drop();
      if (!wasOpen || closed || error instanceof DeadlinePassed) throw error;
      return await look();
    }
  }

  /** A wrong password or a missing right would otherwise look like a server that is away. */
  function sayFault(error: unknown): void {
    const fields = faultFields(error);
    const what = fields.code ?? fields.fault;
    if (faultsSaid.has(what)) return;
    faultsSaid.add(what);
    ports.log.warn({ server: new URL(url).host, ...fields }, "a database server cannot be used");
  }

  async function run(): Promise<void> {
    while (!closed) {
      const at = systemClock.monotonic();
      hurried = false;
      let failed = false;
      try {
        view = { ...(await lookTwice()), at };
        faultsSaid.clear();
      } catch (error) {
        failed = true;
        drop();
        if (!closed) sayFault(error);
        // Where it is we who can open no session, the last one that looked still says most.
        if (!isStarved(error)) view = { ...nobody, state: "down", system: view.system, at };
      }
      if (closed) return;
      ports.changed();
      if (hurried && !failed) continue;
      interrupt = new AbortController();
      const pause = ports.searching() ? SEARCHING_EVERY_MS : EVERY_MS;
      await sleep(pause, undefined, { signal: interrupt.signal }).catch(() => {});
    }
  }
  void run();

  return {
    view: () => view,
    hurry,
    close() {
      closed = true;
      interrupt.abort();
      drop();
    },
  };
}

async function ask(sql: postgres.Sql): Promise<Said> {
  // The timeline of what is being written now; that of the control file is an older one for a while after a promotion.
  const [said] = await withDeadline(
    sql<Said[]>`
      select pg_is_in_recovery() as recovering, current_setting('transaction_read_only') = 'on' as "readOnly",
        (select system_identifier::text from pg_control_system()) as system,
        case when not pg_is_in_recovery() then substring(pg_walfile_name(pg_current_wal_lsn()) for 8) end as timeline`,
    LOOK_MS,
  );
  if (said === undefined) throw new Error("a server answered nothing");
  return said;
}

/** Other roles' sessions, and the state of standbys, are seen only by members of pg_monitor. */
async function askReplication(sql: postgres.Sql): Promise<Replication> {
  const [row] = await withDeadline(
    sql<{ names: string; mayKnow: boolean; inSync: number; waiting: number }[]>`
      select current_setting('synchronous_standby_names') as names,
        pg_has_role('pg_read_all_stats', 'usage') as "mayKnow",
        (select count(*)::integer from pg_stat_replication
          where state = 'streaming' and sync_state in ('sync', 'quorum')) as "inSync",
        (select count(*)::integer from pg_stat_activity
          where wait_event = 'SyncRep' and application_name like 'tocsin %') as waiting`,
    LOOK_MS,
  );
  return {
    required: standbysRequired(row?.names ?? ""),
    inSync: row?.mayKnow === true ? row.inSync : null,
    waiting: row?.waiting ?? 0,
  };
}
