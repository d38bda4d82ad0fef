/**
 * BullMQ on Redis: spreads due pushes over the nodes within milliseconds, by a queue a lane. It is speed and nothing else: a
 * job holds ids and the attempt, every answer is a hint, and whatever it loses is found by the sweep over
 * core.message_queue. Nothing here rejects or waits for Redis.
 *
 * A lane's worker can be connected and take nothing any more (a connection that a firewall forgot, one that BullMQ gave up).
 * So each is looked at by what it is for, and built anew with its connections:
 *
 *   takes ── jobs wait, it has room and took none since the last look ──► deaf (the sweep looks at once) ── restart ──► takes
 *                              ▲                                            │
 *                              └──────────── took one, or none waits ◄──────┘
 */
import { Queue, type RedisQueueBackend, Worker } from "bullmq";
import { type DeviceId, PRIORITIES } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import type { Lane, QueueEntry } from "./message-queue.ts";
import { redisOptions, revive } from "./redis-options.ts";

export type PushQueueSlice = { readonly url: string; readonly prefix: string };

export type PushHint = QueueEntry & { readonly attempt: number; readonly delayMs: number };

/** What brings one lane's jobs to this node, for whoever watches that it does. */
export type Bringer = {
  readonly name: string;
  /** `silent`: jobs wait and it takes none. Rejects, within seconds, when Redis does not tell. */
  look(): Promise<"well" | "silent">;
  /** Leaves its connections behind, whatever may yet come of them, for new ones. */
  restart(): Promise<void>;
};

export type PushQueue = {
  /** Tells the workers of all nodes. Dropped when Redis does not take it. */
  add(hints: readonly PushHint[]): void;
  /** Whether Redis answers and all that waits is taken. */
  isUp(): boolean;
  /**
   * Whether what is told to this lane is brought: it is up, and its worker has taken something since it was last down, for it
   * takes up its work a second later than its connections. When not, the sweep must look at once.
   */
  brings(lane: Lane): boolean;
  readonly bringers: readonly Bringer[];
  close(): Promise<void>;
};

type Job = { device: DeviceId };
type PacedLane = Lane & { readonly slots: number };

/** A killed node's jobs come back after lockDuration and one or two scans; the sweep is sooner. */
const LOCK_MS = 4_000;
const STALLED_SCAN_MS = 1_000;
const WORKER_RETRY_MS = 500;
const COMMAND_MS = 2_000;
const CLOSE_DEADLINE_MS = 3_000;
const COMPLAIN_MS = 60_000;

export function openPushQueue(
  slice: PushQueueSlice,
  ports: {
    readonly log: Log;
    /** Performs what is owed to one device to its end; settles in bounded time and never rejects. */
    readonly perform: (lane: Lane, device: DeviceId) => Promise<void>;
    /** It is not up any more: what was told to it last may be lost. */
    readonly lost: () => void;
    /** `slots`: how many are performed at once. */
    readonly lanes: readonly PacedLane[];
  },
): PushQueue {
  const log = ports.log.child({ part: "push-queue" });
  let answers = false;
  let complainedAt = Number.NEGATIVE_INFINITY;
  /** Those not connected: hints are lost on them that the others take. */
  const unconnected = new Set<RedisQueueBackend>();
  const isUp = () => answers && !lanes.some((lane) => lane.isDeaf());

  function down(): void {
    const wasUp = isUp();
    answers = false;
    for (const lane of lanes) lane.doubt();
    if (wasUp) ports.lost();
  }

  function complain(error: Error & { readonly code?: unknown }): void {
    down();
    // BullMQ's own: it answers, and has lost a job that was under way. Others may have gone with it.
    if (typeof error.code === "number") return;
    // A Redis that is away fails every command of every connection: one line a minute says it.
    if (performance.now() - complainedAt < COMPLAIN_MS) return;
    complainedAt = performance.now();
    log.warn(faultFields(error), "redis does not answer; pushes go out by the sweep");
  }

  const lanes = ports.lanes.map((lane) =>
    openLane(slice, lane, {
      perform: (device) => ports.perform(lane, device),
      complain,
      taken() {
        answers = unconnected.size === 0;
      },
      unconnected(backend) {
        unconnected.add(backend);
        if (answers) down();
      },
      connected(backend) {
        unconnected.delete(backend);
        answers = unconnected.size === 0;
      },
      closed: (backend) => void unconnected.delete(backend),
    }),
  );

  return {
    add(hints) {
      for (const lane of lanes) lane.add(hints);
    },
    isUp,
    brings: ({ gatewayType, urgent }) =>
      isUp() && lanes.some((lane) => lane.gatewayType === gatewayType && lane.urgent === urgent && lane.isProven()),
    bringers: lanes.map((lane) => ({
      name: `${lane.name} in Redis`,
      async look() {
        const wasUp = isUp();
        const verdict = await lane.look();
        if (wasUp && !isUp()) ports.lost();
        return verdict;
      },
      restart: () => lane.restart(),
    })),
    async close() {
      await Promise.all(lanes.map((lane) => lane.close()));
    },
  };
}

