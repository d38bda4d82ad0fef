/** How much waits, for the gauges and the overload supervisor. Counting stops at a limit: beyond it the number says enough. */
import type { Database } from "./database.ts";

export type Backlog = { readonly rows: number /** null: nothing waits. */; readonly oldestSeconds: number | null };

const COUNT_MAX = 100_000;

/** What host systems have yet to be told. */
export async function outboxBacklog(premise: Database): Promise<Backlog> {
  const [row] = await premise.run<Backlog>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(at))::double precision as "oldestSeconds"
    from (select at from premise_core.host_outbox limit ${COUNT_MAX}) as waiting`,
  );
  return row!;
}

/** Pages whose next step is due. */
export async function dueBacklog(premise: Database): Promise<Backlog> {
  const [row] = await premise.run<Backlog>(
    (sql) => sql`
    select count(*)::integer as rows, extract(epoch from clock_timestamp() - min(due_at))::double precision as "oldestSeconds"
    from (select due_at from premise_core.messages where due_at is not null and due_at <= now() limit ${COUNT_MAX}) as due`,
  );
  return row!;
}

/** Pushes owed; the age is that of the longest due one. */
export async function pushBacklog(core: Database): Promise<Backlog> {
  const [row] = await core.run<Backlog>(
    (sql) => sql`
    select count(*)::integer as rows,
      extract(epoch from clock_timestamp() - min(due_at) filter (where due_at <= clock_timestamp()))::double precision as "oldestSeconds"
    from (select due_at from core.message_queue limit ${COUNT_MAX}) as owed`,
  );
  return row!;
}
