/**
 * Wake-up requests on the hosted side: the notification is what is to be sent and the truth, core.message_queue the
 * device's place in the queue. The two may be on two servers, so each step below is one statement on one of them, and any
 * of them may be done twice:
 *
 *   store ─► queue ─► claim ─► read ─► (send) ─► record ─► settle
 *     a notification whose queue row is missing is queued again when its queue_check_at passes;
 *     a queue row of a device with nothing left to send is claimed once more, found so, and settled.
 *
 *   STORED ─┬─► SENT | DEAD | REFUSED | EXPIRED    what the push service, or the clock, made of it
 *      ▲    ├─► SETTLED                            nothing waited for the device any more when it was to be sent
 *      │    └─► SUPERSEDED                         a later request for the device was stored: it speaks for these pages
 *      └── to be tried again
 */
import {
  type DeviceId,
  type GatewayType,
  type NotificationId,
  PRIORITIES,
  type Priority,
  type SiteId,
  type TenantId,
  type UniqueId,
} from "../domain.ts";
import type { Database } from "./database.ts";
import type { QueueEntry } from "./message-queue.ts";
import { isFor } from "./page-devices.ts";

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
  /** Pages it is for; 0: there is none, and the device is to hear that some were recalled. */
  readonly messageCount: number;
  readonly priority: Priority;
  readonly coreVersion: string;
  /** ms since 1970. */
  readonly expiresAt: number;
};

export type NotificationState = "STORED" | "SENT" | "DEAD" | "REFUSED" | "EXPIRED" | "SETTLED" | "SUPERSEDED";

type EntryRow = { id: NotificationId; device_id: DeviceId; gateway_type: GatewayType; priority: number };

function entryOf(row: EntryRow): QueueEntry {
  const { id, device_id: deviceId, gateway_type: gatewayType } = row;
  return { id, deviceId, gatewayType, priority: PRIORITIES[row.priority]! };
}

/**
 * Stores requests and ends those of the same devices that still wait: all say the same, so the new one speaks for their
 * pages too, with the highest priority and the latest expiry among them. One that is being given its outcome just now is
 * left alone (nothing here waits for another's lock), and so is everything when the request was stored before.
 *
 * @returns what is to be queued, in the order of `notifications`; null for one that was stored before
 */
export async function storeNotifications(
  premise: Database,
  notifications: readonly Notification[],
): Promise<(QueueEntry | null)[]> {
  const input = JSON.stringify(
    notifications.map((n) => ({
      ...n,
      priority: PRIORITIES.indexOf(n.priority),
      expiresAt: new Date(n.expiresAt).toISOString(),
    })),
  );
  const rows = await premise.run<EntryRow>(
    (sql) => sql`
    with request as (
      select * from json_to_recordset(${input}::text::json) as request(
        id uuid, "tenantId" text, "siteId" uuid, "deviceId" uuid, "callbackData" uuid, "callbackUri" text, "gatewayType" text,
        "notificationAddress" text, urls text[], "messageCount" integer, priority smallint, "coreVersion" text, "expiresAt" timestamptz)
    ), older as (
      select waiting.* from request cross join lateral (
        select id, device_id, priority, expires_at, message_count from premise_core.notifications
        where state = 'STORED' and device_id = request."deviceId"
        for update skip locked
      ) as waiting
    ), stored as (
      insert into premise_core.notifications (
        id, tenant_id, site_id, device_id, callback_data, callback_uri, gateway_type, notification_address, urls, message_count,
        priority, core_version, expires_at)
      select id, "tenantId", "siteId", "deviceId", "callbackData", "callbackUri", "gatewayType", "notificationAddress", urls,
        greatest("messageCount", covered.message_count), least(request.priority, covered.priority), "coreVersion",
        greatest("expiresAt", covered.expires_at)
      from request
      left join (
        select device_id, max(message_count) as message_count, min(priority) as priority, max(expires_at) as expires_at
        from older group by device_id
      ) as covered on covered.device_id = "deviceId"
      order by id
      on conflict (id) do nothing
      returning id, device_id, gateway_type, priority
    ), superseded as (
      update premise_core.notifications as notification set
        state = 'SUPERSEDED', superseded_by = stored.id, done_at = clock_timestamp(), queue_check_at = null
      from older join stored on stored.device_id = older.device_id
      where notification.id = any (array[older.id])
    )
    select id, device_id, gateway_type, priority from stored`,
  );
  const stored = new Map(rows.map((row) => [row.id, entryOf(row)]));
  return notifications.map(({ id }) => stored.get(id) ?? null);
}

/** Notifications whose outcome is overdue, to be queued again; each is looked at once in 10 s. */
export async function overdueNotifications(premise: Database, limit: number): Promise<QueueEntry[]> {
  const rows = await premise.run<EntryRow>(
    (sql) => sql`
    update premise_core.notifications set queue_check_at = clock_timestamp() + interval '10 seconds'
    where id = any (array(
      select id from premise_core.notifications where queue_check_at <= now() order by queue_check_at limit ${limit} for update skip locked))
    returning id, device_id, gateway_type, priority`,
  );
  return rows.map(entryOf);
}

