/**
 * What Postgres takes: the rows of a lifecycle by plain inserts, the same tables and columns as the server's, with four
 * lines of history and four of the outbox a page, copied from a page the server itself accepted.
 */
import postgres from "postgres";
import { type CeilingOrders, type CeilingSeen, check, inParallel, measured } from "./ceiling.ts";

const PAGES = { tiny: 200, quick: 20_000, full: 100_000 } as const;
const PAGES_ALONE = { tiny: 50, quick: 3_000, full: 20_000 } as const;
const STATUSES = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"];
/** The server's own connections write beside one another too. */
const CONNECTIONS = { batched: 2, alone: 16 } as const;

export async function rowsCeiling(orders: CeilingOrders, began: () => void, batch: number): Promise<CeilingSeen> {
  const pages = batch > 1 ? PAGES[orders.size] : PAGES_ALONE[orders.size];
  const width = batch > 1 ? CONNECTIONS.batched : CONNECTIONS.alone;
  const sql = postgres(orders.databaseUrl, {
    max: width,
    onnotice: () => {},
    connection: { statement_timeout: 60_000 },
  });
  const mark = `ceiling-${batch}-`;
  try {
    await sql`drop table if exists bench_page, bench_history`;
    await sql`create table bench_page as select * from premise_core.messages order by accepted_at limit 1`;
    await sql`create table bench_history as
      select history.* from premise_core.message_history as history join bench_page using (unique_id) order by seq desc limit 1`;
    const columns = await columnsOf("bench_page", ["unique_id", "tracking_id"]);
    const history = await columnsOf("bench_history", ["unique_id", "seq", "event"]);
    const insert = `
      with page as (
        insert into premise_core.messages (unique_id, tracking_id, ${columns})
        select id, tracking, ${columns} from bench_page, unnest($1::uuid[], $2::text[]) as given (id, tracking)
      ), history as (
        insert into premise_core.message_history (unique_id, seq, event, ${history})
        select id, step.seq, step.event, ${history}
        from bench_history, unnest($1::uuid[]) as id, unnest($3::text[]) with ordinality as step (event, seq)
      )
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      select host_system_id, host_system_id, id, step.event, now()
      from bench_page, unnest($1::uuid[]) as id, unnest($3::text[]) as step (event)`;
    const ids = Array.from({ length: pages }, () => crypto.randomUUID());
    const before = await counts();
    const seen = await measured(pages, began, () =>
      inParallel(Math.ceil(pages / batch), width, async (n) => {
        const some = ids.slice(n * batch, (n + 1) * batch);
        const tracking = some.map((_, place) => mark + String(n * batch + place).padStart(8, "0"));
        await sql.unsafe(insert, [some, tracking, STATUSES], { prepare: true });
      }),
    );
    const after = await counts();
    check(after.pages - before.pages === pages, `${after.pages - before.pages} pages of ${pages}`);
    check(
      after.history - before.history === 4 * pages,
      `${after.history - before.history} lines of history for ${pages} pages`,
    );
    check(
      after.outbox - before.outbox === 4 * pages,
      `${after.outbox - before.outbox} lines of the outbox for ${pages} pages`,
    );
    const [size] = await sql<{ ours: number; theirs: number }[]>`
      select (select avg(pg_column_size(m.*))::float8 from premise_core.messages m where tracking_id like ${`${mark}%`}) as ours,
        (select avg(pg_column_size(m.*))::float8 from premise_core.messages m where tracking_id like 'bench-%') as theirs`;
    check(Math.abs(size!.ours / size!.theirs - 1) < 0.1, `rows of ${size!.ours} bytes for such of ${size!.theirs}`);
    return seen;
  } finally {
    await sql.end({ timeout: 2 });
  }

  async function columnsOf(table: string, but: readonly string[]): Promise<string> {
    const rows = await sql<{ name: string }[]>`
      select quote_ident(column_name) as name from information_schema.columns
      where table_name = ${table} and not column_name = any (${[...but]}::text[]) order by ordinal_position`;
    return rows.map(({ name }) => name).join(", ");
  }

  async function counts() {
    const [row] = await sql<{ pages: number; history: number; outbox: number }[]>`
      select (select count(*)::integer from premise_core.messages) as pages,
        (select count(*)::integer from premise_core.message_history) as history,
        (select count(*)::integer from premise_core.host_outbox) as outbox`;
    return row!;
  }
}
