/**
 * What the push worker asks of a push service, and the answers it can get. Provider failures are values; `send` throws
 * for nothing a provider can do.
 */
import type { GatewayType, NotificationId, Priority } from "../../domain.ts";

/** One wake-up. Holds no text and no name: the phone fetches those over its own connection. */
export type Push = {
  /** Stable over retries: APNs gets it as apns-id, so that a repeat is recognised. */
  readonly id: NotificationId;
  readonly gatewayType: GatewayType;
  /** The device token of the push service. */
  readonly notificationAddress: string;
  /** Where the phone fetches from (seed: ClientMessagingUrls). */
  readonly urls: readonly string[];
  /** 0: there is no page to ring for, and the phone is to hear that some were recalled. */
  readonly messageCount: number;
  readonly priority: Priority;
  readonly coreVersion: string;
  /** Wall clock, ms since 1970, when the page stops being fetchable; the push service must not keep it longer. */
  readonly expiresAt: number;
};

export type PushOutcome =
  /** The service took it. A wake-up, never proof of delivery. */
  | { readonly kind: "accepted"; readonly providerId: string | null }
  /** The address is gone; `since` (ms since 1970) is when the service says it died, null where it does not say. */
  | { readonly kind: "token-dead"; readonly since: number | null; readonly code: string }
  /** Try again, not before `afterMs` where the service said so. Covers no answer and broken connections. */
  | { readonly kind: "retry"; readonly afterMs: number | null; readonly code: string }
  /** It will never be taken. `alarm`: the fault is ours or our credentials', an operator must know. */
  | { readonly kind: "refused"; readonly code: string; readonly alarm: boolean };

/**
 * Sends in flight with one push service from this node. High priority has its own, so that it never waits behind the rest
 * however slow the service is; together they stay far below the streams APNs allows on a connection.
 */
export const SLOTS = { urgent: 40, normal: 60 };

export type PushProvider = {
  readonly name: "FCM" | "APNS";
  /** Settles within the provider's own deadline (10 s). Takes as many at once as there are slots, without a queue of its own. */
  send(push: Push): Promise<PushOutcome>;
  close(): Promise<void>;
};
