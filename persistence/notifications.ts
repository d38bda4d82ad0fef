/**
 * Wake-up requests on the hosted side: the notification is the due row and the truth, core.message_queue its place in
 * the queue by the same id. The two may be on two servers, so each step below is one statement on one of them, and any
 * of them may be done twice:
 *
 *   store ─► queue ─► claim ─► read ─► (send) ─► record ─► settle
 *     a notification whose queue row is missing is queued again when its queue_check_at passes;
 *     a queue row whose notification is done is claimed once more, found done, and settled.
 */

import type { BootId, SiteId, TenantId, UniqueId } from "../domain.ts";
import { type DeviceId, type GatewayType, type NotificationId, PRIORITIES, type Priority } from "../domain.ts";
import type { Database } from "./database.ts";

/** The NotificationRequest of seed 2.4, as stored. */
export type Notification = {
  readonly id: NotificationId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly deviceId: DeviceId;
  /** UniqueId of the first page it is for. */
  readonly callbackData: UniqueId;
  readonly callbackUri: string;
  readonly gatewayType: GatewayType;
  readonly notificationAddress: string;
  readonly urls: readonly string[];
  readonly messageCount: number;
  readonly priority: Priority;
  readonly coreVersion: string;
  /** ms since 1970. */
  readonly expiresAt: number;
};

/** Stores requests; one already stored is left as it is. */
export async function storeNotifications(premise: Database, notifications: readonly Notification[]): Promise<void> {
  const input = JSON.stringify(
    notifications.map((n) => ({
      ...n,
      priority: PRIORITIES.indexOf(n.priority),
      expiresAt: new Date(n.expiresAt).toISOString(),
    })),
  );
  await premise.run(
    (sql) => sql`
    insert into premise_core.notifications (
      id, tenant_id, site_id, device_id, callback_data, callback_uri, gateway_type, notification_address, urls, message_count,
      priority, core_version, expires_at)
    select id, "tenantId", "siteId", "deviceId", "callbackData", "callbackUri", "gatewayType", "notificationAddress", urls,
      "messageCount", priority, "coreVersion", "expiresAt"
    from json_to_recordset(${input}::text::json) as request(
      id uuid, "tenantId" text, "siteId" uuid, "deviceId" uuid, "callbackData" uuid, "callbackUri" text, "gatewayType" text,
      "notificationAddress" text, urls text[], "messageCount" integer, priority smallint, "coreVersion" text, "expiresAt" timestamptz)
    order by id
    on conflict (id) do nothing`,
  );
}

export type QueueEntry = {
  readonly id: NotificationId;
  readonly gatewayType: GatewayType;
  readonly priority: Priority;
};

export async function enqueue(core: Database, entries: readonly QueueEntry[]): Promise<void> {
  await core.run(
    (sql) => sql`
    insert into core.message_queue (id, gateway_type, priority, due_at)
    select id, gateway_type, priority, clock_timestamp()
    from unnest(${entries.map((e) => e.id)}::uuid[], ${entries.map((e) => e.gatewayType)}::text[],
      ${entries.map((e) => PRIORITIES.indexOf(e.priority))}::smallint[]) as entry (id, gateway_type, priority)
    order by id
    on conflict (id) do nothing`,
  );
}

/** Notifications whose outcome is overdue, to be queued again; each is looked at once in 10 s. */
export async function overdueNotifications(premise: Database, limit: number): Promise<QueueEntry[]> {
  const rows = await premise.run<{ id: NotificationId; gateway_type: GatewayType; priority: number }>(
    (sql) => sql`
    update premise_core.notifications set queue_check_at = clock_timestamp() + interval '10 seconds'
    where id in (
      select id from premise_core.notifications where queue_check_at <= now() order by queue_check_at limit ${limit} for update skip locked)
    returning id, gateway_type, priority`,
  );
  return rows.map((row) => ({ id: row.id, gatewayType: row.gateway_type, priority: PRIORITIES[row.priority]! }));
}

/** How long a claimed push is the claimer's alone: longer than a provider's deadline. */
const CLAIM = "15 seconds";

/** Claims the named pushes that are due and free. */
export async function claimPushes(
  core: Database,
  boot: BootId,
  ids: readonly NotificationId[],
): Promise<NotificationId[]> {
  const rows = await core.run<{ id: NotificationId }>(
    (sql) => sql`
    with free as (
      select id from core.message_queue
      where id = any (${[...ids]}::uuid[]) and due_at <= clock_timestamp() and (claimed_until is null or claimed_until < clock_timestamp())
      order by id
      for update skip locked
    )
    update core.message_queue as entry set claimed_until = clock_timestamp() + ${CLAIM}::text::interval, claimed_by = ${boot}
    from free where entry.id = free.id
    returning entry.id`,
  );
  return rows.map((row) => row.id);
}

