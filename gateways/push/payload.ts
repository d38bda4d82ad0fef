/**
 * What a push service is given: a wake-up and no content. The phone fetches text and names over its own connection.
 * Android's form is seed section 3.3 carried by FCM HTTP v1; Apple's is the seed's too, with a generic alert added
 * because a background push alone is throttled by the phone.
 */
import type { TokenMessage } from "firebase-admin/messaging";
import { PRIORITIES } from "../../domain.ts";
import type { Push } from "./provider.ts";

/** Three days, the seed's time_to_live. */
const MAX_TTL_S = 259_200;
/** One wake-up stands for all that wait: the phone fetches everything, so a later one may replace an earlier. */
const COLLAPSE = "AMC";

/** Seconds the push service may keep the push: never past the page's expiry, never negative. */
function ttl_s(push: Push, now: number): number {
  return Math.min(MAX_TTL_S, Math.max(0, Math.floor((push.expiresAt - now) / 1000)));
}

/**
 * `now` in ms since 1970. Priority is 1 high, 2 medium, 3 low. MessageCount 0 has nothing to ring for: the phone fetches, and hears what
 * was recalled. Google slows down apps that are woken at high priority and show nothing, so that one goes at the ordinary.
 */
export function androidMessage(push: Push, now: number): TokenMessage {
  const message = JSON.stringify({
    ClientMessagingUrls: push.urls,
    CoreVersion: push.coreVersion,
    MessageCount: push.messageCount,
    Priority: PRIORITIES.indexOf(push.priority) + 1,
  });
  return {
    token: push.notificationAddress,
    data: { message, time: String(now) },
    android: {
      collapseKey: COLLAPSE,
      ttl: ttl_s(push, now) * 1000,
      priority: push.messageCount === 0 ? "normal" : "high",
    },
  };
}

export type AppleNotification = {
  readonly pushType: "alert" | "background";
  readonly priority: 10 | 5;
  readonly collapseId: string;
  /** Seconds since 1970; 0 tells APNs to try once and keep nothing. */
  readonly expiration: number;
  readonly payload: { readonly aps: Readonly<Record<string, unknown>>; readonly DeviceRequestType: "GetMessages" };
};

/**
 * `silent` is the seed's form: the app is woken and nothing is shown. Apple delays and drops such pushes freely. One without a page is
 * always so.
 */
export function appleNotification(push: Push, now: number, silent: boolean): AppleNotification {
  const ttl = ttl_s(push, now);
  const common = { collapseId: COLLAPSE, expiration: ttl === 0 ? 0 : Math.floor(now / 1000) + ttl };
  if (silent || push.messageCount === 0) {
    const payload = { aps: { "content-available": 1 }, DeviceRequestType: "GetMessages" } as const;
    return { ...common, pushType: "background", priority: 5, payload };
  }
  const aps = {
    "content-available": 1,
    alert: push.messageCount > 1 ? `${push.messageCount} new pages` : "New page",
    sound: "default",
    "interruption-level": "time-sensitive",
  };
  return { ...common, pushType: "alert", priority: 10, payload: { aps, DeviceRequestType: "GetMessages" } };
}
