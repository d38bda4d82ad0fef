/**
 * What may go, a bounded batch at a time: one statement each, rows that others hold are passed over, and a page only if its
 * version is still the one that was judged.
 *
 *   page: nothing due (nor can it be fetched, then), so many days past its expiry, and told ─► deleted
 *   test page: the same, an hour past its expiry, and told or not ─► deleted, with its news
 *   news: its page as long past its expiry, and its host system without a link for as long ─► deleted
 *   notice to a device: past its own expiry ─► deleted
 *   push: outcome written, or past its expiry ─► ended ─► a week later deleted
 *   dispatch: the same, where its gateway is no more ─► ended
 *
 * Never touched: what is due, what can still be fetched, what a host that may come back has yet to be told.
 */
import type { HostSystemId } from "../domain.ts";
import type { Database } from "./database.ts";
import { nextStepNow } from "./dispatches.ts";

/** Rows of one kind that one statement deletes or changes. */
export const BATCH_ROWS = 1_000;
/** Pages deleted at once; each has a handful of lines of history, and one that was never fetched thousands. */
const BATCH_PAGES = 250;

/** How long a test page of our own is kept after its expiry. */
const SYNTHETIC_KEPT = "1 hour";

/** Blocks of the table that one look reads. */
const LOOK_BLOCKS = 500;

/**
 * Deletes pages whose expiry is more than `days` days past, with their history and replies, in the order they lie in the table: a
 * walk that needs no index, which every page on its way would have to pay for. One with more history than a batch may hold loses
 * the oldest lines first and goes when none is left behind. `next`: the place to go on behind; null: that was the end.
 */
export async function deleteEndedPages(
  premise: Database,
  days: number,
  after: string | null = null,
): Promise<{ pages: number; next: string | null; unfinished: boolean }> {
  const from = after ?? "(0,0)";
  const upTo = `(${Number(from.slice(1).split(",")[0]) + LOOK_BLOCKS},0)`;
  const [row] = await premise.run<{ held: number; pages: number; last: string | null; done: boolean }>(
    (sql) => sql`
    with seen as materialized (
      select ctid as place, unique_id, version, repeats, synthetic from premise_core.messages
      where ctid > ${from}::text::tid and ctid < ${upTo}::text::tid and due_at is null
        and expires_at < now() - case when synthetic then ${SYNTHETIC_KEPT}::text::interval else make_interval(days => ${days}::integer) end
      order by ctid
      limit ${BATCH_PAGES}
    ), untold as (
      select lane, written, id, unique_id from premise_core.host_outbox where (unique_id in (select unique_id from seen)) is true
    ), held as (
      select message.unique_id from seen cross join lateral (
        select unique_id from premise_core.messages
        where unique_id = seen.unique_id and version = seen.version and repeats = seen.repeats
        for update skip locked
      ) as message
      where seen.synthetic or message.unique_id not in (select unique_id from untold)
    ), lines as (
      select unique_id, seq from premise_core.message_history
      where unique_id = any (array(select unique_id from held))
      order by unique_id, seq
      limit ${BATCH_ROWS}
    ), history as (
      delete from premise_core.message_history as line using lines where line.unique_id = any (array[lines.unique_id]) and line.seq = any (array[lines.seq])
    ), whole as (
      select held.unique_id from held
      where (select count(*) from premise_core.message_history as line where line.unique_id = held.unique_id)
        = (select count(*) from lines where lines.unique_id = held.unique_id)
    ), pages as (
      delete from premise_core.messages as message using whole where message.unique_id = any (array[whole.unique_id])
      returning message.unique_id
    ), replies as (
      delete from premise_core.replies as reply using whole where reply.unique_id = any (array[whole.unique_id])
    ), news as (
      delete from premise_core.host_outbox as row using untold join whole using (unique_id)
      where row.lane = any (array[untold.lane]) and row.written = any (array[untold.written]) and row.id = any (array[untold.id])
    ), last as (
      select max(place)::text as place from seen having count(*) = ${BATCH_PAGES}
    )
    select (select count(*)::integer from held) as held, (select count(*)::integer from pages) as pages,
      (select place from last) as last,
      pg_relation_size('premise_core.messages') <= ${Number(upTo.slice(1).split(",")[0])}::bigint * current_setting('block_size')::integer as done`,
  );
  const { held, pages, last, done } = row!;
  const unfinished = pages < held;
  return { pages, unfinished, next: unfinished ? after : (last ?? (done ? null : upTo)) };
}

/** Of one host system; `name` null: it has been removed. */
export type Forgotten = { readonly hostSystemId: HostSystemId; readonly name: string | null; readonly rows: number };

/**
 * Deletes what host systems had yet to be told that have had no link for `days` days, of pages whose expiry is as long past:
 * they kept their pages, too. The oldest first, so that one that comes back meanwhile is told the end of a page's story.
 */