/** Claims the most urgent pushes of one push network that have been due for `overdueMs`, at most `limit`. */
export async function claimDuePushes(
  core: Database,
  boot: BootId,
  gatewayType: GatewayType,
  overdueMs: number,
  limit: number,
): Promise<NotificationId[]> {
  const rows = await core.run<{ id: NotificationId }>(
    (sql) => sql`
    with free as (
      select id from core.message_queue
      where gateway_type = ${gatewayType} and due_at <= clock_timestamp() - ${overdueMs} * interval '1 ms'
        and (claimed_until is null or claimed_until < clock_timestamp())
      order by priority, due_at
      limit ${limit}
      for update skip locked
    )
    update core.message_queue as entry set claimed_until = clock_timestamp() + ${CLAIM}::text::interval, claimed_by = ${boot}
    from free where entry.id = free.id
    returning entry.id`,
  );
  return rows.map((row) => row.id);
}

export type OpenNotification = Notification & {
  /** Outcomes so far. */
  readonly attempts: number;
  /** ms since 1970. */
  readonly createdAt: number;
};

type NotificationRow = Omit<OpenNotification, "priority" | "expiresAt" | "createdAt"> & {
  priority: number;
  expiresAt: Date;
  createdAt: Date;
};

/** Those of the named notifications that have no final outcome yet. */
export async function openNotifications(
  premise: Database,
  ids: readonly NotificationId[],
): Promise<OpenNotification[]> {
  const rows = await premise.run<NotificationRow>(
    (sql) => sql`
    select id, tenant_id as "tenantId", site_id as "siteId", device_id as "deviceId", callback_data as "callbackData",
      callback_uri as "callbackUri", gateway_type as "gatewayType", notification_address as "notificationAddress", urls,
      message_count as "messageCount", priority, core_version as "coreVersion", expires_at as "expiresAt", attempts,
      created_at as "createdAt"
    from premise_core.notifications where id = any (${[...ids]}::uuid[]) and state = 'STORED'`,
  );
  return rows.map((row) => ({
    ...row,
    priority: PRIORITIES[row.priority]!,
    expiresAt: row.expiresAt.getTime(),
    createdAt: row.createdAt.getTime(),
  }));
}

export type RecordedOutcome = {
  readonly id: NotificationId;
  /** `attempts` as read before sending. */
  readonly attempts: number;
  /** STORED: it will be tried again after `retryMs`. */
  readonly state: "STORED" | "SENT" | "DEAD" | "REFUSED" | "EXPIRED";
  readonly code: string | null;
  readonly providerId: string | null;
  readonly retryMs: number;
};

/** Writes outcomes, each only if no other has been written since the notification was read. */
export async function recordOutcomes(premise: Database, outcomes: readonly RecordedOutcome[]): Promise<void> {
  await premise.run(
    (sql) => sql`
    update premise_core.notifications as notification set
      attempts = notification.attempts + 1, state = outcome.state, code = outcome.code,
      provider_id = coalesce(outcome.provider_id, notification.provider_id),
      done_at = case when outcome.state <> 'STORED' then clock_timestamp() end,
      queue_check_at = case when outcome.state = 'STORED' then clock_timestamp() + (outcome.retry_ms + 5000) * interval '1 ms' end
    from unnest(
      ${outcomes.map((o) => o.id)}::uuid[], ${outcomes.map((o) => o.attempts)}::integer[], ${outcomes.map((o) => o.state)}::text[],
      ${outcomes.map((o) => o.code)}::text[], ${outcomes.map((o) => o.providerId)}::text[], ${outcomes.map((o) => o.retryMs)}::double precision[]
    ) as outcome (id, attempts, state, code, provider_id, retry_ms)
    where notification.id = outcome.id and notification.attempts = outcome.attempts and notification.state = 'STORED'`,
  );
}

/** Takes settled pushes out of the queue (`retryMs` null) and makes the others due again. */
export async function settlePushes(
  core: Database,
  pushes: readonly { id: NotificationId; retryMs: number | null }[],
): Promise<void> {
  await core.run(
    (sql) => sql`
    with settled as (
      select * from unnest(${pushes.map((p) => p.id)}::uuid[], ${pushes.map((p) => p.retryMs)}::double precision[]) as push (id, retry_ms)
    ), again as (
      update core.message_queue as entry set
        attempt = entry.attempt + 1, due_at = clock_timestamp() + settled.retry_ms * interval '1 ms', claimed_until = null, claimed_by = null
      from settled where entry.id = settled.id and settled.retry_ms is not null
    )
    delete from core.message_queue as entry using settled where entry.id = settled.id and settled.retry_ms is null`,
  );
}
