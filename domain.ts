/**
 * The words every room shares: branded ids, the status model, priorities and the clock. Imports nothing.
 *
 * Transport rises and may skip a rung; answer, replies and outcome are kept beside it and erase nothing:
 *
 *   ACCEPTED ─► QUEUED ─► ENROUTE ─► DELIVERED ─► READ            transport
 *                                        └────► ACKNOWLEDGED | IGNORED        answer, the first one wins
 *   FAILED | EXPIRED | RECALLED at any time, told once                        outcome
 */

declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** The server's own id of a message (seed: UniqueId); a UUID derived by `persistence/unique-id.ts`. */
export type UniqueId = Brand<string, "UniqueId">;
/** A device's id, given to the phone as VendorId; a UUID. */
export type DeviceId = Brand<string, "DeviceId">;
export type HostSystemId = Brand<string, "HostSystemId">;
export type SubscriberId = Brand<string, "SubscriberId">;
export type SiteId = Brand<string, "SiteId">;
export type TenantId = Brand<string, "TenantId">;
/** What one person wrote or chose on one page; a UUID derived by `persistence/replies.ts`. */
export type ReplyId = Brand<string, "ReplyId">;
/** A group of devices that are set alike. */
export type GroupId = Brand<string, "GroupId">;
/** One connection of a host system to one node. */
export type LinkId = Brand<string, "LinkId">;
/** One wake-up request held by the hosted side; a UUID. */
export type NotificationId = Brand<string, "NotificationId">;
/** One life of one node: a restarted process is a new boot. */
export type BootId = Brand<string, "BootId">;
/** 0 to 255, see `shardOf`. */
export type Shard = Brand<number, "Shard">;

/**
 * The transport ladder; the rank of a rung is its place in this list, counted from 1, and is what the database holds: in
 * statements 4 is DELIVERED and 5 READ.
 */
export const TRANSPORTS = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"] as const;
export type Transport = (typeof TRANSPORTS)[number];
export const ANSWERS = ["ACKNOWLEDGED", "IGNORED"] as const;
export type Answer = (typeof ANSWERS)[number];
export const OUTCOMES = ["FAILED", "EXPIRED", "RECALLED"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What a host system hears as `status/statusText`; every outcome is told as FAILED with its reason. */
export const STATUS_TEXTS = [...TRANSPORTS, ...ANSWERS, "FAILED"] as const;
export type StatusText = (typeof STATUS_TEXTS)[number];
/** What a phone may report by SetStatus. */
export type Receipt = "DELIVERED" | "READ" | Answer;

export function rankOf(transport: Transport): number {
  return TRANSPORTS.indexOf(transport) + 1;
}

export function transportOf(rank: number): Transport {
  const transport = TRANSPORTS[rank - 1];
  if (transport === undefined) throw new RangeError(`no transport status has rank ${rank}`);
  return transport;
}

/** Most urgent first; the database holds the place in this list, so ascending order is urgency. */
export const PRIORITIES = ["high", "medium", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Push networks by the seed's names; GCM is today's FCM. */
export const GATEWAY_TYPES = ["GCM", "APNS", "WEBPUSH"] as const;
export type GatewayType = (typeof GATEWAY_TYPES)[number];

export const SHARD_COUNT = 256;

/**
 * The shard that drives a recipient's devices and messages: the first byte of the subscriber's random UUID. A wire
 * format: rows carry it, so it must never change.
 */
export function shardOf(subscriber: SubscriberId): Shard {
  return Number.parseInt(subscriber.slice(0, 2), 16) as Shard;
}

/**
 * One spelling for an address a page may be sent to (phone number, user name, pager number), so that formatting never
 * decides who is paged: telephone punctuation is dropped, names are compared without case.
 */
export function canonicalDestination(text: string): string {
  const trimmed = text.trim().normalize("NFC");
  return /^\+?[\d\s().-]+$/.test(trimmed) ? trimmed.replace(/[\s().-]/g, "") : trimmed.toLowerCase();
}

/** `wall` in ms since 1970, for what is written down; `monotonic` in ms, for every wait and lease. */
export type Clock = { wall(): number; monotonic(): number };
/** Not `performance`, which counts from the start of its own thread: this counts from the same instant in all of them. */
export const systemClock: Clock = { wall: () => Date.now(), monotonic: () => Number(process.hrtime.bigint()) / 1e6 };

/** Makes the compiler and the running program object to a case nobody wrote. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
