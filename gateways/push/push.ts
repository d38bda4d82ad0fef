/**
 * The hosted side's way out to the push services: a worker for each network there are credentials for, fed by BullMQ
 * where there is Redis and by the rows themselves in any case.
 */
import type { BootId, Clock, GatewayType } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import type { QueueEntry } from "../../persistence/notifications.ts";
import { openPushQueue, type PushQueueSlice } from "../../persistence/push-queue.ts";
import type { PushProvider } from "./provider.ts";
import { CONCURRENCY, openPushWorker, type PushWorker } from "./worker.ts";

export type Push = {
  readonly gatewayTypes: readonly GatewayType[];
  /** New rows are in the queue. */
  queued(entries: readonly QueueEntry[]): void;
  /** true, or what is missing. */
  ready(): true | string;
  close(): Promise<void>;
};

export function openPush(
  slice: { readonly redis: PushQueueSlice | null; readonly boot: BootId },
  ports: {
    readonly premise: Database;
    readonly core: Database;
    readonly providers: ReadonlyMap<GatewayType, PushProvider>;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
): Push {
  const { redis, boot } = slice;
  const workers = new Map<GatewayType, PushWorker>();
  const gatewayTypes = [...ports.providers.keys()];
  const queue =
    redis === null
      ? null
      : openPushQueue(redis, {
          log: ports.log,
          gatewayTypes,
          concurrency: CONCURRENCY,
          perform: (gatewayType, id) => workers.get(gatewayType)!.perform(id),
        });
  for (const [gatewayType, provider] of ports.providers) {
    const worker = openPushWorker(
      { gatewayType, boot },
      {
        ...ports,
        provider,
        redisUp: queue === null ? null : queue.isUp,
        again: (id, { attempts, priority }, delayMs) =>
          queue?.add([{ id, gatewayType, priority, attempt: attempts + 1, delayMs }]),
        random: Math.random,
      },
    );
    workers.set(gatewayType, worker);
  }

  return {
    gatewayTypes,
    queued(entries) {
      const up = queue?.isUp() === true;
      // Also while Redis seems away: that it takes a hint again is how we learn that it is back.
      queue?.add(entries.map((entry) => ({ ...entry, attempt: 0, delayMs: 0 })));
      if (up) return;
      for (const gatewayType of new Set(entries.map((entry) => entry.gatewayType))) workers.get(gatewayType)?.wake();
    },
    ready: () => (gatewayTypes.length > 0 ? true : "no push service has credentials"),
    async close() {
      await queue?.close();
      await Promise.all([...workers.values()].map((worker) => worker.close()));
    },
  };
}
