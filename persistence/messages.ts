/**
 * What a driving node does to a message: finds those that are due, and changes each by compare-and-set on its version,
 * in one statement with its history and what the host is to be told.
 */
import type { Answer, Outcome, Priority, Shard, SubscriberId, UniqueId } from "../domain.ts";
import { PRIORITIES, rankOf, type StatusText, type Transport, transportOf } from "../domain.ts";
import { type AlertProfile, alertProfile, DEFAULT_PROFILES } from "./alert-profiles.ts";
import type { Database } from "./database.ts";
import { type Rule, ruleFor } from "./escalation-rules.ts";
import { type Lane, laneOf } from "./outbox.ts";
import { canBeTold, isFor, type WakeTarget, wakeTargets } from "./page-devices.ts";
import { settledByFamily, untoldAnswer } from "./page-family.ts";
import { isHeld, isReturned } from "./returned-pages.ts";

/** All that is needed to decide what is to happen to a message next. Times in ms since 1970, on the database's clock. */
export type DueMessage = {
  readonly uniqueId: UniqueId;
  readonly version: number;
  /** ENROUTE for one that was returned, whatever its host was told. */
  readonly status: Transport;
  readonly answer: Answer | null;
  readonly outcome: Outcome | null;
  readonly wakeups: number;
  readonly priority: Priority;
  readonly subscriberId: SubscriberId;
  readonly deviceDeadline: number | null;
  readonly userDeadline: number | null;
  readonly expiresAt: number;
  /** Somebody has written back. */
  readonly replied: boolean;
  readonly asksAnswer: boolean;
  /** Reminders claimed since it was DELIVERED, and how a person is reminded of it. */
  readonly reminders: number;
  readonly profile: AlertProfile;
  /** Steps taken of the rule, and by when the last must have led to an end. */
  readonly step: number;
  readonly stepDeadline: number | null;
  /** null: there is none, or it was itself passed on. */
  readonly rule: Rule | null;
  /** Another of its family, those it was passed on to or with, has settled it. */
  readonly settledByFamily: boolean;
  /** One of its family has answered, and not all of them have been told so. */
  readonly untoldAnswer: boolean;
  /** Of one that was recalled: those that have yet to hear so. */
  readonly targets: readonly WakeTarget[];
  /** A test page of our own. */
  readonly synthetic: boolean;
  /** The database's clock when the row was read. */
  readonly readAt: number;
  /** Its place among what is due; see `dueMessages`. */
  readonly place: DuePlace;
};
export type DuePlace = {
  readonly priority: number;
  /** To the microsecond, as the database writes it; and in ms since 1970. */
  readonly dueAt: string;
  readonly dueMs: number;
  readonly uniqueId: UniqueId;
};

type DueRow = {
  unique_id: UniqueId;
  version: number;
  status: number;
  answer: Answer | null;
  outcome: Outcome | null;
  wakeups: number;
  priority: number;
  subscriber_id: SubscriberId;
  device_deadline: Date | null;
  user_deadline: Date | null;
  expires_at: Date;
  replied: boolean;
  asks_answer: boolean;
  reminders: number;
  interval_seconds: number | null;
  repeats: number | null;
  step: number;
  step_deadline: Date | null;
  on_ignored: boolean | null;
  steps: Rule["steps"] | null;
  settled_by_family: boolean;
  untold_answer: boolean;
  targets: WakeTarget[] | null;
  synthetic: boolean;
  read_at: Date;
  due_at: string;
  due_ms: number;
};

