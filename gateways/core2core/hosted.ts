/**
 * The hosted side in the same process: what an enterprise asks of it over Core2Core, called directly. A request counts as
 * made once its notification is stored (seed 3.1); queueing it (seed 3.2) and telling the workers follow, and the sweep
 * of unqueued notifications covers a death in between.
 */
import type { HostedPort } from "../../actors/device.ts";
import { superviseLoop } from "../../cluster/supervision.ts";
import type { Clock } from "../../domain.ts";
import type { Log } from "../../log.ts";
import { makeBatch } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import {
  enqueue,
  type Notification,
  overdueNotifications,
  type QueueEntry,
  storeNotifications,
} from "../../persistence/notifications.ts";

export type Hosted = HostedPort & { close(): Promise<void> };

/** Between two looks for notifications that have no outcome by their time. */
const REQUEUE_MS = 1_000;
const REQUEUE_ROWS = 500;

type Urgent<T> = { readonly entry: T; readonly urgent: boolean };

export function openHosted(ports: {
  readonly premise: Database;
  readonly core: Database;
  /** New work is in the queue. */
  readonly queued: (entries: readonly QueueEntry[]) => void;
  readonly log: Log;
  readonly clock: Clock;
}): Hosted {
  const limits = { entriesMax: 250, waitingMax: 10_000 };
  const storing = makeBatch<Urgent<Notification>, true>({
    ...limits,
    key: ({ entry }) => entry.id,
    urgent: ({ urgent }) => urgent,
    async write(entries) {
      await storeNotifications(
        ports.premise,
        entries.map(({ entry }) => entry),
      );
      return entries.map(() => true as const);
    },
  });
  const queueing = makeBatch<Urgent<QueueEntry>, true>({
    ...limits,
    key: ({ entry }) => entry.id,
    urgent: ({ urgent }) => urgent,
    async write(entries) {
      const rows = entries.map(({ entry }) => entry);
      await enqueue(ports.core, rows);
      ports.queued(rows);
      return entries.map(() => true as const);
    },
  });

  async function requeue(): Promise<void> {
    const overdue = await overdueNotifications(ports.premise, REQUEUE_ROWS);
    if (overdue.length === 0) return;
    await enqueue(ports.core, overdue);
    ports.queued(overdue);
  }
  const loop = superviseLoop("requeue", () => REQUEUE_MS, requeue, ports);

  return {
    async request(notification, urgent) {
      await storing.submit({ entry: notification, urgent });
      const { id, gatewayType, priority } = notification;
      // Stored is enough for the caller; a queue row that could not be written is found missing and written later.
      queueing.submit({ entry: { id, gatewayType, priority }, urgent }).catch(() => {});
    },
    close: () => loop.close(),
  };
}
