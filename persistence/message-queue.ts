/**
 * core.message_queue: which devices are owed a push, since when, and who is at it. One row a device, whatever number of
 * requests it stands for; it keeps its place while requests supersede each other, so that a busy device is not starved.
 * What is to be sent is premise_core.notifications, perhaps on another server.
 *
 *             enqueue
 *   (none) ──────────► due ── claim ──► claimed ── settle: done ──► (none)
 *                       ▲                 │ │
 *                       └─────────────────┘ └── settle: again ──► due later
 *             new request, claim run out
 *
 * `claim` of a row rises with every claim and every new request. A settle names the claim it ends, so that one that comes
 * late ends neither a later claim nor what was asked for meanwhile.
 */
import { type DeviceId, type GatewayType, type NotificationId, PRIORITIES, type Priority } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";

/** One request's way into the queue. */
export type QueueEntry = {
  readonly id: NotificationId;
  readonly deviceId: DeviceId;
  readonly gatewayType: GatewayType;
  readonly priority: Priority;
};

/** One push service's queue for high priority, or for all else. */
export type Lane = { readonly gatewayType: GatewayType; readonly urgent: boolean };

export type ClaimedPush = {
  readonly deviceId: DeviceId;
  readonly claim: number;
  /** For how long it had been due when it was claimed. */
  readonly lateMs: number;
};

/** How long a claimed push is the claimer's alone: longer than a provider's deadline. */
const CLAIM = "15 seconds";

/**
 * Makes the devices due. `new`: something was asked for just now, which whoever is at the device may have missed, so its
 * claim is void. `overdue`: nothing new; a row that is there stays as it is, except that it waits no longer.
 */
export async function enqueue(
  core: Database,
  entries: readonly QueueEntry[],
  which: "new" | "overdue" = "new",
): Promise<void> {
  const fresh = Number(which === "new");
  await core.run(
    (sql) => sql`
    insert into core.message_queue as entry (device_id, gateway_type, priority, due_at)
    select distinct on (device_id) device_id, gateway_type, priority, clock_timestamp()
    from unnest(${entries.map((e) => e.deviceId)}::uuid[], ${entries.map((e) => e.gatewayType)}::text[],
      ${entries.map((e) => PRIORITIES.indexOf(e.priority))}::smallint[]) as request (device_id, gateway_type, priority)
    order by device_id, priority
    on conflict (device_id) do update set
      gateway_type = case when ${fresh}::integer = 1 then excluded.gateway_type else entry.gateway_type end,
      priority = least(entry.priority, excluded.priority),
      due_at = least(entry.due_at, excluded.due_at), claim = entry.claim + ${fresh}::integer,
      claimed_until = case when ${fresh}::integer = 0 then entry.claimed_until end
    where ${fresh}::integer = 1 or entry.due_at > excluded.due_at`,
  );
}

async function claim(core: Database, free: (sql: Sql) => Fragment): Promise<ClaimedPush[]> {
  const rows = await core.run<ClaimedPush>(
    (sql) => sql`
    with free as (
      select device_id from core.message_queue as entry
      where (claimed_until is null or claimed_until < clock_timestamp()) and ${free(sql)}
      for update skip locked
    )
    update core.message_queue as entry set claim = entry.claim + 1, claimed_until = clock_timestamp() + ${CLAIM}::text::interval
    from free where entry.device_id = any (array[free.device_id])
    returning entry.device_id as "deviceId", entry.claim,
      (extract(epoch from clock_timestamp() - entry.due_at) * 1000)::double precision as "lateMs"`,
  );
  return rows.map((row) => ({ ...row }));
}

/** Claims those of the named devices that are due and free. */
export function claimPushes(core: Database, ids: readonly DeviceId[]): Promise<ClaimedPush[]> {
  return claim(
    core,
    (sql) => sql`device_id = any (${[...ids]}::uuid[]) and due_at <= clock_timestamp() order by device_id`,
  );
}

/** Claims the most urgent of one lane that have been due for `overdueMs`, at most `limit`. */
export function claimDuePushes(core: Database, lane: Lane, overdueMs: number, limit: number): Promise<ClaimedPush[]> {
  const [from, to] = lane.urgent ? [0, 0] : [1, PRIORITIES.length - 1];
  return claim(
    core,
    (sql) => sql`gateway_type = ${lane.gatewayType} and priority between ${from}::smallint and ${to}::smallint
      and due_at <= clock_timestamp() - ${overdueMs} * interval '1 ms'
    order by priority, due_at
    limit ${limit}`,
  );
}

/**
 * Claims what has been due for `overdueMs` at push services other than those named, where nobody is at work: where one
 * node has credentials and is slow, some device of that service is claimed. At most `limit`.
 */
export function claimUnserved(
  core: Database,
  served: readonly GatewayType[],
  overdueMs: number,
  limit: number,
): Promise<ClaimedPush[]> {
  return claim(
    core,
    (
      sql,
    ) => sql`gateway_type <> all (${[...served]}::text[]) and due_at <= clock_timestamp() - ${overdueMs} * interval '1 ms'
      and not exists (
        select from core.message_queue as other
        where other.gateway_type = entry.gateway_type and other.claimed_until > clock_timestamp())
    order by due_at
    limit ${limit}`,
  );
}

export type SettledPush = {
  readonly deviceId: DeviceId;
  readonly claim: number;
  /** null: nothing more is owed. */
  readonly retryMs: number | null;
};

/** Takes settled pushes out of the queue and makes the others due again; each only while its claim is the latest. */
export async function settlePushes(core: Database, pushes: readonly SettledPush[]): Promise<void> {
  await core.run(
    (sql) => sql`
    with settled as (
      select push.device_id, push.retry_ms
      from (
        select * from unnest(${pushes.map((p) => p.deviceId)}::uuid[], ${pushes.map((p) => p.claim)}::integer[],
          ${pushes.map((p) => p.retryMs)}::double precision[]) as push (device_id, claim, retry_ms)
        order by device_id
      ) as push
      cross join lateral (
        select from core.message_queue where device_id = push.device_id and claim = push.claim for update
      ) as entry
    ), again as (
      update core.message_queue as entry set
        due_at = clock_timestamp() + settled.retry_ms * interval '1 ms', claimed_until = null
      from settled where entry.device_id = any (array[settled.device_id]) and settled.retry_ms is not null
    )
    delete from core.message_queue as entry using settled
    where entry.device_id = any (array[settled.device_id]) and settled.retry_ms is null`,
  );
}
