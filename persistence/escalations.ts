/**
 * A page that nobody fetched or answered in time is passed on: ONE statement takes the next step of its site's rule, if the row's
 * version is still the one the driver read, so that no step is taken twice. Whom it reaches gets a message of its own, on the
 * shard of that recipient, under the same trackingId, and its host hears each one's status with that one's destination as its
 * source. It goes to nobody who has it already, so that no chain comes back to where it was.
 *
 *   step ─┬─► ESCALATED    others have it, or a gateway is to send it: the row waits for the step's deadline
 *         ├─► ESCALATED    more of the recipient's own devices have it: a wake-up is claimed with the step
 *         └─► SKIPPED      it reaches nobody: the next one is due at once
 */
import type { Priority, SubscriberId, UniqueId } from "../domain.ts";
import { PRIORITIES } from "../domain.ts";
import { FIRST_WAKE_CLAIM } from "./acceptance.ts";
import type { Database } from "./database.ts";
import { dispatchId } from "./dispatches.ts";
import type { RuleStep } from "./escalation-rules.ts";
import { CLAIM_MS } from "./messages.ts";
import { type Lane, laneOf } from "./outbox.ts";
import { canBeTold, type WakeTarget, wakeTargets } from "./page-devices.ts";
import { settledByFamily } from "./page-family.ts";

export type StepToTake = {
  readonly uniqueId: UniqueId;
  readonly version: number;
  /** Counted from 1. */
  readonly number: number;
  readonly step: RuleStep;
  readonly urgent: boolean;
};

/** A page made for somebody the page was passed on to; its first wake-up is claimed with it. */
export type Child = {
  readonly uniqueId: UniqueId;
  readonly subscriberId: SubscriberId;
  readonly priority: Priority;
  /** ms since 1970. */
  readonly expiresAt: number;
  readonly targets: readonly WakeTarget[];
  readonly synthetic: boolean;
  readonly lane: Lane;
};

export type PassedOn =
  | { readonly kind: "passed"; readonly version: number; readonly children: readonly Child[] }
  | { readonly kind: "widened"; readonly version: number; readonly targets: readonly WakeTarget[] }
  | { readonly kind: "skipped"; readonly version: number };

/** Of a step that leaves the waiting to the page's own timeouts, where it has none. */
const WAIT_SECONDS = 300;
/** People of one group. */
export const MEMBERS_MAX = 100;

type Row = {
  n: number | null;
  version: number | null;
  found: "passed" | "widened" | "skipped" | null;
  own_targets: WakeTarget[] | null;
  parent_id: UniqueId | null;
  child_id: UniqueId | null;
  subscriber_id: SubscriberId | null;
  priority: number | null;
  expires_at: Date | null;
  targets: WakeTarget[] | null;
  synthetic: boolean | null;
  lane: Lane | null;
};

