/**
 * The hosted side's way out to the push services: two workers, one for high priority and one for the rest,
 * for each network there are credentials for, fed by BullMQ where there is Redis and by the rows themselves in any case.
 */
import type { Loop } from "../../cluster/supervision.ts";
import type { Clock, GatewayType } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { GaugeReading, Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import type { Lane, QueueEntry } from "../../persistence/message-queue.ts";
import { type Bringer, openPushQueue, type PushQueueSlice } from "../../persistence/push-queue.ts";
import { type PushProvider, SLOTS } from "./provider.ts";
import { openUnserved } from "./unserved.ts";
import { type OwnPushes, openPushWorker, type PushWorker } from "./worker.ts";

export type Push = {
  readonly gatewayTypes: readonly GatewayType[];
  /** New rows are in the queue. */
  queued(entries: readonly QueueEntry[]): void;
  /** What it looks for work with. */
  readonly loops: readonly Loop[];
  /** What brings it work through Redis. */
  readonly bringers: readonly Bringer[];
  gauges(): readonly GaugeReading[];
  /** true, or what is missing. */
  ready(): true | string;
  close(): Promise<void>;
};

export function openPush(
  slice: { readonly redis: PushQueueSlice | null },
  ports: {
    readonly premise: Database;
    readonly core: Database;
    readonly providers: ReadonlyMap<GatewayType, PushProvider>;
    readonly own?: OwnPushes;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
): Push {
  const { redis } = slice;
  const { providers } = ports;
  const gatewayTypes = [...providers.keys()];
  const lanes = gatewayTypes.flatMap((gatewayType) =>
    [true, false].map((urgent) => ({ gatewayType, urgent, slots: urgent ? SLOTS.urgent : SLOTS.normal })),
  );
  const workers: PushWorker[] = [];
  const workerOf = (lane: Lane) =>
    workers.find(({ lane: own }) => own.gatewayType === lane.gatewayType && own.urgent === lane.urgent);
  const queue =
    redis === null
      ? null
      : openPushQueue(redis, {
          log: ports.log,
          lanes,
          perform: async (lane, device) => workerOf(lane)?.perform(device),
          lost() {
            for (const worker of workers) worker.wake();
          },
        });
  for (const { slots, ...lane } of lanes) {
    const worker = openPushWorker(
      { lane, slots },
      {
        ...ports,
        provider: providers.get(lane.gatewayType)!,
        redisUp: queue === null ? null : () => queue.brings(lane),
        again: ({ id, deviceId, gatewayType, priority, attempts }, delayMs) =>
          queue?.add([{ id, deviceId, gatewayType, priority, attempt: attempts + 1, delayMs }]),
        random: Math.random,
      },
    );
    workers.push(worker);
  }
  const unserved = openUnserved(gatewayTypes, ports);

  return {
    gatewayTypes,
    loops: [unserved, ...workers.map((worker) => worker.loop)],
    bringers: queue?.bringers ?? [],
    gauges: () => (queue === null ? [] : [{ name: "redis_up", value: queue.isUp() ? 1 : 0 }]),
    queued(entries) {
      const brought = workers.map(({ lane }) => queue?.brings(lane) === true);
      // Also while Redis seems away: that it takes a hint again is how we learn that it is back.
      queue?.add(entries.map((entry) => ({ ...entry, attempt: 0, delayMs: 0 })));
      for (const [index, worker] of workers.entries()) {
        if (brought[index]) continue;
        const { gatewayType, urgent } = worker.lane;
        if (entries.some((entry) => entry.gatewayType === gatewayType && (entry.priority === "high") === urgent))
          worker.wake();
      }
    },
    ready: () => (gatewayTypes.length > 0 ? true : "no push service has credentials"),
    async close() {
      await queue?.close();
      await Promise.all([unserved, ...workers].map((part) => part.close()));
      await Promise.all([...providers.values()].map((provider) => provider.close()));
    },
  };
}