export async function forgetNewsOfHostsAway(premise: Database, days: number): Promise<readonly Forgotten[]> {
  const rows = await premise.run<Forgotten>(
    (sql) => sql`
    with past as (
      select row.lane, row.written, row.id
      from premise_core.host_outbox as row cross join lateral (
        select from premise_core.messages
        where unique_id = row.unique_id and due_at is null and expires_at < now() - make_interval(days => ${days}::integer)
        limit 1
      ) as message
      where row.at < now() - make_interval(days => ${days}::integer)
        and not exists (
          select from premise_core.host_links as link
          where link.host_system_id = row.host_system_id
            and coalesce(link.closed_at, now()) > now() - make_interval(days => ${days}::integer))
      order by row.id
      limit ${BATCH_ROWS}
      for update of row skip locked
    ), gone as (
      delete from premise_core.host_outbox as row using past
      where row.lane = any (array[past.lane]) and row.written = any (array[past.written]) and row.id = any (array[past.id])
      returning row.host_system_id
    )
    select host_system_id as "hostSystemId", (select name from premise_core.host_systems where id = host_system_id) as name,
      count(*)::integer as rows
    from gone group by host_system_id`,
  );
  return [...rows];
}

/** Ends pushes whose page expired an hour ago and that no worker took up; how many. Those with one it ends itself. */
export async function endExpiredNotifications(premise: Database): Promise<number> {
  const rows = await premise.run(
    (sql) => sql`
    with past as (
      select id from premise_core.notifications
      where queue_check_at is not null and state = 'STORED' and expires_at < now() - interval '1 hour'
      limit ${BATCH_ROWS}
      for update skip locked
    )
    update premise_core.notifications as notification set
      state = 'EXPIRED', code = 'EXPIRED', done_at = clock_timestamp(), queue_check_at = null
    from past where notification.id = any (array[past.id])
    returning notification.id`,
  );
  return rows.length;
}

/** Deletes pushes whose outcome is a week old; how many. */
export async function deleteEndedNotifications(premise: Database): Promise<number> {
  const rows = await premise.run(
    (sql) => sql`
    delete from premise_core.notifications where id = any (array(
      select id from premise_core.notifications
      where done_at < now() - interval '7 days' and state <> 'STORED'
      order by done_at
      limit ${BATCH_ROWS}
      for update skip locked))
    returning id`,
  );
  return rows.length;
}

/** Deletes queue rows that nobody has claimed for a week; one whose push is not done is queued again by that push's row. */
export async function deleteForgottenPushes(core: Database): Promise<number> {
  const rows = await core.run(
    (sql) => sql`
    delete from core.message_queue where device_id = any (array(
      select device_id from core.message_queue
      where due_at < now() - interval '7 days' and (claimed_until is null or claimed_until < now() - interval '7 days')
      limit ${BATCH_ROWS}
      for update skip locked))
    returning device_id`,
  );
  return rows.length;
}

/**
 * Ends what can leave by no gateway any more, so that it is seen: of one that was removed in the instant in which it was chosen. One
 * of a gateway that is there its worker ends.
 */
export async function endLostDispatches(premise: Database): Promise<number> {
  const rows = await premise.run(
    (sql) => sql`
    with refused as (
      update premise_core.dispatches as dispatch set state = 'REFUSED', code = 'no-gateway', done_at = clock_timestamp(), claimed_until = null
      where id = any (array(
        select id from premise_core.dispatches as lost
        where state = 'STORED' and not exists (select from premise_core.output_gateways where id = lost.gateway_id)
        limit ${BATCH_ROWS}
        for update skip locked))
      returning id, unique_id
    ), ${nextStepNow(sql)}
    select id from refused`,
  );
  return rows.length;
}

/** Deletes dispatches whose outcome is a week old; how many. */
export async function deleteEndedDispatches(premise: Database): Promise<number> {
  const rows = await premise.run(
    (sql) => sql`
    delete from premise_core.dispatches where id = any (array(
      select id from premise_core.dispatches where done_at < now() - interval '7 days' order by done_at limit ${BATCH_ROWS}
      for update skip locked))
    returning id`,
  );
  return rows.length;
}

/** Deletes what devices were to hear of pages and have not confirmed in its time; how many. */
export async function deleteExpiredNotices(premise: Database): Promise<number> {
  const rows = await premise.run(
    (sql) => sql`
    delete from premise_core.device_notices where id = any (array(
      select id from premise_core.device_notices where expires_at < now() order by expires_at limit ${BATCH_ROWS} for update skip locked))
    returning id`,
  );
  return rows.length;
}

export async function deleteOldRefusals(premise: Database): Promise<number> {
  const rows = await premise.run(
    (sql) => sql`
    delete from premise_core.refusals where id = any (array(
      select id from premise_core.refusals where at < now() - interval '7 days' order by at limit ${BATCH_ROWS} for update skip locked))
    returning id`,
  );
  return rows.length;
}
