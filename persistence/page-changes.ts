/**
 * Pages as they change, on whatever node: what their hosts are told, read off `host_outbox` in the order in which it was committed.
 * The row of each status is written in the statement of its change, lies under an index by writing transaction, and stays for 30 s
 * at least behind its telling. So a follower who looks more often than that misses none, and accepting, waking and fetching pay
 * nothing for it; an index by time over the history would cost each of them. What hosts are not told is not seen here:
 * wake-ups, reminders, what a second phone fetched, refusals.
 *
 * A look goes up to the oldest transaction that still runs, so that none is passed by that is committed later; a long one, of
 * whatever database of the server, holds it up. Rows that a link takes over get a new transaction and come again: each is known by its id.
 */
import { canonicalDestination, PRIORITIES, type Priority, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";

export type PageChange = {
  /** The same when it comes again. */
  readonly id: string;
  readonly at: Date;
  /** A status as hosts are told it, or REPLY. */
  readonly status: string;
  readonly reason: string | null;
  readonly uniqueId: UniqueId;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly priority: Priority;
};

/** As in lists; `status` here is what the page has just become. */
export type ChangeFilter = {
  readonly host: string | null;
  readonly destination: string | null;
  readonly status: string | null;
  readonly priority: Priority | null;
};

export type PageChanges = {
  readonly items: readonly PageChange[];
  readonly next: string;
  /** There is more already. */
  readonly more: boolean;
  /** The place asked for is another server's, or one that was lost: what lay between is not shown. */
  readonly gap: boolean;
};

/** `<timeline>.<transaction>.<row>.<ms since 1970>`: behind which row of which server's, and when the following began. */
const PLACE = /^([0-9A-F]{1,16})\.(\d{1,19})\.(\d{1,19})\.(\d{1,15})$/;
/** A change may be committed so long after it was dated; what is older than the following came again from before it. */
const DATED_MS = 10_000;

type Row = {
  timeline: string;
  upto: string;
  lost: boolean;
  now: Date;
  written: string | null;
  id: string;
  at: Date;
  status: string;
  reason: string | null;
  unique_id: UniqueId | null;
  tracking_id: string;
  origin: string;
  destination: string;
  priority: number;
};

/**
 * Of at most `limit` rows behind `after`; null: from now on, and none yet.
 * @throws RangeError for a place nobody gave out
 */
export async function changesSince(
  premise: Database,
  filter: ChangeFilter,
  after: string | null,
  limit: number,
): Promise<PageChanges> {
  const place = placeOf(after);
  const address = filter.destination === null ? null : canonicalDestination(filter.destination);
  const priority = filter.priority === null ? null : PRIORITIES.indexOf(filter.priority);
  const rows = await premise.run<Row>(
    (sql) => sql`
    with here as materialized (
      select substring(pg_walfile_name(pg_current_wal_lsn()) for 8) as timeline, pg_snapshot_xmin(pg_current_snapshot()) as upto,
        ${place?.written ?? "0"}::text::xid8 > pg_snapshot_xmax(pg_current_snapshot()) as lost, clock_timestamp() as now
    ), hosts as (
      select id from premise_core.host_systems where not synthetic and (${filter.host}::text is null or name = ${filter.host}::text)
    ), lanes as (
      select id from hosts
      union all
      select link.id from hosts cross join lateral (select id from premise_core.host_links where host_system_id = hosts.id) as link
    ), news as (
      select row.* from lanes cross join lateral (
        select written, id, unique_id, status, at, reason from premise_core.host_outbox
        where lane = lanes.id and (written, id) > (${place?.written ?? null}::text::xid8, ${place?.id ?? null}::text::bigint)
          and written < (select upto from here)
        order by written, id
        limit ${limit}
      ) as row
      order by row.written, row.id
      limit ${limit}
    )
    select here.timeline, here.upto::text as upto, here.lost, here.now, news.written::text as written, news.id::text as id, news.at, news.status, news.reason,
      message.unique_id, message.tracking_id, message.origin, message.destination, message.priority
    from here
    left join news on true
    left join lateral (
      select unique_id, tracking_id, origin, destination, priority from premise_core.messages
      where unique_id = news.unique_id and (${priority}::smallint is null or priority = ${priority}::smallint)
        and (${address}::text is null or subscriber_id = any (array(
          select subscriber_id from premise_core.subscriber_addresses where address = ${address}::text)))
      limit 1
    ) as message on true
    order by news.written, news.id`,
  );
  const { timeline, upto, now, lost } = rows[0]!;
  const begin = `${timeline}.${upto}.0`;
  if (place === null) return { items: [], next: `${begin}.${now.getTime()}`, more: false, gap: false };
  const gap = lost || place.timeline !== timeline;
  if (gap) return { items: [], next: `${begin}.${place.since}`, more: false, gap };
  const news = rows.filter((row) => row.written !== null);
  const more = news.length === limit;
  const last = news.at(-1);
  const items = news.filter(
    (row) =>
      row.unique_id !== null &&
      row.at.getTime() >= place.since - DATED_MS &&
      (filter.status === null || row.status === filter.status),
  );
  return {
    items: items.map(changeOf),
    next: `${more ? `${timeline}.${last!.written}.${last!.id}` : begin}.${place.since}`,
    more,
    gap,
  };
}

function changeOf(row: Row): PageChange {
  return {
    id: row.id,
    at: row.at,
    status: row.status,
    reason: row.reason,
    uniqueId: row.unique_id!,
    trackingId: row.tracking_id,
    origin: row.origin,
    destination: row.destination,
    priority: PRIORITIES[row.priority]!,
  };
}

type Place = { readonly timeline: string; readonly written: string; readonly id: string; readonly since: number };

function placeOf(after: string | null): Place | null {
  if (after === null) return null;
  const match = PLACE.exec(after);
  if (match === null) throw new RangeError("the place is none that was given out");
  const [, timeline, written, id, since] = match as unknown as [string, string, string, string, string];
  // What xid8 and bigint hold.
  if (BigInt(written) >= 2n ** 63n || BigInt(id) >= 2n ** 63n)
    throw new RangeError("the place is none that was given out");
  return { timeline, written, id, since: Number(since) };
}
