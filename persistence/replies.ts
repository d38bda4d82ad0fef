/**
 * What people reply to pages: a text, or one of the page's response choices. Any node may record it, and for as long as the
 * page's row is there: of one that has FAILED, expired or was recalled no answer is lost either.
 *
 * A reply says as well that the page was read, and that somebody has answered: it raises the page to READ, and ends the wait for
 * an answer (user_deadline), and with it the reminders. Its host is told READ, where it was not before, and then the reply; the
 * person's other devices hear that it was answered, unless they had a notice of an answer before.
 */
import { createHash } from "node:crypto";
import { type DeviceId, PRIORITIES, type Priority, type ReplyId, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { noticesOfAnswers } from "./device-notices.ts";
import { type Lane, laneOf } from "./outbox.ts";
import { isFor } from "./page-devices.ts";
import { isUnanswered, owesFamily } from "./page-family.ts";
import { saidSeconds } from "./receipts.ts";

/** As a phone says it. */
export type ReplyEntry = {
  readonly uniqueId: UniqueId;
  readonly deviceId: DeviceId;
  /** The phone's own id of it: the same again is the same reply. */
  readonly clientId: string;
  /** One of the two. */
  readonly text?: string | undefined;
  readonly choice?: string | undefined;
  /** When it was written by the phone's own clock, in ms since 1970, where it says so. */
  readonly saidAt?: number | undefined;
};

/**
 * Why a reply is not taken, and never will be. `form`: neither a text nor a choice, or both; `text`: blank, too long, or with
 * characters that XML, and so its host, cannot be told; `choice`: none of the page's; `many`: the device has said so much already.
 */
export type ReplyRefusal = "form" | "text" | "choice" | "many";

export type ReplyResult =
  /** The page is not this device's, or is not there. */
  | { readonly kind: "unknown" }
  | { readonly kind: "repeated" }
  | { readonly kind: "refused"; readonly reason: ReplyRefusal }
  /** A node of the version before is about, and would tell the host what is none of its words: later. */
  | { readonly kind: "unavailable" }
  | {
      readonly kind: "recorded";
      readonly lane: Lane;
      /** Other devices of the recipient, which have a notice of it waiting. */
      readonly noticed: readonly DeviceId[];
      readonly priority: Priority;
      /** A test page of our own. */
      readonly synthetic: boolean;
      /** How long ago the page was accepted. */
      readonly ageSeconds: number;
      /** The page was not READ before. */
      readonly read: boolean;
    };

/** Of one device to one page. Some that come at once, by as many nodes, may be over it. */
export const REPLIES_MAX = 100;
export const REPLY_CHARACTERS = 4_000;

const NOT_XML = /[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

/** What can be said of a reply without its page; null: nothing is wrong with it. */
export function faultOf({ text, choice }: Pick<ReplyEntry, "text" | "choice">): ReplyRefusal | null {
  if ((text === undefined) === (choice === undefined)) return "form";
  if (text === undefined) return null;
  // In code units first: to count the characters of any length would take as long.
  const long = text.length > 2 * REPLY_CHARACTERS || [...text].length > REPLY_CHARACTERS;
  return long || text.trim() === "" || NOT_XML.test(text) ? "text" : null;
}

export function replyIdOf({ uniqueId, deviceId, clientId }: ReplyEntry): ReplyId {
  const hex = createHash("sha256").update(`${uniqueId} ${deviceId} ${clientId}`).digest("hex");
  // Version 8 and its variant, as in unique-id.ts.
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}` as ReplyId;
}

/** Of a page as it was; or, where `lane` is not null, of one whose reply was written. */
type Row = {
  unique_id: UniqueId;
  lane: Lane | null;
  known: boolean;
  refusal: "unavailable" | "choice" | "many" | null;
  priority: number;
  synthetic: boolean;
  age: number;
  read: boolean;
  noticed: DeviceId[] | null;
};

/** Answers in the order of `entries`, in which `faultOf` has found nothing. One entry a message. */
export async function recordReplies(
  database: Database,
  node: string,
  entries: readonly ReplyEntry[],
): Promise<ReplyResult[]> {
  const rows = await database.run<Row>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${entries.map((e) => e.uniqueId)}::uuid[], ${entries.map((e) => e.deviceId)}::uuid[], ${entries.map(replyIdOf)}::uuid[],
        ${entries.map((e) => e.clientId)}::text[], ${entries.map((e) => e.text ?? e.choice!)}::text[],
        ${entries.map((e) => Number(e.choice !== undefined))}::integer[], ${entries.map((e) => saidSeconds(e.saidAt))}::double precision[]
      ) as reply (unique_id, device_id, id, client_id, body, choice, said_at)
      order by unique_id
    ), before as (
      select message.unique_id, message.status, message.priority, message.synthetic, message.accepted_at, message.subscriber_id,
        input.id, input.device_id as by_device, input.client_id, input.body, input.choice = 1 as choice,
        case when input.said_at is not null
          then greatest(least(to_timestamp(input.said_at), clock_timestamp()), message.accepted_at) end as said_at,
        not input.device_id = any (message.fetched_by) as fetches,
        message.status < 5 as reads,
        ${isUnanswered(sql, "message")} as answers,
        ${owesFamily(sql, "message")} as owes,
        message.open and exists (
          select from premise_core.devices as other
          where other.subscriber_id = message.subscriber_id and other.state = 'ACTIVE' and other.id <> input.device_id
            and not other.id = any (message.fetched_by) and ${isFor(sql, "message", sql`other.id`)}) as stays_open,
        exists (select from premise_core.replies where id = input.id) as known,
        case
          when exists (select from premise_core.nodes where state <> 'DEAD' and knows is null) then 'unavailable'
          when input.choice = 1 and not input.body = any (message.response_choices) then 'choice'
          when (select count(*) from premise_core.replies as said
            where said.unique_id = input.unique_id and said.device_id = input.device_id) >= ${REPLIES_MAX}::integer then 'many'
        end as refusal
      from input
      cross join lateral (
        select unique_id, status, priority, synthetic, accepted_at, fetched_by, open, subscriber_id, device_id, response_choices,
          answer, replied_at, answered_by, step, parent_id, expires_at
        from premise_core.messages where unique_id = input.unique_id
        for update
      ) as message
      cross join lateral (
        select from premise_core.devices
        where id = input.device_id and subscriber_id = message.subscriber_id and state = 'ACTIVE' limit 1
      ) as device
      where ${isFor(sql, "message", sql`input.device_id`)}
    ), said as (
      -- One that another node wrote while this waited for the row is known only here.
      insert into premise_core.replies (id, unique_id, device_id, subscriber_id, client_id, body, choice, at, said_at)
      select id, unique_id, by_device, subscriber_id, client_id, body, choice, clock_timestamp(), said_at
      from before where refusal is null
      on conflict (id) do nothing
      returning id
    ), fresh as (
      select before.* from before join said using (id)
    ), changed as (
      update premise_core.messages as message set
        version = message.version + case when fresh.reads then 2 else 1 end,
        status = greatest(message.status, 5),
        told = case when fresh.reads then 'READ' else message.told end,
        fetched_by = case when fresh.fetches then message.fetched_by || fresh.by_device else message.fetched_by end,
        open = fresh.stays_open,
        replied_at = coalesce(message.replied_at, clock_timestamp()),
        user_deadline = null,
        -- Of one that was recalled nothing is due but that its phones hear so.
        due_at = case when message.outcome = 'RECALLED' then message.due_at
          when fresh.owes then clock_timestamp() when fresh.stays_open then message.expires_at end
      from fresh
      where message.unique_id = any (array[fresh.unique_id])
      returning message.unique_id, message.version, message.host_system_id, message.link_id, fresh.id, fresh.by_device, fresh.said_at, fresh.reads,
        fresh.answers, message.subscriber_id, message.device_id, message.expires_at
    ), lanes as (
      select changed.*, ${laneOf(sql, "changed")} as lane from changed
    ), steps as (
      select unique_id, version - 1 as seq, 'READ' as event, null::uuid as reply_id, by_device::text as detail, lane, host_system_id, said_at
      from lanes where reads
      union all
      select unique_id, version, 'REPLY', id, by_device || ' ' || id, lane, host_system_id, said_at from lanes
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, said_at, node, detail)
      select unique_id, seq, event, clock_timestamp(), said_at, ${node}, detail from steps
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at, said_at, reply_id)
      select lane, host_system_id, unique_id, event, clock_timestamp(), said_at, reply_id from steps
      order by unique_id, seq
    ), answered as (
      select unique_id, subscriber_id, device_id, expires_at, by_device, null as answer, false as by_other from changed where answers
    ), ${noticesOfAnswers(sql)}
    select before.unique_id, lanes.lane, before.known, before.refusal, before.priority, before.synthetic,
      extract(epoch from clock_timestamp() - before.accepted_at)::double precision as age, before.reads as read,
      array(select device_id from noticed where noticed.unique_id = before.unique_id) as noticed
    from before left join lanes using (unique_id)`,
  );
  const byPage = new Map(rows.map((row) => [row.unique_id, row]));
  return entries.map(({ uniqueId }) => {
    const row = byPage.get(uniqueId);
    if (row === undefined) return { kind: "unknown" };
    const { lane, known, refusal, read, synthetic, noticed } = row;
    if (lane !== null)
      return {
        ...{ kind: "recorded", lane, priority: PRIORITIES[row.priority]!, synthetic, ageSeconds: row.age, read },
        noticed: noticed ?? [],
      };
    if (known || refusal === null) return { kind: "repeated" };
    return refusal === "unavailable" ? { kind: "unavailable" } : { kind: "refused", reason: refusal };
  });
}
