/**
 * What a phone says of a page: DELIVERED, READ, ACKNOWLEDGED, IGNORED. Any node may record it; the row's own status is
 * what each receipt is compared with, under the row's lock, so the first wins and a repeat changes nothing. Whoever comes
 * after an answer is told which one stands; the recipient's other devices have a notice of the first, so that they stop ringing.
 *
 * A receipt has two times. `at` is ours, when it was written: deadlines, order and alarms go by it alone. `said_at` is its
 * author's, when the phone says it happened, which may be long before where the phone had no network: it stands in the history
 * beside ours, and is what the host is told (status/dateTime). Phones' clocks are wrong at times, so what is said is held
 * between the page's acceptance and now, both by the database's clock.
 *
 * A phone that listens confirms its page a moment after it was sent, often before that is written down: then both go in this one
 * statement, what `recordSends` would have written first.
 */
import { type Answer, type DeviceId, PRIORITIES, type Priority, type Receipt, type UniqueId } from "../domain.ts";
import { alertProfile } from "./alert-profiles.ts";
import type { Database } from "./database.ts";
import { noticesOfAnswers } from "./device-notices.ts";
import { ruleFor } from "./escalation-rules.ts";
import { type Lane, laneOf } from "./outbox.ts";
import { isFor } from "./page-devices.ts";
import { isUnanswered, owesFamily } from "./page-family.ts";
import { isHeld } from "./returned-pages.ts";
import { type StreamFrame, sentBy } from "./stream-sends.ts";

export type ReceiptEntry = {
  readonly uniqueId: UniqueId;
  readonly deviceId: DeviceId;
  readonly receipt: Receipt;
  /** When it happened by the phone's own clock, in ms since 1970, where it says so. */
  readonly saidAt?: number;
  /** That it went out to this device, where that is not written yet. */
  readonly sent?: StreamFrame;
};

/** The one that stands. */
export type GivenAnswer = { readonly status: Answer; readonly byThisDevice: boolean };

export type ReceiptResult =
  /** The page is not this device's, or is not there. */
  | { readonly kind: "unknown"; readonly answer: null }
  /** Nothing new in it for the host. */
  | { readonly kind: "repeated"; readonly answer: GivenAnswer | null }
  | {
      readonly kind: "recorded";
      readonly answer: GivenAnswer | null;
      /** Its host is told before this that it went out. */
      readonly enroute: boolean;
      /** Other devices of the recipient, which have a notice of this answer waiting. */
      readonly noticed: readonly DeviceId[];
      readonly lane: Lane;
      readonly priority: Priority;
      /** A test page of our own. */
      readonly synthetic: boolean;
      /** How long ago the page was accepted. */
      readonly ageSeconds: number;
    };

/** Of a page as it was; or, where `told` is not null, of a page that was changed, and whether its host is to hear of it. */
type Row = {
  unique_id: UniqueId;
  told: boolean | null;
  enroute: boolean | null;
  lane: Lane | null;
  priority: number | null;
  synthetic: boolean | null;
  age: number | null;
  answer: Answer | null;
  noticed: DeviceId[] | null;
};

/** For Postgres. Years before 1970 and after 9999 are all the same here, and not all of them are Postgres'. */
export function saidSeconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.min(Math.max(ms, 0), Date.UTC(9999, 0)) / 1_000;
}

