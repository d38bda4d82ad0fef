/** All that the database knows of one page and its family but what became of its wake-ups, in one statement; never its text. */
import type { Answer, DeviceId, Outcome, StatusText, UniqueId } from "../domain.ts";
import { alertProfile } from "./alert-profiles.ts";
import type { Database, Fragment, Sql } from "./database.ts";
import { ruleFor } from "./escalation-rules.ts";
import type { News } from "./outbox.ts";
import { isFor } from "./page-devices.ts";
import { isReturned } from "./returned-pages.ts";
import type { RuleFacts } from "./trace-next.ts";

export type TraceEvent = {
  /** The same whenever it is read. */
  readonly id: string;
  readonly at: Date;
  readonly event: string;
  readonly node: string;
  readonly detail: string | null;
};

export type HistoryLine = Omit<TraceEvent, "id"> & { readonly seq: number };

/** A page that this one was passed on from or to, or that went beside it. */
export type Kin = {
  readonly uniqueId: UniqueId;
  readonly relation: "parent" | "child" | "sibling";
  readonly destination: string;
  /** The last word its host was told. */
  readonly status: StatusText;
  readonly outcome: Outcome | null;
  readonly answered: boolean;
  readonly delivered: boolean;
  readonly acceptedAt: Date;
  /** By which step of the parent's rule it was made; null: that is not known any more, or it is the parent. */
  readonly step: number | null;
};

export type Notice = {
  readonly deviceId: DeviceId;
  readonly kind: "RECALLED" | "EXPIRED" | "ANSWERED";
  readonly at: Date;
};

export type TracedPage = {
  readonly uniqueId: UniqueId;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly status: number;
  readonly answer: Answer | null;
  readonly repliedAt: Date | null;
  readonly outcome: Outcome | null;
  readonly outcomeReason: string | null;
  readonly told: StatusText;
  readonly acceptedAt: Date;
  readonly dueAt: Date | null;
  readonly deviceDeadline: Date | null;
  readonly asksAnswer: boolean;
  readonly userDeadline: Date | null;
  readonly step: number;
  readonly stepDeadline: Date | null;
  readonly reminders: number;
  /** How often its devices' group has it reminded; null: there is no device. */
  readonly repeats: number | null;
  readonly expiresAt: Date;
  readonly parentId: UniqueId | null;
  /** The step of the parent's rule that made it. */
  readonly madeBy: number | null;
  readonly now: Date;
  readonly active: number;
  readonly reachable: number;
  readonly streaming: number;
  readonly lastSeenAt: Date | null;
  readonly connected: boolean;
  readonly waiting: readonly { readonly status: News["status"]; readonly at: string; readonly taken: boolean }[];
  readonly rule: RuleFacts | null;
  readonly notices: readonly Notice[];
  /** In order of acceptance, parent first; at most FAMILY_MAX. */
  readonly family: readonly Kin[];
  /** The newest EVENTS_MAX, in order. */
  readonly history: readonly HistoryLine[];
};

export const EVENTS_MAX = 500;
const FAMILY_MAX = 200;
const NOTICES_MAX = 100;
/** Lines of a parent's history that tell of steps; a rule has fewer. */
const STEPS_MAX = 50;

type Timed<T, Field extends keyof T> = Omit<T, Field> & { readonly [Name in Field]: string };
type Row = Omit<TracedPage, "history" | "family" | "notices" | "waiting"> & {
  readonly waiting: TracedPage["waiting"] | null;
  readonly notices: readonly Timed<Notice, "at">[] | null;
  readonly family: readonly Timed<Kin, "acceptedAt">[] | null;
  readonly history: readonly Timed<HistoryLine, "at">[] | null;
};