type LanePorts = {
  readonly perform: (device: DeviceId) => Promise<void>;
  readonly complain: (error: Error) => void;
  /** Redis took hints. */
  readonly taken: () => void;
  readonly unconnected: (backend: RedisQueueBackend) => void;
  readonly connected: (backend: RedisQueueBackend) => void;
  readonly closed: (backend: RedisQueueBackend) => void;
};

function openLane(slice: PushQueueSlice, { gatewayType, urgent, slots }: PacedLane, ports: LanePorts) {
  let performing = 0;
  let performed = 0;
  let performedBefore = 0;
  let deaf = false;
  let proven = false;
  const perform = async (device: DeviceId) => {
    performing += 1;
    performed += 1;
    deaf = false;
    proven = true;
    await ports.perform(device).finally(() => {
      performing -= 1;
    });
  };
  const name = `push-${gatewayType.toLowerCase()}-${urgent ? "urgent" : "normal"}`;
  let life = connectLane(slice, name, slots, perform, ports);

  return {
    name: `push ${gatewayType}${urgent ? " urgent" : ""}`,
    gatewayType,
    urgent,
    isDeaf: () => deaf,
    isProven: () => proven,
    doubt(): void {
      proven = false;
    },
    add(hints: readonly PushHint[]): void {
      const jobs = hints
        .filter((hint) => hint.gatewayType === gatewayType && (hint.priority === "high") === urgent)
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
      if (jobs.length > 0) life.queue.addBulk(jobs).then(ports.taken, ports.complain);
    },
    async look(): Promise<"well" | "silent"> {
      const { prioritized = 0, wait = 0 } = await life.queue.getJobCounts("prioritized", "wait");
      const idle = performed === performedBefore && performing < slots;
      performedBefore = performed;
      deaf = idle && prioritized + wait > 0;
      if (deaf) proven = false;
      return deaf ? "silent" : "well";
    },
    async restart(): Promise<void> {
      const old = life;
      life = connectLane(slice, name, slots, perform, ports);
      deaf = false;
      await old.close(true);
    },
    close: () => life.close(false),
  };
}

/** A lane's queue and worker, with the connections of both. */
function connectLane(
  { url, prefix: cluster }: PushQueueSlice,
  name: string,
  slots: number,
  perform: (device: DeviceId) => Promise<void>,
  ports: LanePorts,
) {
  // As CLIENT LIST shows it.
  const named = (end: "queue" | "worker") => ({ ...redisOptions(url), connectionName: `${cluster}:${name}:${end}` });
  // The braces keep all keys of a queue in one slot of a Redis Cluster.
  const prefix = `{${cluster}}`;
  // The check asks before there is a connection, fails, and with it every job; a worker whose user may not ask INFO spins for ever.
  const common = { prefix, skipVersionCheck: true };
  const queue = new Queue<Job>(name, {
    ...common,
    connection: { ...named("queue"), enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: COMMAND_MS },
    skipWaitingForReady: true,
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  const worker = new Worker<Job>(name, (job) => perform(job.data.device), {
    ...common,
    connection: { ...named("worker"), maxRetriesPerRequest: null },
    concurrency: slots,
    lockDuration: LOCK_MS,
    stalledInterval: STALLED_SCAN_MS,
    maxStalledCount: 1_000,
    runRetryDelay: WORKER_RETRY_MS,
    drainDelay: 2,
  });
  queue.on("error", ports.complain);
  worker.on("error", ports.complain);
  const backends = [queue.getBackend(), worker.getBackend()];
  const clients: { readonly status: string; disconnect(): void }[] = [];
  let closed = false;
  for (const backend of backends) {
    // Of the connections: a worker itself says "ready" once in its life, and they come back after each time Redis was away.
    backend.on("ready", () => {
      if (!closed) ports.connected(backend);
    });
    // A new master need not have what the old one was told last.
    backend.on("close", () => {
      if (!closed) ports.unconnected(backend);
    });
    ports.unconnected(backend);
    for (const connecting of [backend.client, backend.blockingClient]) {
      connecting
        ?.then((client) => {
          clients.push(client);
          // BullMQ stops listening before the last attempt to connect has failed, and the client prints what nobody listens to.
          client.on("error", () => {});
          revive(client, () => closed);
        })
        .catch(() => {});
    }
  }

  return {
    queue,
    async close(deafened: boolean): Promise<void> {
      closed = true;
      for (const backend of backends) ports.closed(backend);
      // Jobs under way are waited for, except where they cannot be ended in Redis anyhow.
      const away = deafened || !clients.every((client) => client.status === "ready");
      const ended = Promise.allSettled([worker.close(away), queue.close()]);
      const deadline = new Promise((resolve) => setTimeout(resolve, CLOSE_DEADLINE_MS).unref());
      await Promise.race([ended, deadline]);
      // A connection that Redis did not close by then would keep the process for as long as Redis pleases.
      for (const client of clients) client.disconnect();
    },
  };
}
