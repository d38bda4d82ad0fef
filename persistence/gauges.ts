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

/** Messages for which something is due and not done; `oldestSeconds` is how late the latest of them is. */
export async function dueBacklog(premise: Database): Promise<Backlog> {
  const [row] = await premise.run<Row>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(due_at))::double precision as oldest
    from premise_core.messages where due_at <= now()`,
  );
  return backlog(row);
}

export async function pushBacklog(core: Database): Promise<Backlog> {
  const [row] = await core.run<Row>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(due_at))::double precision as oldest
    from core.message_queue where due_at <= now()`,
  );
  return backlog(row);
}
