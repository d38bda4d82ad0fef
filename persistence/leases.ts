/**
 * Who is alive and who drives which shard, on the primary's clock. Leases decide only who drives: every change of a
 * message is compare-and-set, so a shard taken too early does no harm.
 */
import type { BootId, Shard } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";

/** A node whose lock is gone is dead when it has been silent for so long: time enough to take the lock on a new connection. */
export const SILENT_MS = 600;

export type NodeRow = {
  readonly boot: BootId;
  readonly name: string;
  readonly address: string;
  readonly state: "LIVE" | "DRAINING";
  readonly load: number;
  /** How much of the shards it is to have beside the others; null: its version knows nothing of that. */
  readonly weight: number | null;
  /** How long its lease still lasts, ms; not above 0 when it has run out. */
  readonly leaseMs: number;
  /** How long ago it last renewed, ms. */
  readonly silentMs: number;
  /** Its session still holds its advisory lock. */
  readonly locked: boolean;
  /** How long it has been up, ms. */
  readonly ageMs: number;
  /** Somebody asked it to give its shards away. */
  readonly drainAsked: boolean;
  /** How often it has moved shards. */
  readonly moves: number;
};

/** What the primary said to a renewal. */
export type Renewed = {
  /** When it answered, on its clock: ms since 1970. */
  readonly now: number;
  /** Which history of writes this is: the server's system and the timeline it writes. */
  readonly timeline: string;
  /** When that server was started; its locks are no older. */
  readonly startedAt: number;
  /** All that are not written off, as they were before this renewal. */
  readonly nodes: readonly NodeRow[];
};

export type Self = {
  readonly boot: BootId;
  readonly name: string;
  readonly address: string;
  readonly state: "LIVE" | "DRAINING";
  /** Why it gives its shards away. */
  readonly why: string | null;
  readonly load: number;
  readonly weight: number;
  /** The newest migration of premise_core that it knows: what older nodes would not understand waits until they are gone. */
  readonly knows: number;
  readonly lockKey: string;
  /** When, on its own monotonic clock, in ms. */
  readonly asked: number;
};

/** Whether a node may be taken for dead at this instant, whatever was seen of it before: it may have come back meanwhile. */
export function isGone(sql: Sql): Fragment {
  return sql`(
    lease_until <= clock_timestamp()
    or renewed_at < clock_timestamp() - ${SILENT_MS} * interval '1 ms' and not exists (
      select from pg_locks where locktype = 'advisory' and granted and (classid::bigint << 32 | objid::bigint) = nodes.lock_key)
  )`;
}

type RenewedRow = Omit<NodeRow, "boot"> & { readonly boot: BootId | null } & Omit<Renewed, "nodes">;

/** Renews this node's lease and says who else there is, in one statement. Run it on the session that holds the lock. */
export async function renewLease(database: Database, self: Self, leaseMs: number): Promise<Renewed> {
  const rows = await database.run<RenewedRow>(
    (sql) => sql`
    with held as materialized (
      -- Once for all nodes: a look takes every lock partition of the server.
      select (classid::bigint << 32 | objid::bigint) as key, pid from pg_locks where locktype = 'advisory' and granted
    ), locked as (
      select case when not exists (select from held where pid = pg_backend_pid() and key = ${self.lockKey}::bigint)
        then pg_try_advisory_lock(${self.lockKey}::bigint) end
    ), renewed as (
      insert into premise_core.nodes (boot, name, address, state, why, load, weight, knows, lock_key, asked, lease_until)
      select ${self.boot}, ${self.name}, ${self.address}, ${self.state}, ${self.why}, ${self.load}, ${self.weight}, ${self.knows}::smallint, ${self.lockKey}::bigint, ${Math.floor(self.asked)}::bigint,
        clock_timestamp() + ${leaseMs} * interval '1 ms'
      from locked
      on conflict (boot) do update set
        state = excluded.state, why = excluded.why, load = excluded.load, weight = excluded.weight, asked = excluded.asked, renewed_at = clock_timestamp(),
        lease_until = excluded.lease_until
        where nodes.asked < excluded.asked
    ), server as (
      -- The timeline of the place where it writes: the one of its last checkpoint lags behind a promotion.
      select (select system_identifier from pg_control_system())::text
          || '/' || substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8) as timeline,
        extract(epoch from pg_postmaster_start_time())::double precision * 1000 as "startedAt",
        extract(epoch from clock_timestamp())::double precision * 1000 as now
    )
    select server.*, boot, name, address, state, load::double precision as load, weight::double precision as weight, drain_asked as "drainAsked", moves,
      extract(epoch from lease_until - clock_timestamp())::double precision * 1000 as "leaseMs",
      extract(epoch from clock_timestamp() - renewed_at)::double precision * 1000 as "silentMs",
      lock_key = any (array(select key from held)) as locked,
      extract(epoch from clock_timestamp() - started_at)::double precision * 1000 as "ageMs"
    from server left join premise_core.nodes on state <> 'DEAD'`,
    1_500,
  );
  const { now, timeline, startedAt } = rows[0]!;
  const nodes = rows.flatMap(({ boot, now: _, timeline: __, startedAt: ___, ...row }) =>
    boot === null ? [] : [{ ...row, boot }],
  );
  return { now, timeline, startedAt, nodes };
}

/**
 * Ends this node's lease now: it is there, and cannot do its work. Its next renewal takes it back, also where this, over a
 * connection that was left, comes late.
 */