/** The most urgent due messages of these shards, at most `limit`, of those behind `after`. */
export async function dueMessages(
  database: Database,
  shards: readonly Shard[],
  limit: number,
  after: DuePlace | null = null,
): Promise<DueMessage[]> {
  const rows = await database.run<DueRow>(
    (sql) => sql`
    select unique_id, version, case when ${isReturned(sql, "due")} then 3 else status end as status, answer, outcome, wakeups, due.priority, subscriber_id, device_deadline, user_deadline, expires_at,
      replied_at is not null as replied, timeout_user is not null as asks_answer, reminders, devices.interval_seconds, devices.repeats,
      step, step_deadline, rule.on_ignored, rule.steps, ${settledByFamily(sql, "due")} as settled_by_family,
      ${untoldAnswer(sql, "due")} as untold_answer,
      synthetic, clock_timestamp() as read_at, due_at::text as due_at,
      extract(epoch from due_at)::double precision * 1000 as due_ms, devices.targets
    from (
      select page.* from unnest(${[...PRIORITIES.keys()]}::smallint[]) as lane (priority)
      -- Each by itself, or the look would go through all that is due later before it came to the next.
      cross join lateral (
        select * from premise_core.messages
        where priority = lane.priority and due_at <= now() and shard = any (${[...shards]}::smallint[])
          and (${after?.priority ?? -1}::smallint < lane.priority or ${after?.priority ?? -1}::smallint = lane.priority
            and (due_at, unique_id) > (${after?.dueAt ?? null}::text::timestamptz, ${after?.uniqueId ?? null}::uuid))
        order by due_at, unique_id
        limit ${limit}
      ) as page
      order by page.priority, due_at, unique_id
      limit ${limit}
    ) as due
    left join lateral (
      select ${wakeTargets(sql)} filter (where ${canBeTold(sql)} and (due.outcome is distinct from 'RECALLED' or notification_address is not null and (
          select true from premise_core.device_notices
          where device_id = devices.id and unique_id = due.unique_id and kind = 'RECALLED' limit 1) is true)) as targets,
        min(profile.interval_seconds) as interval_seconds, max(profile.repeats) as repeats
      from premise_core.devices
      left join lateral (${alertProfile(sql, "devices", sql`due.priority`)}) as profile on due.status >= 4
      where devices.subscriber_id = due.subscriber_id and state = 'ACTIVE' and ${isFor(sql, "due", sql`devices.id`)}
    ) as devices on true
    left join lateral ${ruleFor(sql, "due")} as rule on due.parent_id is null
    order by due.priority, due_at, unique_id`,
  );
  return rows.map((row) => ({
    uniqueId: row.unique_id,
    version: row.version,
    status: transportOf(row.status),
    answer: row.answer,
    outcome: row.outcome,
    wakeups: row.wakeups,
    priority: PRIORITIES[row.priority]!,
    subscriberId: row.subscriber_id,
    deviceDeadline: row.device_deadline?.getTime() ?? null,
    userDeadline: row.user_deadline?.getTime() ?? null,
    expiresAt: row.expires_at.getTime(),
    replied: row.replied,
    asksAnswer: row.asks_answer,
    reminders: row.reminders,
    profile:
      row.interval_seconds === null || row.repeats === null
        ? DEFAULT_PROFILES[PRIORITIES[row.priority]!]
        : { intervalSeconds: row.interval_seconds, repeats: row.repeats },
    step: row.step,
    stepDeadline: row.step_deadline?.getTime() ?? null,
    rule: row.steps === null ? null : { onIgnored: row.on_ignored!, steps: row.steps },
    settledByFamily: row.settled_by_family,
    untoldAnswer: row.untold_answer,
    targets: row.targets ?? [],
    synthetic: row.synthetic,
    readAt: row.read_at.getTime(),
    place: { priority: row.priority, dueAt: row.due_at, dueMs: row.due_ms, uniqueId: row.unique_id },
  }));
}

/** A claimed step whose outcome is not written by then is taken up by another; ms. No claim is longer. */
export const CLAIM_MS = 5_000;

/** One change of one message, carried out only if its version is still the one given. */
export type Change = {
  readonly uniqueId: UniqueId;
  readonly version: number;
  /**
   * What the history calls it: WAKE a wake-up claimed, ENROUTE and PUSH a request durably with the hosted side (detail: its
   * notification id) for the first time and again, WAIT nothing could be requested (detail: why).
   */
  readonly event: "WAKE" | "ENROUTE" | "PUSH" | "WAIT" | "FAILED" | "EXPIRED";
  readonly detail: string | null;
  /** Raises transport to this rung; null leaves it. */
  readonly transport: Transport | null;
  readonly outcome: Outcome | null;
  /** What the host hears of it; null: nothing. */
  readonly tell: StatusText | null;
  /** Claims a wake-up: a reminder, where it was DELIVERED. */
  readonly wakes: boolean;
  /**
   * When something is due again: so many ms from now (never past the message's own next deadline), at that deadline, at expiry, or
   * never, which is at expiry as well while some device has yet to fetch it.
   */
  readonly due: number | "deadline" | "expiry" | "never";
};