export async function readPage(premise: Database, uniqueId: UniqueId): Promise<TracedPage | null> {
  const rows = await premise.run<Row>(
    (sql) => sql`
    with message as materialized (
      select * from premise_core.messages where unique_id = ${uniqueId}
    ), steps as materialized (
      -- Those of its rule, or of the rule it was passed on by. A page that was passed on was accepted in the statement of its step.
      select at, substring(detail from '^step (\\d+)')::integer as number from premise_core.message_history
      where unique_id = (select coalesce(parent_id, unique_id) from message) and event = 'ESCALATED'
      order by seq limit ${STEPS_MAX}
    ), kin as (
      select unique_id, 'parent' as relation, destination, told, outcome, answer, replied_at, status, accepted_at
      from premise_core.messages where unique_id = (select parent_id from message)
      union all
      (select unique_id, case when parent_id = ${uniqueId} then 'child' else 'sibling' end, destination, told, outcome, answer, replied_at,
        status, accepted_at
      from premise_core.messages
      where parent_id = (select coalesce(parent_id, unique_id) from message) and unique_id <> ${uniqueId}
      order by accepted_at, destination, unique_id limit ${FAMILY_MAX})
    )
    select message.unique_id as "uniqueId", message.tracking_id as "trackingId", message.origin, message.destination,
      case when ${isReturned(sql, "message")} then 3 else message.status end as status,
      message.answer, message.replied_at as "repliedAt", message.outcome, message.outcome_reason as "outcomeReason", message.told,
      message.accepted_at as "acceptedAt", message.due_at as "dueAt", message.device_deadline as "deviceDeadline",
      message.timeout_user is not null as "asksAnswer", message.user_deadline as "userDeadline", message.step,
      message.step_deadline as "stepDeadline", message.reminders, message.expires_at as "expiresAt", message.parent_id as "parentId",
      case when message.parent_id is not null then ${madeBy(sql, "message")} end as "madeBy",
      clock_timestamp() as now, devices.active, devices.reachable, devices.streaming, devices.repeats, devices.last_seen_at as "lastSeenAt",
      exists (
        select from premise_core.host_links where host_system_id = message.host_system_id and closed_at is null) as connected,
      (select json_agg(json_build_object('status', row.status, 'at', row.at, 'taken', row.lane <> message.host_system_id) order by row.id)
       from premise_core.host_outbox as row
       where row.unique_id = message.unique_id and row.lane in (
         select message.host_system_id
         union all select id from premise_core.host_links where host_system_id = message.host_system_id)) as waiting,
      (select json_build_object('onIgnored', rule.on_ignored, 'steps', (
          select coalesce(json_agg(json_build_object('kind', step.value->>'kind', 'name', case step.value->>'kind'
              when 'SUBSCRIBER' then (select destination from premise_core.subscribers where id = (step.value->>'subscriberId')::uuid)
              when 'GROUP' then (select name from premise_core.subscriber_groups where id = (step.value->>'groupId')::uuid)
              when 'GATEWAY' then (select name from premise_core.output_gateways where id = (step.value->>'gatewayId')::uuid)
            end) order by step.n), '[]')
          from jsonb_array_elements(rule.steps) with ordinality as step (value, n)))
       from ${ruleFor(sql, "message")} as rule where message.parent_id is null) as rule,
      (select json_agg(json_build_object('deviceId', notice.device_id, 'kind', notice.kind, 'at', notice.at) order by notice.at, notice.device_id)
       from (
         select found.* from premise_core.devices as device
         cross join lateral (
           select device_id, kind, at from premise_core.device_notices where device_id = device.id and unique_id = message.unique_id
         ) as found
         where device.subscriber_id = message.subscriber_id and device.state = 'ACTIVE' limit ${NOTICES_MAX}
       ) as notice) as notices,
      (select json_agg(json_build_object('uniqueId', kin.unique_id, 'relation', kin.relation, 'destination', kin.destination,
          'status', kin.told, 'outcome', kin.outcome, 'answered', kin.answer is not distinct from 'ACKNOWLEDGED' or kin.replied_at is not null,
          'delivered', kin.status >= 4, 'acceptedAt', kin.accepted_at,
          'step', case when kin.relation <> 'parent' then ${madeBy(sql, "kin")} end)
          order by kin.accepted_at, kin.destination, kin.unique_id)
       from kin) as family,
      (select json_agg(json_build_object('seq', event.seq, 'at', event.at, 'event', event.event, 'node', event.node,
          'detail', case when event.said_at is null then event.detail
            else event.detail || ', at ' || to_char(event.said_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' by its own clock' end) order by event.seq)
       from (
         select * from premise_core.message_history as history where history.unique_id = message.unique_id order by seq desc limit ${EVENTS_MAX}
       ) as event) as history
    from message
    cross join lateral (
      select count(*)::integer as active, (count(*) filter (where notification_address is not null))::integer as reachable,
        (count(*) filter (where stream_boot is not null))::integer as streaming, max(last_seen_at) as last_seen_at,
        max(profile.repeats) as repeats
      from premise_core.devices
      cross join lateral (${alertProfile(sql, "devices", sql`message.priority`)}) as profile
      where subscriber_id = message.subscriber_id and state = 'ACTIVE' and ${isFor(sql, "message", sql`devices.id`)}
    ) as devices`,
  );
  const row = rows[0];
  if (row === undefined) return null;
  return {
    ...row,
    waiting: row.waiting ?? [],
    notices: (row.notices ?? []).map((notice) => ({ ...notice, at: new Date(notice.at) })),
    family: (row.family ?? []).map((kin) => ({ ...kin, acceptedAt: new Date(kin.acceptedAt) })),
    history: (row.history ?? []).map((line) => ({ ...line, at: new Date(line.at) })),
  };
}

/** A page is accepted at the beginning of the statement that passes on to it, and the step's line dated within it. */
function madeBy(sql: Sql, page: string): Fragment {
  return sql`(select number from steps where at >= ${sql(page)}.accepted_at order by at limit 1)`;
}
