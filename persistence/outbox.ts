/**
 * What host systems have yet to be told, and the links (connections) it leaves by.
 *
 * A row waits in a lane: its page's link while that is open, else the host system's own lane. Only the oldest open link
 * of a host system takes rows from the host's lane and from closed links, all in one statement and in order, so that the
 * statuses of one page never leave by two links at once. A row goes when the peer is known to have it; until then a
 * link that breaks leaves it to the next.
 */
import type { BootId, DeviceId, HostSystemId, LinkId, ReplyId, StatusText, UniqueId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";
import { type ReplyWords, wordsOf } from "./reply-words.ts";

/**
 * Where news waits: for a host in a link's lane, or the host system's own where no link has it; for a phone in its device's.
 */
export type Lane = LinkId | HostSystemId | DeviceId;

/** The lane for news of a page just written. `page`: a row with its `link_id` and `host_system_id`. */
export function laneOf(sql: Sql, page: string): Fragment {
  return sql`coalesce(
    (select id from premise_core.host_links where id = ${sql(page)}.link_id and closed_at is null), ${sql(page)}.host_system_id)`;
}

/** `at`, in ms since 1970: when it came about, by its author. `source`: the page's destination, as its host wrote it. */
type Told = {
  readonly id: string;
  readonly written: string;
  readonly uniqueId: UniqueId;
  readonly at: number;
  readonly origin: string;
  readonly source: string;
  readonly trackingId: string;
  readonly systemId: string;
};
/** What the host is to hear of a page: where it stands (messageNotification), or what a person replied (newMessage). */
export type News = Told &
  (
    | { readonly kind: "status"; readonly status: StatusText; readonly replyId: null; readonly reason: string | null }
    | { readonly kind: "reply"; readonly status: "REPLY"; readonly replyId: ReplyId; readonly reply: ReplyWords }
  );
/** Which news it is, and where it stands in its lane. */
export type NewsRow = Pick<News, "id" | "written" | "uniqueId" | "status" | "replyId">;

export async function openLink(database: Database, link: LinkId, host: HostSystemId, boot: BootId): Promise<void> {
  await database.run(
    (sql) => sql`
    insert into premise_core.host_links (id, host_system_id, node_boot) values (${link}, ${host}, ${boot})
    on conflict (id) do nothing`,
  );
}

/** Ends links; whatever they had not been seen to deliver is free for the next. Drops ends that are long past. */
export async function closeLinks(database: Database, links: readonly LinkId[]): Promise<void> {
  await database.run(
    (sql) => sql`
    with closed as (
      update premise_core.host_links set closed_at = clock_timestamp() where id = any (${[...links]}::uuid[]) and closed_at is null
    )
    delete from premise_core.host_links
    where closed_at < now() - interval '1 hour'
      and host_system_id = any (array(select host_system_id from premise_core.host_links where id = any (${[...links]}::uuid[])))
      and not exists (select from premise_core.host_outbox where lane = host_links.id)`,
  );
}

/** Ends every link whose node is not among the living, however that came about. */
export async function closeStrayLinks(database: Database): Promise<void> {
  await database.run(
    (sql) => sql`
    update premise_core.host_links set closed_at = clock_timestamp()
    where closed_at is null
      and node_boot not in (select boot from premise_core.nodes where state <> 'DEAD')
      and opened_at < clock_timestamp() - interval '3 seconds'`,
  );
}

/** Ends every link of nodes that are no more. */
export async function closeLinksOf(database: Database, boots: readonly BootId[]): Promise<void> {
  await database.run(
    (sql) => sql`
    update premise_core.host_links set closed_at = clock_timestamp()
    where node_boot = any (${[...boots]}::uuid[]) and closed_at is null`,
  );
}

type Claim = { readonly open: boolean; readonly moved: number };

/**
 * Moves waiting rows without a living link to this one, if it is the host system's oldest, at most `limit`. A page's rows behind
 * one that an ended link's last claim still has in hand stay for the next call: they would overtake it. Not `open` when this
 * link has itself been ended: its node was taken for dead, and its connection must not go on.
 */
export async function claimNews(database: Database, link: LinkId, host: HostSystemId, limit: number): Promise<Claim> {
  const [row] = await database.run<Claim>(
    (sql) => sql`
    with links as (
      select id, opened_at, closed_at from premise_core.host_links where host_system_id = ${host}
    ), oldest as (
      select id from links where closed_at is null order by opened_at, id limit 1
    ), free as (
      select row.* from (select ${host}::uuid as id union all select id from links where closed_at is not null) as waiting
      cross join lateral (
        select lane, written, id, unique_id from premise_core.host_outbox where lane = waiting.id
        order by id
        limit ${limit}
      ) as row
      where ${link}::uuid in (select id from oldest)
      order by row.id
      limit ${limit}
    ), held as (
      select free.* from free cross join lateral (
        select from premise_core.host_outbox where lane = free.lane and written = free.written and id = free.id for update skip locked
      ) as row
    ), elsewhere as (
      select unique_id, min(id) as id from free where id not in (select id from held) group by unique_id
    ), moved as (
      update premise_core.host_outbox as row set lane = ${link}, written = pg_current_xact_id()
      from held left join elsewhere using (unique_id)
      where row.lane = any (array[held.lane]) and row.written = any (array[held.written]) and row.id = any (array[held.id])
        and (elsewhere.id is null or elsewhere.id > held.id)
      returning row.id
    )
    select exists (select from links where id = ${link} and closed_at is null) as open, (select count(*)::integer from moved) as moved`,
  );
  return row!;
}

/** Of an open link, and how far it has read its lane. */
export type LinkPlace = { readonly link: LinkId; readonly hostSystemId: HostSystemId; readonly cursor: string };
/** `news`: written by transaction `cursor` or later; `unclaimed`: waiting for whichever link of the host system is its oldest. */
export type LinkNews = {
  readonly link: LinkId;
  readonly open: boolean;
  readonly news: boolean;
  readonly unclaimed: boolean;
};

/** What there may be to tell over each of these links, for all of them in one statement. In any order. */
export async function newsOfLinks(database: Database, places: readonly LinkPlace[]): Promise<readonly LinkNews[]> {
  return database.run<LinkNews>(
    (sql) => sql`
    select place.link,
      (select true from premise_core.host_links where id = place.link and closed_at is null limit 1) is true as open,
      (select true from premise_core.host_outbox where lane = place.link and written >= place.cursor::xid8 limit 1) is true as news,
      (select true from premise_core.host_outbox where lane = place.host limit 1) is true or (
        select true from premise_core.host_links as ended
        where host_system_id = place.host and closed_at is not null
          and (select true from premise_core.host_outbox where lane = ended.id limit 1)
        limit 1) is true as unclaimed
    from unnest(${places.map(({ link }) => link)}::uuid[], ${places.map(({ hostSystemId }) => hostSystemId)}::uuid[],
      ${places.map(({ cursor }) => cursor)}::text[]) as place (link, host, cursor)`,
  );
}

/**
 * One look at a lane. `snapshot` says what was visible to it; further pages of the same look are held to that, and begin after row
 * `next`; null: there are none.
 */
export type NewsPage = {
  readonly snapshot: string;
  readonly oldestRunning: string;
  readonly news: readonly News[];
  readonly next: string | null;
};

/** A look at a lane: what transaction `cursor` or later has written, after row `afterId`, as `snapshot` saw it (null: as it is now). */
export type LaneRead = {
  readonly link: LinkId;
  readonly cursor: string;
  readonly afterId: string;
  readonly snapshot: string | null;
};

type ReadRow = {
  n: number;
  snapshot: string;
  oldest_running: string;
  id: string | null;
  written: string;
  unique_id: UniqueId;
  status: News["status"];
  reply_id: ReplyId | null;
  at: Date;
  reason: string | null;
  origin: string;
  destination: string;
  tracking_id: string;
  system_id: string;
};

/**
 * Up to `limit` rows of each lane in order. With the `snapshot` of an earlier page only what that page could have seen: ids are drawn
 * before they become visible, and a later page on a newer view could show a page's second status while its first is behind us. Answers in
 * the order of `reads`.
 */
export async function readNews(database: Database, reads: readonly LaneRead[], limit: number): Promise<NewsPage[]> {
  const rows = await database.run<ReadRow>(
    (sql) => sql`
    with here as materialized (
      select snapshot, snapshot::text as text, pg_snapshot_xmin(snapshot)::text as oldest_running from pg_current_snapshot() as snapshot
    )
    select read.n::integer as n, here.text as snapshot, here.oldest_running, row.id, row.written::text as written, row.unique_id,
      row.status, row.reply_id, coalesce(row.said_at, row.at) as at, row.reason,
      message.origin, message.destination, message.tracking_id, message.system_id
    from here
    cross join unnest(${reads.map((r) => r.link)}::uuid[], ${reads.map((r) => r.cursor)}::text[]::xid8[],
      ${reads.map((r) => r.afterId)}::bigint[], ${reads.map((r) => r.snapshot)}::text[])
      with ordinality as read (lane, cursor, after_id, snapshot, n)
    left join lateral (
      select * from premise_core.host_outbox
      where lane = read.lane and written >= read.cursor and id > read.after_id
        and pg_visible_in_snapshot(written, coalesce(read.snapshot::pg_snapshot, here.snapshot))
      order by id
      limit ${limit}
    ) as row on true
    left join lateral (
      select origin, destination, tracking_id, system_id from premise_core.messages where unique_id = row.unique_id limit 1
    ) as message on true
    order by read.n, row.id`,
  );
  const words = await wordsOf(
    database,
    rows.flatMap((row) => (row.status === "REPLY" ? [{ id: row.reply_id!, page: row.unique_id }] : [])),
  );
  const lanes = Map.groupBy(rows, ({ n }) => n);
  return reads.map((_, index) => {
    const lane = lanes.get(index + 1)!;
    const { snapshot, oldest_running: oldestRunning } = lane[0]!;
    const news = lane.flatMap((row) => {
      // A reply whose page went between the two statements goes with it.
      const lost = row.status === "REPLY" && !words.has(row.reply_id!);
      return row.id === null || lost ? [] : [newsOf({ ...row, id: row.id }, words)];
    });
    return { snapshot, oldestRunning, news, next: lane.length === limit ? lane.at(-1)!.id : null };
  });
}

function newsOf(
  { status, reply_id: replyId, reason, ...row }: ReadRow & { id: string },
  words: ReadonlyMap<ReplyId, ReplyWords>,
): News {
  const told = {
    id: row.id,
    written: row.written,
    uniqueId: row.unique_id,
    at: row.at.getTime(),
    origin: row.origin,
    source: row.destination,
    trackingId: row.tracking_id,
    systemId: row.system_id,
  };
  if (status !== "REPLY") return { ...told, kind: "status", status, replyId: null, reason };
  return { ...told, kind: "reply", status, replyId: replyId!, reply: words.get(replyId!)! };
}

/** Forgets rows the peer is known to have: each by all that it was told as, so that what is another's meanwhile stays. */
export async function forgetNews(database: Database, link: LinkId, news: readonly NewsRow[]): Promise<void> {
  await database.run(
    (sql) => sql`
    delete from premise_core.host_outbox as row
    using unnest(${news.map(() => link)}::uuid[], ${news.map((n) => n.written)}::text[]::xid8[], ${news.map((n) => n.id)}::bigint[],
      ${news.map((n) => n.uniqueId)}::uuid[], ${news.map((n) => n.status)}::text[], ${news.map((n) => n.replyId)}::uuid[])
      as done (lane, written, id, unique_id, status, reply_id)
    where row.lane = any (array[done.lane]) and row.written = any (array[done.written]) and row.id = any (array[done.id])
      and row.unique_id = done.unique_id and row.status = done.status and row.reply_id is not distinct from done.reply_id`,
  );
}