export async function giveUpLease(database: Database, { boot, asked }: Pick<Self, "boot" | "asked">): Promise<void> {
  await database.run(
    (sql) => sql`
    update premise_core.nodes set lease_until = clock_timestamp(), asked = ${Math.floor(asked)}::bigint
    where boot = ${boot} and asked < ${Math.floor(asked)}::bigint`,
    1_500,
  );
}

/**
 * Writes those off that have not come back meanwhile, and says which; forgets the long dead. Their shards are claimed by
 * whoever is to have them.
 */
export async function declareDead(database: Database, boots: readonly BootId[]): Promise<BootId[]> {
  const rows = await database.run<{ boot: BootId }>(
    (sql) => sql`
    with dead as (
      update premise_core.nodes set state = 'DEAD'
      where boot = any (${[...boots]}::uuid[]) and state <> 'DEAD'
        and ${isGone(sql)}
      returning boot
    ), forgotten as (
      delete from premise_core.nodes where state = 'DEAD' and renewed_at < now() - interval '1 day'
    )
    select boot from dead`,
  );
  return rows.map((row) => row.boot);
}

export async function shardOwners(database: Database): Promise<{ id: Shard; owner: BootId | null }[]> {
  return database.run<{ id: Shard; owner: BootId | null }>(
    (sql) => sql`select id, owner_boot as owner from premise_core.shards order by id`,
    1_500,
    true,
  );
}

/**
 * Moves shards to `to`, each only if its owner is still the one given and `to` is there and does not want to go, unless nobody
 * stays: `by` may not have heard of that yet. Those moved.
 */
export async function moveShards(
  database: Database,
  by: BootId,
  moves: readonly { readonly id: Shard; readonly from: BootId | null; readonly to: BootId }[],
): Promise<Shard[]> {
  const rows = await database.run<{ id: Shard }>(
    (sql) => sql`
    with moved as (
      update premise_core.shards as shard set owner_boot = move.next, moved_from = move.last, moved_at = clock_timestamp()
      from unnest(${moves.map((m) => m.id as number)}::smallint[], ${moves.map((m) => m.from)}::uuid[], ${moves.map((m) => m.to)}::uuid[])
        as move (id, last, next)
      where shard.id = move.id and shard.owner_boot is not distinct from move.last and exists (
        select from premise_core.nodes as taker
        where boot = move.next and (state = 'LIVE' or state = 'DRAINING' and not exists (
          select from premise_core.nodes where state = 'LIVE' and lease_until > clock_timestamp())))
      returning shard.id
    ), told as (
      update premise_core.nodes set moves = moves + 1 where boot = ${by} and exists (select from moved)
    )
    select id from moved`,
    1_500,
    true,
  );
  return rows.map((row) => row.id);
}

/** Ends this node's own entry at a clean stop. */
export async function leave(database: Database, boot: BootId): Promise<void> {
  await database.run((sql) => sql`delete from premise_core.nodes where boot = ${boot}`, 1_500, true);
}

/** Asks the living node of this name to give its shards away; false: there is none. It does so with its next renewal. */
export async function askDrain(database: Database, name: string): Promise<boolean> {
  return setDrain(database, name, true);
}

/** Takes that back; false: there is no living node of this name. */
export async function takeBackDrain(database: Database, name: string): Promise<boolean> {
  return setDrain(database, name, false);
}

async function setDrain(database: Database, name: string, asked: boolean): Promise<boolean> {
  const rows = await database.run<{ boot: BootId }>(
    (sql) => sql`
    update premise_core.nodes set drain_asked = ${asked}
    where name = ${name} and state <> 'DEAD' and lease_until > clock_timestamp()
    returning boot`,
  );
  return rows.length > 0;
}

export type ClusterNode = {
  readonly name: string;
  readonly boot: BootId;
  readonly address: string;
  /** `LAPSED`: its lease has run out, and nobody has written it off yet. */
  readonly state: "LIVE" | "DRAINING" | "LAPSED";
  readonly why: string | null;
  readonly load: number;
  readonly weight: number | null;
  readonly shards: readonly Shard[];
  readonly leaseLeftMs: number;
  readonly ageMs: number;
};

/** Every node that is not written off and what it owns, as the primary has it: the same whoever asks. */
export async function clusterNodes(database: Database): Promise<ClusterNode[]> {
  return database.run<ClusterNode>(
    (sql) => sql`
    select name, boot, address, why, load::double precision as load, weight::double precision as weight,
      case when lease_until > clock_timestamp() then state else 'LAPSED' end as state,
      array(select id::integer from premise_core.shards where owner_boot = nodes.boot order by id) as shards,
      greatest(0, extract(epoch from lease_until - clock_timestamp()) * 1000)::double precision as "leaseLeftMs",
      (extract(epoch from clock_timestamp() - started_at) * 1000)::double precision as "ageMs"
    from premise_core.nodes where state <> 'DEAD' order by name, started_at`,
  );
}

export type ShardMove = {
  readonly at: Date;
  /** Names; null: nobody, or a node that is forgotten. */
  readonly from: string | null;
  readonly to: string | null;
  readonly shards: number;
};

/** The latest move of each shard, those of one second together; newest first. */
export async function recentMoves(database: Database, limit: number): Promise<ShardMove[]> {
  return database.run<ShardMove>(
    (sql) => sql`
    select max(moved_at) as at, giver.name as from, taker.name as to, count(*)::integer as shards
    from premise_core.shards
      left join premise_core.nodes as giver on giver.boot = moved_from
      left join premise_core.nodes as taker on taker.boot = owner_boot
    where moved_at is not null
    group by moved_from, owner_boot, giver.name, taker.name, date_trunc('second', moved_at)
    order by max(moved_at) desc limit ${limit}`,
  );
}