/** Answers in the order of `entries`. One entry a message: two receipts of one message go in two calls. */
export async function recordReceipts(
  database: Database,
  node: string,
  entries: readonly ReceiptEntry[],
): Promise<ReceiptResult[]> {
  const rows = await database.run<Row>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${entries.map((e) => e.uniqueId)}::uuid[], ${entries.map((e) => e.deviceId)}::uuid[], ${entries.map((e) => e.receipt)}::text[],
        ${entries.map((e) => saidSeconds(e.saidAt))}::double precision[],
        ${entries.map((e) => (e.sent === undefined ? null : sentBy(e.deviceId, e.sent)))}::text[]
      ) as receipt (unique_id, device_id, receipt, said_at, sent)
      order by unique_id
    ), before as (
      select message.unique_id, message.status, message.host_system_id, message.priority, message.synthetic, message.accepted_at,
        message.answer, input.device_id as by_device, input.receipt,
        case when input.said_at is not null
          then greatest(least(to_timestamp(input.said_at), clock_timestamp()), message.accepted_at) end as said_at,
        not input.device_id = any (message.fetched_by) as fetches,
        case when not input.device_id = any (message.fetched_by) then input.sent end as sent,
        message.status < 3 and message.outcome is null as enroute,
        -- Declined, and its site's rule passes on what is declined.
        case when message.parent_id is null and message.outcome is null and coalesce(message.answer, input.receipt) = 'IGNORED'
          then exists (select from ${ruleFor(sql, "message")} as rule where rule.on_ignored)
          else false end as passes_on,
        -- When it is first brought back to mind, after DELIVERED; null: it is not.
        case when not ${isHeld(sql, "message")} then (
          select case when profile.repeats > 0 then profile.interval_seconds end
          from (${alertProfile(sql, "device", sql`message.priority`)}) as profile) end as reminded,
        case
          when input.receipt in ('ACKNOWLEDGED', 'IGNORED') then message.answer is null
          when input.receipt = 'READ' then message.status < 5
          else message.status < 4
        end as tells,
        -- The first, of receipts and replies: one notice is enough.
        input.receipt in ('ACKNOWLEDGED', 'IGNORED') and ${isUnanswered(sql, "message")} as answers,
        -- One who has answered for all of its family, who have yet to hear so.
        ${owesFamily(sql, "message")}
          and (message.replied_at is not null or coalesce(message.answer, input.receipt) = 'ACKNOWLEDGED') as owes,
        message.open and exists (
          select from premise_core.devices as other
          where other.subscriber_id = message.subscriber_id and other.state = 'ACTIVE' and other.id <> input.device_id
            and not other.id = any (message.fetched_by) and ${isFor(sql, "message", sql`other.id`)}) as stays_open
      from input
      cross join lateral (
        select unique_id, status, host_system_id, priority, synthetic, accepted_at, fetched_by, answer, replied_at, answered_by, step, expires_at, outcome, open,
          subscriber_id, device_id, site_id, parent_id, message_type
        from premise_core.messages where unique_id = input.unique_id
        for update
      ) as message
      cross join lateral (
        select group_id, site_id from premise_core.devices
        where id = input.device_id and subscriber_id = message.subscriber_id and state = 'ACTIVE' limit 1
      ) as device
      where ${isFor(sql, "message", sql`input.device_id`)}
    ), changed as (
      update premise_core.messages as message set
        version = message.version + case when before.sent is null then 1 else 2 end,
        status = greatest(message.status, case before.receipt when 'DELIVERED' then 4 else 5 end),
        answer = case when before.tells and before.receipt in ('ACKNOWLEDGED', 'IGNORED') then before.receipt else message.answer end,
        fetched_by = case when before.fetches then message.fetched_by || before.by_device else message.fetched_by end,
        told = case when before.tells then before.receipt else message.told end,
        open = before.stays_open,
        user_deadline = case
          when not ${isHeld(sql, "message")} and message.outcome is distinct from 'RECALLED' then clock_timestamp() + message.timeout_user
          else message.user_deadline
        end,
        due_at = case
          -- Nothing is due for it but that its phones hear so.
          when message.outcome = 'RECALLED' then message.due_at
          when before.owes then clock_timestamp()
          when message.timeout_user is null or message.replied_at is not null or message.answered_by is not null
            or (coalesce(message.answer, before.receipt) in ('ACKNOWLEDGED', 'IGNORED') and not before.passes_on)
            then case when before.stays_open then message.expires_at end
          when before.receipt = 'IGNORED' and message.answer is null then clock_timestamp()
          when message.step > 0 and message.outcome is null then message.due_at
          when not ${isHeld(sql, "message")}
            then clock_timestamp() + least(message.timeout_user, make_interval(secs => before.reminded))
          else message.due_at
        end
      from before
      where message.unique_id = any (array[before.unique_id]) and (before.tells or before.fetches)
      returning message.unique_id, message.version, message.host_system_id, message.link_id, before.receipt, before.tells, before.answers,
        before.sent, before.enroute, before.by_device, before.said_at, message.subscriber_id, message.device_id, message.expires_at
    ), lanes as (
      select changed.*, ${laneOf(sql, "changed")} as lane from changed
    ), steps as (
      select unique_id, version - 1 as seq, case when enroute then 'ENROUTE' else 'STREAM' end as event, enroute as tells,
        null::timestamptz as said_at, sent as detail, lane, host_system_id
      from lanes where sent is not null
      union all
      select unique_id, version, case when tells then receipt else 'FETCHED' end, tells, said_at, by_device::text, lane, host_system_id from lanes
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, said_at, node, detail)
      select unique_id, seq, event, clock_timestamp(), said_at, ${node}, detail from steps
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at, said_at)
      select lane, host_system_id, unique_id, event, clock_timestamp(), said_at from steps where tells
    ), answered as (
      select unique_id, subscriber_id, device_id, expires_at, by_device, receipt as answer, false as by_other from changed where answers
    ), ${noticesOfAnswers(sql)}
    select unique_id, null as told, null as enroute, null as lane, priority, synthetic,
      extract(epoch from clock_timestamp() - accepted_at)::double precision as age, answer, null::uuid[] as noticed
    from before
    union all
    select unique_id, tells, enroute and sent is not null, lane, null, null, null, null,
      array(select device_id from noticed where noticed.unique_id = lanes.unique_id) from lanes`,
  );
  const [before, told] = [new Map<UniqueId, Row>(), new Map<UniqueId, Row>()];
  for (const row of rows) {
    if (row.told === null) before.set(row.unique_id, row);
    else if (row.told) told.set(row.unique_id, row);
  }
  const answered = rows.flatMap((row) => (row.answer === null ? [] : [row.unique_id]));
  const answerers = await answerersOf(database, answered);
  return entries.map(({ uniqueId, deviceId, receipt }) => {
    const row = before.get(uniqueId);
    const { lane, enroute, noticed } = told.get(uniqueId) ?? { lane: null, enroute: null, noticed: null };
    if (row === undefined) return { kind: "unknown", answer: null };
    const stands = row.answer !== null && { status: row.answer, byThisDevice: answerers.get(uniqueId) === deviceId };
    if (lane === null) return { kind: "repeated", answer: stands || null };
    const gives = isAnswer(receipt) && { status: receipt, byThisDevice: true };
    return {
      kind: "recorded",
      answer: stands || gives || null,
      enroute: enroute ?? false,
      noticed: noticed ?? [],
      lane,
      priority: PRIORITIES[row.priority!]!,
      synthetic: row.synthetic!,
      ageSeconds: row.age!,
    };
  });
}

function isAnswer(receipt: Receipt): receipt is Answer {
  return receipt === "ACKNOWLEDGED" || receipt === "IGNORED";
}

/**
 * Which device gave each of these pages its answer. Asked when the page's row has been let go: a statement that waited for it does
 * not see what whoever held it wrote beside it.
 */
async function answerersOf(
  database: Database,
  pages: readonly UniqueId[],
): Promise<ReadonlyMap<UniqueId, string | undefined>> {
  if (pages.length === 0) return new Map();
  const rows = await database.run<{ unique_id: UniqueId; detail: string }>(
    (sql) => sql`
    select page.unique_id, answer.detail
    from unnest(${[...pages]}::uuid[]) as page (unique_id)
    cross join lateral (
      select detail from premise_core.message_history
      where unique_id = page.unique_id and event in ('ACKNOWLEDGED', 'IGNORED')
      order by seq desc limit 1
    ) as answer`,
  );
  return new Map(rows.map(({ unique_id, detail }) => [unique_id, detail.split(" ")[0]]));
}