/** `news`: the lane to which a row for the host was written, if one was. */
export type Written = {
  readonly version: number;
  readonly news: Lane | null;
  /** How long ago the page was accepted. */
  readonly ageSeconds: number;
};

type ChangedRow = { unique_id: UniqueId; version: number; lane: Lane; age: number };

/**
 * Answers in the order of `changes`; null where nothing was written, since the version had moved on, or one that the page was passed
 * on to has settled it meanwhile. One entry a message.
 */
export async function changeMessages(
  database: Database,
  node: string,
  changes: readonly Change[],
): Promise<(Written | null)[]> {
  const rows = await database.run<ChangedRow>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${changes.map((c) => c.uniqueId)}::uuid[], ${changes.map((c) => c.version)}::integer[], ${changes.map((c) => c.event)}::text[],
        ${changes.map((c) => c.detail)}::text[], ${changes.map((c) => (c.transport === null ? 0 : rankOf(c.transport)))}::smallint[],
        ${changes.map((c) => c.outcome)}::text[], ${changes.map((c) => c.tell)}::text[], ${changes.map((c) => Number(c.wakes))}::integer[],
        ${changes.map((c) => (typeof c.due === "number" ? c.due : null))}::double precision[],
        ${changes.map((c) => (typeof c.due === "number" ? "deadline" : c.due))}::text[]
      ) as change (unique_id, version, event, detail, rank, outcome, tell, wakes, due_ms, due)
    ), changed as (
      update premise_core.messages as message set
        version = message.version + 1,
        status = greatest(message.status, input.rank),
        outcome = coalesce(message.outcome, input.outcome),
        outcome_reason = case when message.outcome is null and input.outcome is not null then input.detail else message.outcome_reason end,
        told = coalesce(input.tell, message.told),
        wakeups = message.wakeups + input.wakes,
        reminders = message.reminders + case when ${isHeld(sql, "message")} then input.wakes else 0 end,
        open = message.open and input.event <> 'EXPIRED',
        due_at = case
          when input.due = 'never' then case when message.open and input.event <> 'EXPIRED' then message.expires_at end
          when input.due = 'expiry' then message.expires_at
          -- Of these the least that is not null.
          else least(
            clock_timestamp() + input.due_ms * interval '1 ms', message.expires_at,
            case
              when message.step > 0 and message.outcome is null then message.step_deadline
              when ${isHeld(sql, "message")} then message.user_deadline
              when message.outcome is null then message.device_deadline
            end)
        end
      from input
      where message.unique_id = any (array[input.unique_id]) and message.version = input.version
        and (input.event not in ('WAKE', 'FAILED') or message.outcome = 'RECALLED' or not ${settledByFamily(sql, "message")})
      returning message.unique_id, message.version, message.host_system_id, message.link_id, input.event, input.detail, input.tell,
        message.subscriber_id, message.device_id, message.status,
        extract(epoch from clock_timestamp() - message.accepted_at)::double precision as age
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, event, clock_timestamp(), ${node}, detail from changed
    ), lanes as (
      select changed.*, ${laneOf(sql, "changed")} as lane from changed
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at, reason)
      select lane, host_system_id, unique_id, tell, clock_timestamp(), case when tell = 'FAILED' then detail end
      from lanes where tell is not null
    ), noticed as (
      -- What shows a page knows when its time is over; a notice tells those whose clock does not.
      insert into premise_core.device_notices (device_id, unique_id, kind, expires_at)
      select device.id, changed.unique_id, 'EXPIRED', clock_timestamp() + interval '1 day'
      from changed cross join lateral (
        select id from premise_core.devices
        where subscriber_id = changed.subscriber_id and state = 'ACTIVE' and ${isFor(sql, "changed", sql`devices.id`)}
        offset 0
      ) as device
      where changed.event = 'EXPIRED' and changed.status >= 3
      on conflict (device_id, unique_id, kind) do nothing
    )
    select unique_id, version, lane, age from lanes`,
  );
  const written = new Map(rows.map((row) => [row.unique_id, row]));
  return changes.map((change) => {
    const row = written.get(change.uniqueId);
    if (row === undefined) return null;
    return { version: row.version, news: change.tell === null ? null : row.lane, ageSeconds: row.age };
  });
}
