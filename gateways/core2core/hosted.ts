/**
 * The hosted side in the same process: what an enterprise asks of it over Core2Core, called directly. A request counts as
 * made once its notification is stored (seed 3.1); queueing it (seed 3.2) and telling the workers follow, and the sweep
 * of unqueued notifications covers a death in between.
 */
import type { HostedPort } from "../../actors/device.ts";
import { superviseLoop } from "../../cluster/supervision.ts";
import type { Clock } from "../../domain.ts";
import type { Log } from "../../log.ts";
import { makeBatch, PACE_MS } from "../../persistence/batch.ts";
import { type Database, urgently } from "../../persistence/database.ts";
import { enqueue, type QueueEntry } from "../../persistence/message-queue.ts";
import { type Notification, overdueNotifications, storeNotifications } from "../../persistence/notifications.ts";

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
  const limits = { entriesMax: 250, waitingMax: 10_000, paceMs: PACE_MS };
  // By device: one statement stores at most one request for each, and so does the next, which finds it there.
  const storing = makeBatch<Urgent<Notification>, QueueEntry | null>({
    ...limits,
    key: ({ entry }) => entry.deviceId,
    urgent: ({ urgent }) => urgent,
    write: (entries, urgent) =>
      storeNotifications(
        urgently(ports.premise, urgent),
        entries.map(({ entry }) => entry),
      ),
  });
  const queueing = makeBatch<QueueEntry, true>({
    ...limits,
    key: (entry) => entry.deviceId,
    urgent: (entry) => entry.priority === "high",
    async write(entries, urgent) {
      await enqueue(urgently(ports.core, urgent), entries);
      ports.queued(entries);
      return entries.map(() => true as const);
    },
  });

  async function requeue(): Promise<void> {
    const overdue = await overdueNotifications(urgently(ports.premise), REQUEUE_ROWS);
    if (overdue.length === 0) return;
    await enqueue(urgently(ports.core), overdue, "overdue");
    ports.queued(overdue);
  }
  const loop = superviseLoop("requeue", () => REQUEUE_MS, requeue, ports);

  return {
    async request(notification, urgent) {
      const entry = await storing.submit({ entry: notification, urgent });
      // Stored is enough for the caller; a queue row that could not be written is found missing and written later.
      if (entry !== null) queueing.submit(entry).catch(() => {});
    },
    close: () => loop.close(),
  };
}
