/** Nodes' queues on a Redis, without the rest of the nodes: what is told to them, and what they perform. */
import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import type { DeviceId, NotificationId } from "../../domain.ts";
import { type Log, silentLog } from "../../log.ts";
import type { Lane } from "../../persistence/message-queue.ts";
import { openPushQueue, type PushHint, type PushQueue } from "../../persistence/push-queue.ts";
import { eventually } from "./eventually.ts";

const LANES: readonly Lane[] = (["GCM", "APNS"] as const).flatMap((gatewayType) =>
  [true, false].map((urgent) => ({ gatewayType, urgent })),
);

export type QueueNode = {
  readonly queue: PushQueue;
  readonly performed: (Lane & { device: DeviceId; at: number })[];
};

export const hint = (more: Partial<PushHint> = {}): PushHint => ({
  id: randomUUID() as NotificationId,
  deviceId: randomUUID() as DeviceId,
  gatewayType: "GCM",
  priority: "high",
  attempt: 0,
  delayMs: 0,
  ...more,
});
export const devicesOf = (node: QueueNode) => node.performed.map(({ device }) => device);

/** @param admin a connection to it */
export function pushQueues(redis: { readonly url: string }, admin: Redis) {
  const opened: PushQueue[] = [];
  /** A node's queue; each test has a prefix of its own unless it shares one. */
  function open(
    more: {
      url?: string;
      prefix?: string;
      slots?: number;
      log?: Log;
      lost?: () => void;
      perform?: (device: DeviceId) => Promise<void>;
    } = {},
  ): QueueNode {
    const performed: QueueNode["performed"] = [];
    const queue = openPushQueue(
      { url: more.url ?? redis.url, prefix: more.prefix ?? randomUUID() },
      {
        log: more.log ?? silentLog,
        lost: more.lost ?? (() => {}),
        lanes: LANES.map((lane) => ({ ...lane, slots: more.slots ?? 4 })),
        async perform(lane, device) {
          performed.push({ ...lane, device, at: performance.now() });
          await more.perform?.(device);
        },
      },
    );
    opened.push(queue);
    return { queue, performed };
  }
  const isUp = (node: QueueNode) => eventually("redis answers", () => node.queue.isUp());
  /** Until the hints given to it have come to Redis: they go there in order. */
  const holds = (prefix: string, last: PushHint) =>
    eventually("redis has it", async () => (await admin.keys(`*${prefix}*:p-${last.id}-${last.attempt}`)).length > 0);
  const has = (node: QueueNode, count: number, limitMs?: number) =>
    eventually(`${count} pushes were performed`, () => node.performed.length >= count, limitMs);
  return {
    open,
    isUp,
    holds,
    has,
    async endAll() {
      await Promise.all(opened.splice(0).map((queue) => queue.close()));
    },
  };
}
