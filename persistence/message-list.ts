/**
 * Pages for an operator's list. Newest first, it looks back in widening windows until it has enough, and a week at most
 * at one call, so that no question reads the whole table; pages under a trackingId stand side by side in the primary
 * key; stuck pages are found by what is due and what is open.
 */

import type { StatusText, UniqueId } from "../domain.ts";
import { canonicalDestination, type HostSystemId, type Outcome, PRIORITIES, type Priority } from "../domain.ts";
import type { Database, Sql } from "./database.ts";
import { idRange } from "./unique-id.ts";

export type ListedMessage = {
  readonly uniqueId: UniqueId;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  /** The page it was passed on from. */
  readonly parentId: UniqueId | null;
  readonly priority: Priority;
  /** The last word the host was told. */
  readonly status: StatusText;
  readonly outcome: Outcome | null;
  readonly reason: string | null;
  readonly acceptedAt: Date;
  readonly dueAt: Date | null;
  readonly deviceDeadline: Date | null;
  readonly expiresAt: Date;
};

export type MessageFilter = {
  readonly status: StatusText | null;
  /** Any address of a subscriber, however it is spelt: pages for that subscriber. */
  readonly destination: string | null;
  /** Whether test pages of our own are looked for, or everybody else's; null: both. */
  readonly synthetic: boolean | null;
  /** The name of a host system. */
  readonly host: string | null;
  readonly priority: Priority | null;
  readonly outcome: Outcome | null;
  /** As its host sent it: none that was passed on from another. */
  readonly sent: boolean;
  /** Accepted then or later, and then or before. */
  readonly since: Date | null;
  readonly until: Date | null;
};
export const ANY_MESSAGE: MessageFilter = {
  status: null,
  destination: null,
  synthetic: null,
  host: null,
  priority: null,
  outcome: null,
  sent: false,
  since: null,
  until: null,
};

/** `next` continues the list; null: it ends here. A page may hold fewer than `limit` although there is more. */
export type MessagePage = { readonly items: readonly ListedMessage[]; readonly next: string | null };

const WINDOWS = ["10 minutes", "3 hours", "1 day", "7 days"];
/** Pages looked at under one trackingId of one host system. */
const UNDER_MAX = 1_000;
/** `<accepted_at in µs since 1970>.<uniqueId>` of the last row listed; without an id, everything up to that time. */
const CURSOR = /^(\d{1,16})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$/;

type Row = Omit<ListedMessage, "priority"> & { priority: number; position: string };
type Position = { readonly us: string | null; readonly id: string | null };

/** Newest first. @throws RangeError for a cursor nobody gave out */
export async function listMessages(
  premise: Database,
  filter: MessageFilter,
  cursor: string | null,
  limit: number,
): Promise<MessagePage> {
  const from =
    cursor === null && filter.until !== null ? { us: `${filter.until.getTime()}000`, id: null } : positionOf(cursor);
  let rows: Row[] = [];
  for (const window of WINDOWS) {
    rows = await premise.run<Row>(
      (sql) => sql`
      with start as (select coalesce(${timeOf(sql, from)}, now()) as at)
      select ${columns(sql)} from premise_core.messages
      where accepted_at <= (select at from start) and accepted_at > (select at from start) - ${window}::text::interval
        and (${from.id}::uuid is null or accepted_at < (select at from start) or unique_id < ${from.id}::uuid)
        and ${matches(sql, filter)}
      order by accepted_at desc, unique_id desc limit ${limit + 1}`,
    );
    if (rows.length > limit) return pageOf(rows, limit);
  }
  return { items: rows.map(listed), next: await furtherBack(premise, filter.since, from, WINDOWS.at(-1)!) };
}

/** Where the list goes on after windows that were read to their end; null when nothing asked for is older. */
async function furtherBack(
  premise: Database,
  since: Date | null,
  from: Position,
  window: string,
): Promise<string | null> {
  const [row] = await premise.run<{ position: string | null }>(
    (sql) => sql`
    with finish as (select coalesce(${timeOf(sql, from)}, now()) - ${window}::text::interval as at)
    select case when exists (
        select from premise_core.messages
        where accepted_at <= (select at from finish) and (${iso(since)}::timestamptz is null or accepted_at >= ${iso(since)}::timestamptz))
      then (extract(epoch from at) * 1000000)::bigint || '.' end as position from finish`,
  );
  return row?.position ?? null;
}

/**
 * Pages something should have happened to, oldest first: due for more than 10 s, or not DELIVERED and without an outcome past
 * timeoutDevice or, once passed on, past that step's time.
 */
