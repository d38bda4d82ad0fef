/**
 * BullMQ on Redis: spreads due pushes over the nodes within milliseconds, by a queue a lane. It is speed and nothing else: a
 * job holds ids and the attempt, every answer is a hint, and whatever it loses is found by the sweep over
 * core.message_queue. Nothing here rejects or waits for Redis.
 */
import { Queue, type RedisQueueBackend, Worker } from "bullmq";
import { type DeviceId, PRIORITIES } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import type { Lane, QueueEntry } from "./message-queue.ts";
import { redisOptions } from "./redis-options.ts";

export type PushQueueSlice = { readonly url: string; readonly prefix: string };

export type PushHint = QueueEntry & { readonly attempt: number; readonly delayMs: number };

export type PushQueue = {
  /** Tells the workers of all nodes. Dropped when Redis does not take it. */
  add(hints: readonly PushHint[]): void;
  /** Whether Redis answers; when not, the sweep must look at once. */
  isUp(): boolean;
  close(): Promise<void>;
};

type Job = { device: DeviceId };

/** A killed node's jobs come back after lockDuration and one or two scans; the sweep is sooner. */
const LOCK_MS = 4_000;
const STALLED_SCAN_MS = 1_000;
const WORKER_RETRY_MS = 500;
const CLOSE_DEADLINE_MS = 3_000;

export function openPushQueue(
  slice: PushQueueSlice,
  ports: {
    readonly log: Log;
    /** Performs what is owed to one device to its end; settles in bounded time and never rejects. */
    readonly perform: (lane: Lane, device: DeviceId) => Promise<void>;
    /** `slots`: how many are performed at once. */
    readonly lanes: readonly (Lane & { readonly slots: number })[];
  },
): PushQueue {
  const log = ports.log.child({ part: "push-queue" });
  const connection = {
    ...redisOptions(slice.url),
    retryStrategy: (times: number) => Math.min(50 * times, 500),
    reconnectOnError: (error: Error) => (error.message.startsWith("READONLY") ? (2 as const) : false),
    connectTimeout: 2_000,
  };
  // The braces keep all keys of a queue in one slot of a Redis Cluster.
  const prefix = `{${slice.prefix}}`;
  let up = false;
  let complained = 0;

  function complain(error: unknown): void {
    up = false;
    // A Redis that is away fails every command of every connection: one line a minute says it.
    if (Date.now() - complained < 60_000) return;
    complained = Date.now();
    log.warn(faultFields(error), "redis does not answer; pushes go out by the sweep");
  }

  const queues: { readonly lane: Lane; readonly queue: Queue<Job> }[] = [];
  const workers: Worker<Job>[] = [];
  const backends: RedisQueueBackend[] = [];
  /** Those that have never been connected: hints would be lost on them that the others take. */
  const unconnected = new Set<RedisQueueBackend>();
  for (const { slots, ...lane } of ports.lanes) {
    const name = `push-${lane.gatewayType.toLowerCase()}-${lane.urgent ? "urgent" : "normal"}`;
    const queue = new Queue<Job>(name, {
      prefix,
      connection: { ...connection, enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: 2_000 },
      skipWaitingForReady: true,
      // It would ask before there is a connection, fail, and with it every job for as long as the process lives.
      skipVersionCheck: true,
      defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
    });
    queue.on("error", complain);
    queues.push({ lane, queue });
    const worker = new Worker<Job>(name, (job) => ports.perform(lane, job.data.device), {
      prefix,
      connection: { ...connection, maxRetriesPerRequest: null },
      concurrency: slots,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_SCAN_MS,
      maxStalledCount: 1_000,
      runRetryDelay: WORKER_RETRY_MS,
      drainDelay: 2,
    });
    worker.on("error", complain);
    workers.push(worker);
    // Of the connections: a worker itself says "ready" once in its life, and they come back after each time Redis was away.
    for (const backend of [queue.getBackend(), worker.getBackend()]) {
      backend.on("ready", () => {
        unconnected.delete(backend);
        up = unconnected.size === 0;
      });
      backends.push(backend);
      unconnected.add(backend);
    }
  }

  const clients: { readonly status: string; disconnect(): void }[] = [];
  for (const connecting of backends.flatMap(({ client, blockingClient }) => [client, blockingClient])) {
    connecting
      ?.then((client) => {
        clients.push(client);
        // BullMQ stops listening before the last attempt to connect has failed, and the client prints what nobody listens to.
        client.on("error", () => {});
      })
      .catch(() => {});
  }

  return {
    add(hints) {
      for (const { lane, queue } of queues) {
        const jobs = hints
          .filter((hint) => hint.gatewayType === lane.gatewayType && (hint.priority === "high") === lane.urgent)
          .map((hint) => ({
            name: "push",
            data: { device: hint.deviceId },
            opts: {
              // A job that still exists swallows another of its id, so the attempt is part of it.
              jobId: `p-${hint.id}-${hint.attempt}`,
              priority: PRIORITIES.indexOf(hint.priority) + 1,
              ...(hint.delayMs > 0 ? { delay: hint.delayMs } : {}),
            },
          }));
        if (jobs.length === 0) continue;
        queue.addBulk(jobs).then(() => {
          up = true;
        }, complain);
      }
    },
    isUp: () => up,
    async close() {
      // Jobs under way are waited for, except where Redis is away: then they cannot be ended in it anyhow.
      const away = !clients.every((client) => client.status === "ready");
      const ended = Promise.allSettled([
        ...workers.map((worker) => worker.close(away)),
        ...queues.map(({ queue }) => queue.close()),
      ]);
      const deadline = new Promise((resolve) => setTimeout(resolve, CLOSE_DEADLINE_MS).unref());
      await Promise.race([ended, deadline]);
      // A connection that Redis did not close by then would keep the process for as long as Redis pleases.
      for (const client of clients) client.disconnect();
    },
  };
}
