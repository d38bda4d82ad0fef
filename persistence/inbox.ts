/** What waits for devices: the pages each has yet to fetch. The only statement that hands out a page's text. */
import { type Answer, type BootId, type Outcome, PRIORITIES, type Priority, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { type NoticesWaiting, noticesWaiting } from "./device-notices.ts";
import type { Device } from "./devices.ts";
import { isFor } from "./page-devices.ts";

export type WaitingPage = {
  readonly uniqueId: UniqueId;
  readonly sentAt: Date;
  readonly acceptedAt: Date;
  readonly expiresAt: Date;
  readonly text: string;
  readonly status: number;
  readonly answer: Answer | null;
  /** An outcome the host was told of before the page was fetched: the page comes late. */
  readonly outcome: Outcome | null;
  readonly hostSiteId: string;
  readonly conversationId: string;
  readonly priority: Priority;
  readonly messageType: string;
  readonly fromId: string;
  readonly fromName: string;
  readonly responseChoices: readonly string[];
};

/** Whose pages, and how many at most. */
export type InboxCall = {
  readonly device: Pick<Device, "id" | "subscriberId">;
  readonly limit: number;
  /** Those it has, and has not confirmed yet. */
  readonly except?: readonly UniqueId[];
};
export type Inbox = {
  /** Most urgent first, then in the order in which they came in, of those no one can tell by when their host sent them. */
  readonly pages: readonly WaitingPage[];
  /** There are others, or these would have been too long together. */
  readonly more: boolean;
  /** The device's stream, by its row; null where it has none, or is not registered any more. */
  readonly stream: { readonly boot: BootId; readonly epoch: string } | null;
  /** What it has yet to confirm (device-notices.ts). */
  readonly notices: NoticesWaiting;
};

/** Bytes of text for one caller, but for a single page's, and for all callers of one statement. */
const TEXT_MAX = 1_000_000;
const TEXT_OF_ALL_MAX = 8_000_000;

/** Of a caller, and of a page that waits for it, if one does. */
type Row = Omit<WaitingPage, "priority" | "text" | "uniqueId"> & {
  n: number;
  boot: BootId | null;
  epoch: string | null;
  notices: number;
  newest: string | null;
  uniqueId: UniqueId | null;
  priority: number;
  text: string | null;
};

/** Answers in the order of `calls`. */
export async function inboxes(premise: Database, calls: readonly InboxCall[]): Promise<Inbox[]> {
  const most = Math.floor(Math.min(TEXT_MAX, TEXT_OF_ALL_MAX / calls.length));
  const rows = await premise.run<Row>(
    (sql) => sql`
    with caller as materialized (
      select device_id, subscriber_id, pages_max, except_ids::uuid[] as except_ids, n
      from unnest(${calls.map(({ device }) => device.id)}::uuid[], ${calls.map(({ device }) => device.subscriberId)}::uuid[],
        ${calls.map(({ limit }) => limit)}::integer[], ${calls.map(({ except = [] }) => `{${except.join()}}`)}::text[])
        with ordinality as caller (device_id, subscriber_id, pages_max, except_ids, n)
    )
    select caller.n::integer as n, listens.boot, listens.epoch, coalesce(listens.notices, 0) as notices, listens.newest,
      unique_id as "uniqueId", sent_at as "sentAt", accepted_at as "acceptedAt", expires_at as "expiresAt",
      case when place = 1 or upto <= ${most}::integer then body end as text, status, answer, outcome, host_site_id as "hostSiteId",
      conversation_id as "conversationId", priority, message_type as "messageType", from_id as "fromId", from_name as "fromName",
      response_choices as "responseChoices"
    from caller
    left join lateral (
      select stream_boot as boot, stream_epoch as epoch, state, waiting.count as notices, waiting.newest
      from premise_core.devices cross join lateral ${noticesWaiting(sql, sql`caller.device_id`)} as waiting
      where id = caller.device_id limit 1
    ) as listens on listens.state = 'ACTIVE'
    left join lateral (
      select waiting.*, row_number() over way as place, sum(octet_length(body)) over way as upto
      from (
        select * from premise_core.messages
        where subscriber_id = caller.subscriber_id and open and expires_at > now() and not caller.device_id = any (fetched_by)
          and not unique_id = any (caller.except_ids)
          and ${isFor(sql, "messages", sql`caller.device_id`)}
        order by priority, accepted_at, sent_at, unique_id
        limit caller.pages_max + 1
      ) as waiting
      window way as (order by priority, accepted_at, sent_at, unique_id)
    ) as page on true
    order by n, place`,
  );
  const found = calls.map(() => ({
    pages: [] as WaitingPage[],
    more: false,
    stream: null as Inbox["stream"],
    notices: { count: 0, newest: null } as NoticesWaiting,
  }));
  for (const { n, boot, epoch, notices, newest, uniqueId, text, ...row } of rows) {
    const inbox = found[n - 1]!;
    inbox.stream = boot === null || epoch === null ? null : { boot, epoch };
    inbox.notices = { count: notices, newest };
    if (uniqueId === null) continue;
    if (text === null || inbox.pages.length === calls[n - 1]!.limit) inbox.more = true;
    else inbox.pages.push({ ...row, uniqueId, text, priority: PRIORITIES[row.priority]! });
  }
  return found;
}
