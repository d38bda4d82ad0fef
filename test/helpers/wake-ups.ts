/** Wake-up requests straight in the tables of a ward: made, looked at, and made due. */
import { randomUUID } from "node:crypto";
import type { DeviceId, NotificationId, UniqueId } from "../../domain.ts";
import { enqueue, type QueueEntry } from "../../persistence/message-queue.ts";
import {
  type Notification,
  type NotificationState,
  type RecordedOutcome,
  storeNotifications,
} from "../../persistence/notifications.ts";
import { openWard, type Ward } from "./ward.ts";

export type StoredRow = {
  state: NotificationState;
  attempts: number;
  code: string | null;
  supersededBy: NotificationId | null;
  done: boolean;
  /** ms until it is looked at again. */
  checkMs: number | null;
};
export type QueueRow = { dueMs: number; claimed: boolean; claim: number; priority: number; gatewayType: string };

export type WakeUps = Ward & {
  /** A request fit to be stored, for a device of its own that the ward does not know. */
  notification(more?: Partial<Notification>): Notification;
  /** Stored and in the queue, `count` of them. */
  owed(more?: Partial<Notification>, count?: number): Promise<Notification[]>;
  row(id: NotificationId): Promise<StoredRow>;
  queueRow(device: DeviceId): Promise<QueueRow | undefined>;
  /** The claims and waits of everything that is owed are over. */
  timePasses(): Promise<void>;
  forgets(): Promise<void>;
};

export async function openWakeUps(): Promise<WakeUps> {
  const ward = await openWard();
  const { database, sql } = ward;
  const notification = (more: Partial<Notification> = {}): Notification => ({
    id: randomUUID() as NotificationId,
    tenantId: "default" as Notification["tenantId"],
    siteId: ward.siteId,
    deviceId: randomUUID() as DeviceId,
    callbackData: randomUUID() as UniqueId,
    callbackUri: "http://127.0.0.1:1",
    gatewayType: "GCM",
    notificationAddress: "address",
    urls: ["http://127.0.0.1:1", "http://127.0.0.1:2"],
    messageCount: 1,
    priority: "high",
    coreVersion: "1",
    expiresAt: Date.now() + 3_600_000,
    ...more,
  });
  return {
    ...ward,
    notification,
    async owed(more = {}, count = 1) {
      const notifications = Array.from({ length: count }, () => notification(more));
      await storeNotifications(database, notifications);
      await enqueue(database, notifications);
      return notifications;
    },
    async row(id) {
      const [one] = await sql<StoredRow[]>`
        select state, attempts, code, superseded_by as "supersededBy", done_at is not null as done,
          extract(epoch from queue_check_at - clock_timestamp())::float8 * 1000 as "checkMs"
        from premise_core.notifications where id = ${id}`;
      return { ...one! };
    },
    async queueRow(device) {
      const [one] = await sql<QueueRow[]>`
        select extract(epoch from due_at - clock_timestamp())::float8 * 1000 as "dueMs",
          coalesce(claimed_until > clock_timestamp(), false) as claimed, claim, priority, gateway_type as "gatewayType"
        from core.message_queue where device_id = ${device}`;
      return one && { ...one };
    },
    async timePasses() {
      await sql`update premise_core.notifications set queue_check_at = clock_timestamp() - interval '1 ms' where queue_check_at is not null`;
      await sql`
        update core.message_queue set claimed_until = clock_timestamp() - interval '1 ms', due_at = least(due_at, clock_timestamp() - interval '1 ms')`;
    },
    async forgets() {
      await sql`truncate premise_core.notifications, core.message_queue`;
    },
  };
}

export const outcome = (id: NotificationId, more: Partial<RecordedOutcome> = {}): RecordedOutcome => ({
  ...{ id, attempts: 0, state: "SENT", code: null, providerId: null, retryMs: 0 },
  ...more,
});

export const entryOf = ({ id, deviceId, gatewayType, priority }: Notification): QueueEntry => ({
  id,
  deviceId,
  gatewayType,
  priority,
});