export async function stuckMessages(
  premise: Database,
  filter: MessageFilter,
  cursor: string | null,
  limit: number,
): Promise<MessagePage> {
  const from = positionOf(cursor);
  const rows = await premise.run<Row>(
    (sql) => sql`
    select ${columns(sql)} from premise_core.messages
    where unique_id = any (array(
        select unique_id from premise_core.messages where due_at is not null and due_at < now() - interval '10 seconds'
        union
        select unique_id from premise_core.messages
        where open and status < 4 and outcome is null
          and case when step > 0 and step_deadline is not null then step_deadline else device_deadline end < now()))
      and (${from.us}::text is null or (accepted_at, unique_id) > (${timeOf(sql, from)}, ${from.id}::uuid))
      and ${matches(sql, filter)}
    order by accepted_at, unique_id limit ${limit + 1}`,
  );
  return pageOf(rows, limit);
}

export async function findMessage(premise: Database, uniqueId: UniqueId): Promise<ListedMessage | null> {
  const [row] = await premise.run<Row>(
    (sql) => sql`select ${columns(sql)} from premise_core.messages where unique_id = ${uniqueId}`,
  );
  return row === undefined ? null : listed(row);
}

/** Pages under this trackingId from whatever host system, newest first. */
export async function messagesUnder(
  premise: Database,
  trackingId: string,
  filter: MessageFilter,
  limit: number,
): Promise<ListedMessage[]> {
  const hosts = await premise.run<{ id: HostSystemId; key: string }>(
    (sql) =>
      sql`select host.id, install.message_key as key from premise_core.host_systems as host cross join premise_core.install`,
  );
  const ranges = hosts.map((host) => idRange(host.id, trackingId, host.key));
  const rows = await premise.run<Row>(
    (sql) => sql`
    select ${columns(sql)}
    from unnest(${ranges.map((range) => range.first)}::uuid[], ${ranges.map((range) => range.last)}::uuid[]) as range (first, last)
    cross join lateral (
      -- Ordered and limited, the planner takes the primary key; it would guess a range to be a ninth of the table.
      select * from premise_core.messages where unique_id between range.first and range.last
      order by unique_id limit ${UNDER_MAX}
    ) as message
    where tracking_id = ${trackingId} and ${matches(sql, filter)}
    order by accepted_at desc, unique_id desc limit ${limit}`,
  );
  return rows.map(listed);
}

function columns(sql: Sql) {
  return sql`unique_id as "uniqueId", tracking_id as "trackingId", origin, destination, parent_id as "parentId", priority, told as status, outcome,
    outcome_reason as reason, accepted_at as "acceptedAt", due_at as "dueAt", device_deadline as "deviceDeadline", expires_at as "expiresAt",
    (extract(epoch from accepted_at) * 1000000)::bigint || '.' || unique_id as position`;
}

function matches(sql: Sql, filter: MessageFilter) {
  const address = filter.destination === null ? null : canonicalDestination(filter.destination);
  const synthetic = filter.synthetic === null ? null : Number(filter.synthetic);
  const priority = filter.priority === null ? null : PRIORITIES.indexOf(filter.priority);
  return sql`(${filter.status}::text is null or told = ${filter.status}::text)
    and (${priority}::smallint is null or priority = ${priority}::smallint)
    and (${filter.outcome}::text is null or outcome = ${filter.outcome}::text)
    and (${iso(filter.since)}::timestamptz is null or accepted_at >= ${iso(filter.since)}::timestamptz)
    and (${iso(filter.until)}::timestamptz is null or accepted_at <= ${iso(filter.until)}::timestamptz)
    and (${Number(filter.sent)}::integer = 0 or parent_id is null)
    and (${filter.host}::text is null or host_system_id = (select id from premise_core.host_systems where name = ${filter.host}::text))
    and (${synthetic}::integer is null or synthetic = (${synthetic}::integer = 1))
    and (${address}::text is null or subscriber_id = any (array(
      select subscriber_id from premise_core.subscriber_addresses where address = ${address}::text)))`;
}

function iso(at: Date | null): string | null {
  return at === null ? null : at.toISOString();
}

function timeOf(sql: Sql, from: Position) {
  return sql`timestamptz 'epoch' + ${from.us}::text::bigint * interval '1 microsecond'`;
}

function positionOf(cursor: string | null): Position {
  if (cursor === null) return { us: null, id: null };
  const match = CURSOR.exec(cursor);
  if (match === null) throw new RangeError("the cursor is none this list gave out");
  return { us: match[1]!, id: match[2] ?? null };
}

function pageOf(rows: readonly Row[], limit: number): MessagePage {
  return { items: rows.slice(0, limit).map(listed), next: rows.length > limit ? rows[limit - 1]!.position : null };
}

function listed(row: Row): ListedMessage {
  const { position: _, ...message } = row;
  return { ...message, priority: PRIORITIES[row.priority]! };
}