export type OpenNotification = Notification & {
  /** Outcomes so far. */
  readonly attempts: number;
  /** ms since 1970. */
  readonly createdAt: number;
  /** ms until it expires, by the database's clock. */
  readonly leftMs: number;
  /** Whether the device, or a person's answer on it, is still waited for; true where this database does not know the device. */
  readonly wanted: boolean;
};

type NotificationRow = Omit<OpenNotification, "priority" | "expiresAt" | "createdAt"> & {
  priority: number;
  expiresAt: Date;
  createdAt: Date;
};

/**
 * What is to be sent to each of these devices: the newest notification without a final outcome. Wanted is one while a page
 * waits to be fetched by the device, or, if it was stored after a page was delivered (a reminder), while that page waits
 * for an answer; or, if it was stored after a page was recalled, while the device has yet to hear so. With nothing but that to
 * tell its messageCount is 0; with more it never is: it may take the place of one that has to ring, at the push service.
 */
export async function openNotifications(premise: Database, devices: readonly DeviceId[]): Promise<OpenNotification[]> {
  const rows = await premise.run<NotificationRow>(
    (sql) => sql`
    with newest as (
      select distinct on (device_id) * from premise_core.notifications
      where device_id = any (${[...devices]}::uuid[]) and state = 'STORED'
      order by device_id, created_at desc, id
    )
    select newest.id, newest.tenant_id as "tenantId", newest.site_id as "siteId", newest.device_id as "deviceId",
      callback_data as "callbackData", callback_uri as "callbackUri", newest.gateway_type as "gatewayType",
      newest.notification_address as "notificationAddress", urls,
      case when device.id is null then message_count when waits.page then greatest(message_count, 1) else 0 end as "messageCount", priority,
      core_version as "coreVersion", expires_at as "expiresAt", attempts, created_at as "createdAt",
      (extract(epoch from expires_at - clock_timestamp()) * 1000)::double precision as "leftMs",
      device.id is null or device.state = 'ACTIVE' and (waits.page or waits.notice) as wanted
    from newest
    left join lateral (select * from premise_core.devices where id = newest.device_id limit 1) as device on true
    cross join lateral (
      select exists (
        select from (
          select expires_at, device_id from premise_core.messages
          where subscriber_id = device.subscriber_id and open and not device.id = any (fetched_by)
          union all
          select expires_at, device_id from premise_core.messages
          where subscriber_id = device.subscriber_id and status >= 4 and answer is null and due_at is not null
            and outcome is distinct from 'RECALLED' and user_deadline - timeout_user <= newest.created_at
        ) as page
        where page.expires_at > clock_timestamp() and ${isFor(sql, "page", sql`device.id`)}
      ) as page, (
        select true from premise_core.device_notices
        where device_id = device.id and kind = 'RECALLED' and at <= newest.created_at and expires_at > clock_timestamp() limit 1
      ) is true as notice
    ) as waits`,
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
  readonly state: Exclude<NotificationState, "SUPERSEDED">;
  readonly code: string | null;
  readonly providerId: string | null;
  readonly retryMs: number;
};

/** Writes outcomes, each only if no other has been written since the notification was read. */
export async function recordOutcomes(premise: Database, outcomes: readonly RecordedOutcome[]): Promise<void> {
  await premise.run(
    (sql) => sql`
    with held as (
      select outcome.*, notification.attempts as attempts_before, notification.state as state_before
      from (
        select * from unnest(
          ${outcomes.map((o) => o.id)}::uuid[], ${outcomes.map((o) => o.attempts)}::integer[], ${outcomes.map((o) => o.state)}::text[],
          ${outcomes.map((o) => o.code)}::text[], ${outcomes.map((o) => o.providerId)}::text[], ${outcomes.map((o) => o.retryMs)}::double precision[]
        ) as outcome (id, attempts, state, code, provider_id, retry_ms)
        order by id
      ) as outcome
      cross join lateral (
        -- By id alone: the planner takes STORED for rare, and would read all that waits.
        select attempts, state from premise_core.notifications where id = outcome.id for update
      ) as notification
    )
    update premise_core.notifications as notification set
      attempts = held.attempts + case when held.state = 'SETTLED' then 0 else 1 end,
      state = held.state, code = held.code, provider_id = coalesce(held.provider_id, notification.provider_id),
      done_at = case when held.state <> 'STORED' then clock_timestamp() end,
      queue_check_at = case when held.state = 'STORED' then clock_timestamp() + (held.retry_ms + 5000) * interval '1 ms' end
    from held where notification.id = any (array[held.id]) and held.attempts = attempts_before and state_before = 'STORED'`,
  );
}
