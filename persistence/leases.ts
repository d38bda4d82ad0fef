/**
 * Who is alive and who drives which shard, on the primary's clock. Leases decide only who drives: every change of a
 * message is compare-and-set, so a shard taken too early does no harm.
 */
import type { BootId, Shard } from "../domain.ts";
import type { Database } from "./database.ts";

export type NodeRow = {
  readonly boot: BootId;
  readonly name: string;
  readonly address: string;
  readonly state: "LIVE" | "DRAINING";
  readonly load: number;
  /** Its lease has not run out. */
  readonly leased: boolean;
  /** Its last renewal is less than 750 ms old. */
  readonly fresh: boolean;
  /** Its session still holds its advisory lock. */
  readonly locked: boolean;
  /** How long it has been up, ms. */
  readonly age: number;
  /** When the primary answered, on its clock: ms since 1970. */
  readonly now: number;
};

export type Self = {
  readonly boot: BootId;
  readonly name: string;
  readonly address: string;
  readonly state: "LIVE" | "DRAINING";
  readonly load: number;
  readonly lockKey: string;
};

/** Renews this node's lease and says who else there is, in one statement. Run it on the session that holds the lock. */
export async function renewLease(database: Database, self: Self, leaseMs: number): Promise<NodeRow[]> {
  return database.run<NodeRow>(
    (sql) => sql`
    with locked as (
      select case when not exists (
          select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted
            and (classid::bigint << 32 | objid::bigint) = ${self.lockKey}::bigint)
        then pg_try_advisory_lock(${self.lockKey}::bigint) end
    ), renewed as (
      insert into premise_core.nodes (boot, name, address, state, load, lock_key, lease_until)
      select ${self.boot}, ${self.name}, ${self.address}, ${self.state}, ${self.load}, ${self.lockKey}::bigint,
        clock_timestamp() + ${leaseMs} * interval '1 ms'
      from locked
      on conflict (boot) do update set
        state = excluded.state, load = excluded.load, renewed_at = clock_timestamp(), lease_until = excluded.lease_until
    )
    select boot, name, address, state, load::double precision as load, lease_until > clock_timestamp() as leased,
      renewed_at > clock_timestamp() - interval '750 ms' as fresh,
      exists (
        select from pg_locks where locktype = 'advisory' and granted and (classid::bigint << 32 | objid::bigint) = nodes.lock_key
      ) as locked,
      extract(epoch from clock_timestamp() - started_at)::double precision * 1000 as age,
      extract(epoch from clock_timestamp())::double precision * 1000 as now
    from premise_core.nodes where state <> 'DEAD'`,
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
        and (lease_until <= clock_timestamp() or renewed_at < clock_timestamp() - interval '750 ms')
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

/** Moves shards to `to`, each only if its owner is still the one given. Those moved. */
export async function moveShards(
  database: Database,
  moves: readonly { readonly id: Shard; readonly from: BootId | null; readonly to: BootId }[],
): Promise<Shard[]> {
  const rows = await database.run<{ id: Shard }>(
    (sql) => sql`
    update premise_core.shards as shard set owner_boot = move.next
    from unnest(${moves.map((m) => m.id as number)}::smallint[], ${moves.map((m) => m.from)}::uuid[], ${moves.map((m) => m.to)}::uuid[])
      as move (id, last, next)
    where shard.id = move.id and shard.owner_boot is not distinct from move.last
    returning shard.id`,
    1_500,
    true,
  );
  return rows.map((row) => row.id);
}

/** Ends this node's own entry at a clean stop. */
export async function leave(database: Database, boot: BootId): Promise<void> {
  await database.run((sql) => sql`delete from premise_core.nodes where boot = ${boot}`, 1_500, true);
}
