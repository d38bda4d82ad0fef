/** How much waits and for how long: what an operator's graphs and alarms are drawn from. */
import type { Database } from "./database.ts";

export type Backlog = { readonly rows: number; readonly oldestSeconds: number };

type Row = { rows: number; oldest: number | null };

function backlog(row: Row | undefined): Backlog {
  return { rows: row?.rows ?? 0, oldestSeconds: Math.max(0, row?.oldest ?? 0) };
}

/** Statuses hosts have yet to be told and be known to have. */
export async function outboxBacklog(premise: Database): Promise<Backlog> {
  const [row] = await premise.run<Row>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(at))::double precision as oldest
    from premise_core.host_outbox`,
  );
  return backlog(row);
}

/**
 * Host systems for which statuses wait though no link is open that could take them, the one whose oldest is youngest first.
 * `name` null: it has been removed.
 */
export async function hostsAway(
  premise: Database,
): Promise<readonly { readonly name: string | null; readonly oldestSeconds: number }[]> {
  return await premise.run<{ name: string | null; oldestSeconds: number }>(
    (sql) => sql`
    select (select name from premise_core.host_systems where id = host_system_id) as name,
      greatest(0, extract(epoch from clock_timestamp() - min(at)))::double precision as "oldestSeconds"
    from premise_core.host_outbox
    where host_system_id not in (select host_system_id from premise_core.host_links where closed_at is null)
      and host_system_id not in (select id from premise_core.host_systems where synthetic)
    group by host_system_id
    order by min(at) desc`,
  );
}

/** Messages for which something is due and not done; `oldestSeconds` is how late the latest of them is. */
export async function dueBacklog(premise: Database): Promise<Backlog> {
  const [row] = await premise.run<Row>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(due_at))::double precision as oldest
    from premise_core.messages where due_at <= now()`,
  );
  return backlog(row);
}

/**
 * Pages that have yet to leave by an output gateway, of which a try in vain makes none younger; and those that did not, in the last
 * quarter of an hour.
 */
export async function dispatchBacklog(premise: Database): Promise<Backlog & { readonly failed: number }> {
  const [row] = await premise.run<Row & { failed: number }>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(created_at))::double precision as oldest,
      (select count(*)::integer from premise_core.dispatches
       where done_at > now() - interval '15 minutes' and state <> 'SENT' and code is distinct from 'settled') as failed
    from premise_core.dispatches where state = 'STORED'`,
  );
  return { ...backlog(row), failed: row?.failed ?? 0 };
}

export async function pushBacklog(core: Database): Promise<Backlog> {
  const [row] = await core.run<Row>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(due_at))::double precision as oldest
    from core.message_queue where due_at <= now()`,
  );
  return backlog(row);
}