/** Answers in the order of `steps`; null where nothing was done, as in `changeMessages`. One entry a message. */
export async function takeSteps(
  database: Database,
  node: string,
  steps: readonly StepToTake[],
): Promise<(PassedOn | null)[]> {
  const all = <T>(of: (step: StepToTake) => T) => steps.map(of);
  const rows = await database.run<Row>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${all((s) => s.uniqueId)}::uuid[], ${all((s) => s.version)}::integer[], ${all((s) => s.number)}::integer[], ${all((s) => s.step.kind)}::text[],
        ${all(({ step }) => (step.kind === "SUBSCRIBER" ? step.subscriberId : step.kind === "GROUP" ? step.groupId : step.kind === "GATEWAY" ? step.gatewayId : null))}::uuid[],
        ${all(({ step }) => (step.kind === "GATEWAY" ? step.address : null))}::text[], ${all((s) => s.step.waitSeconds)}::integer[]
      ) with ordinality as step (unique_id, version, number, kind, target, address, wait, n)
      order by unique_id
    ), held as (
      select input.n, input.number, input.kind, input.target, input.address, message.*,
        clock_timestamp() + coalesce(make_interval(secs => input.wait),
          nullif(coalesce(message.device_deadline - message.accepted_at, interval '0') + coalesce(message.timeout_user, interval '0'), interval '0'),
          make_interval(secs => ${WAIT_SECONDS}::integer)) as deadline
      from input
      cross join lateral (
        select * from premise_core.messages where unique_id = input.unique_id and version = input.version for update
      ) as message
      where not ${settledByFamily(sql, "message")}
    ), recipients as (
      select held.unique_id as parent_id, who.subscriber_id, address.destination, devices.targets
      from held
      cross join lateral (
        select held.target as subscriber_id where held.kind = 'SUBSCRIBER'
        union
        (select subscriber_id from premise_core.subscriber_group_members
         where group_id = held.target and held.kind = 'GROUP' order by subscriber_id limit ${MEMBERS_MAX})
      ) as who
      cross join lateral (
        select destination from premise_core.subscribers
        where id = who.subscriber_id and tenant_id = held.tenant_id and site_id = held.site_id limit 1
      ) as address
      cross join lateral (
        select ${wakeTargets(sql)} filter (where ${canBeTold(sql)}) as targets
        from premise_core.devices where devices.subscriber_id = who.subscriber_id and state = 'ACTIVE'
        having count(*) > 0
      ) as devices
      where who.subscriber_id <> held.subscriber_id
        and not exists (
          select from premise_core.messages as child where child.parent_id = held.unique_id and child.subscriber_id = who.subscriber_id)
    ), created as (
      insert into premise_core.messages (
        unique_id, version, status, told, shard, due_at, wakeups, open, tenant_id, site_id, subscriber_id, host_system_id,
        link_id, origin, tracking_id, system_id, destination, digest, conversation_id, host_site_id, from_id, from_name,
        message_type, priority, sent_at, body, response_choices, controls, accepted_at, device_deadline, timeout_user, expires_at,
        synthetic, parent_id)
      select (left(held.unique_id::text, 19) || 'a' || right(made.digest, 3) || '-' || left(made.digest, 12))::uuid, 2, 2, 'QUEUED',
        get_byte(uuid_send(recipients.subscriber_id), 0), now() + ${FIRST_WAKE_CLAIM}::text::interval, 1, true, tenant_id, site_id,
        recipients.subscriber_id, host_system_id, link_id, origin, tracking_id, system_id, recipients.destination, digest_of,
        conversation_id, host_site_id, from_id, from_name, message_type, priority, sent_at, body, response_choices, controls, now(),
        now() + (device_deadline - accepted_at), timeout_user, expires_at, synthetic, held.unique_id
      from recipients
      join (select held.*, held.digest as digest_of from held) as held on held.unique_id = recipients.parent_id
      cross join lateral (select md5(held.unique_id::text || recipients.subscriber_id::text) as digest) as made
      on conflict (unique_id) do nothing
      returning unique_id, subscriber_id, parent_id, host_system_id, link_id, priority, expires_at, synthetic
    ), sent as (
      insert into premise_core.dispatches (id, unique_id, gateway_id, priority, address, expires_at)
      select ${dispatchId(sql, sql`held.unique_id`, sql`held.number`)}, held.unique_id, gateway.id, held.priority,
        replace(held.address, '{destination}', held.destination), held.expires_at
      from held cross join lateral (
        select id from premise_core.output_gateways where id = held.target and site_id = held.site_id limit 1
      ) as gateway
      where held.kind = 'GATEWAY'
      on conflict (id) do nothing
      returning unique_id
    ), found as (
      select held.*, (select count(*) from created where parent_id = held.unique_id)::integer as people,
        exists (select from sent where sent.unique_id = held.unique_id) as leaves,
        held.kind = 'DEVICES' and held.device_id is not null and exists (
          select from premise_core.devices
          where devices.subscriber_id = held.subscriber_id and state = 'ACTIVE' and devices.id <> held.device_id
            and not devices.id = any (held.fetched_by)) as widens
      from held
    ), taken as (
      update premise_core.messages as message set
        version = message.version + 1,
        step = found.number,
        step_deadline = case when found.people > 0 or found.leaves or found.widens then found.deadline else clock_timestamp() end,
        device_id = case when found.widens then null else message.device_id end,
        open = message.open or found.widens,
        wakeups = message.wakeups + found.widens::integer,
        due_at = least(message.expires_at, case
          when found.widens then clock_timestamp() + ${CLAIM_MS} * interval '1 ms'
          when found.people > 0 or found.leaves then found.deadline
          else clock_timestamp() end)
      from found
      where message.unique_id = any (array[found.unique_id])
      returning message.unique_id, message.version, message.subscriber_id, found.n, found.number, found.kind, found.target, found.people, found.leaves, found.widens
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, case when people > 0 or leaves or widens then 'ESCALATED' else 'SKIPPED' end, clock_timestamp(), ${node},
        'step ' || number || ': ' || lower(kind) || coalesce(' ' || target, '') || case
          when people > 0 then ', to ' || people || case when people = 1 then ' person' else ' people' end
          when leaves then ', handed to it'
          when widens then ', to the recipient''s other devices'
          when kind = 'DEVICES' then ', there is no other device'
          when kind = 'GATEWAY' then ', there is no such gateway any more'
          else ', nobody there who has a device and not the page' end
      from taken
    ), begun as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select created.unique_id, step.seq, step.event, now(), ${node}, case when step.seq = 1 then 'passed on from ' || created.parent_id end
      from created cross join (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)
    ), lanes as (
      select created.*, ${laneOf(sql, "created")} as lane from created
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      select lane, host_system_id, unique_id, step.event, now()
      from lanes cross join (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)
    )
    select n::integer as n, version, case when widens then 'widened' when people > 0 or leaves then 'passed' else 'skipped' end as found,
      case when widens then (
        select ${wakeTargets(sql)} from premise_core.devices
        where devices.subscriber_id = taken.subscriber_id and state = 'ACTIVE' and ${canBeTold(sql)}) end as own_targets,
      null::uuid as parent_id, null::uuid as child_id, null::uuid as subscriber_id, null::smallint as priority,
      null::timestamptz as expires_at, null::json as targets, null::boolean as synthetic, null::uuid as lane
    from taken
    union all
    select null, null, null, null, lanes.parent_id, lanes.unique_id, lanes.subscriber_id, lanes.priority, lanes.expires_at, recipients.targets,
      lanes.synthetic, lanes.lane
    from lanes join recipients on recipients.parent_id = lanes.parent_id and recipients.subscriber_id = lanes.subscriber_id`,
  );
  return steps.map(({ uniqueId }, index) => {
    const own = rows.find((row) => row.n === index + 1);
    if (own === undefined) return null;
    const version = own.version!;
    if (own.found === "widened") return { kind: "widened", version, targets: own.own_targets ?? [] };
    if (own.found === "skipped") return { kind: "skipped", version };
    return { kind: "passed", version, children: rows.filter((row) => row.parent_id === uniqueId).map(childOf) };
  });
}

function childOf(row: Row): Child {
  return {
    uniqueId: row.child_id!,
    subscriberId: row.subscriber_id!,
    priority: PRIORITIES[row.priority!]!,
    expiresAt: row.expires_at!.getTime(),
    targets: row.targets ?? [],
    synthetic: row.synthetic!,
    lane: row.lane!,
  };
}
