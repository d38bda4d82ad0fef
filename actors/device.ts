/**
 * One device while pages want it woken. Gathers the pages that ask while a request is on its way to the hosted side, so
 * that a burst becomes one wake-up, and answers each page once the request that covers it is durable there.
 *
 *   idle ── wake ──► gathering ── flush ──► handing ── stored, or refused ──► idle | gathering
 *                       ▲ wake (behind the flush in the mailbox)
 */
import { createHash } from "node:crypto";
import type { Address } from "../cluster/actor-system.ts";
import { type NotificationId, PRIORITIES, type Priority, type UniqueId } from "../domain.ts";
import type { Notification } from "../persistence/notifications.ts";
import type { Message as MessageMessage, PushTarget } from "./message.ts";

export type Wake = {
  readonly uniqueId: UniqueId;
  /** Which wake-up of the page this is, counted from 1. */
  readonly wakeup: number;
  readonly priority: Priority;
  readonly expiresAt: number;
  /** The page is gone, and the phone is to hear so: nothing that rings. */
  readonly withdrawn: boolean;
  readonly target: PushTarget;
  readonly replyTo: Address<MessageMessage>;
};

export type Message = { readonly kind: "wake"; readonly wake: Wake } | { readonly kind: "flush" };

export type State = { readonly waiting: readonly Wake[]; readonly flushing: boolean };

export type Effect =
  | { readonly kind: "flush-later" }
  | { readonly kind: "hand"; readonly wakes: readonly Wake[] }
  | { readonly kind: "end" };

/** Pages covered by one request; the rest go with the next. */
const PAGES_MAX = 500;

export const idle: State = { waiting: [], flushing: false };

export function step(state: State, message: Message): { state: State; effects: readonly Effect[] } {
  switch (message.kind) {
    case "wake": {
      const waiting = [...state.waiting, message.wake];
      return { state: { waiting, flushing: true }, effects: state.flushing ? [] : [{ kind: "flush-later" }] };
    }
    case "flush": {
      const wakes = state.waiting.slice(0, PAGES_MAX);
      const waiting = state.waiting.slice(PAGES_MAX);
      const flushing = waiting.length > 0;
      const hand: Effect[] = wakes.length > 0 ? [{ kind: "hand", wakes }] : [];
      // Asked for before handing: while that takes its time, the mailbox may fill and hold no flush any more.
      return {
        state: { waiting, flushing },
        effects: flushing ? [{ kind: "flush-later" }, ...hand] : [...hand, { kind: "end" }],
      };
    }
  }
}

/** What the hosted side is asked (seed 2.4); settles once it is durable there, rejects when it is not. */
export type HostedPort = { readonly request: (notification: Notification, urgent: boolean) => Promise<void> };

export type DevicePorts = {
  readonly hosted: HostedPort;
  /** Where phones fetch from. */
  readonly urls: readonly string[];
  readonly coreVersion: string;
  /** Tells this actor itself, behind what already waits. */
  readonly flushLater: () => void;
  /** Ends this actor, if nothing more waits for it. */
  readonly end: () => void;
};

export function deviceBehaviour(ports: DevicePorts): (message: Message) => Promise<void> {
  let state = idle;
  return async (message) => {
    const stepped = step(state, message);
    state = stepped.state;
    for (const effect of stepped.effects) {
      if (effect.kind === "flush-later") ports.flushLater();
      else if (effect.kind === "end") ports.end();
      else await hand(effect.wakes, ports);
    }
  };
}

async function hand(wakes: readonly Wake[], ports: DevicePorts): Promise<void> {
  const notification = notificationFor(wakes, ports.urls, ports.coreVersion);
  let reason: string | null = null;
  try {
    await ports.hosted.request(notification, notification.priority === "high");
  } catch {
    reason = "the hosted side cannot be reached";
  }
  for (const wake of wakes) {
    const deviceId = wake.target.deviceId;
    wake.replyTo.tell(
      reason === null
        ? { kind: "handed", deviceId, notificationId: notification.id }
        : { kind: "not-handed", deviceId, reason },
    );
  }
}

/** One request for all these pages. Its id follows from what it is for, so that two owners ask for the same thing. */
export function notificationFor(wakes: readonly Wake[], urls: readonly string[], coreVersion: string): Notification {
  const first = wakes[0]!;
  const { target } = first;
  const hash = createHash("sha256").update(`${target.deviceId} ${first.uniqueId} ${first.wakeup}`).digest("hex");
  const id =
    `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-a${hash.slice(17, 20)}-${hash.slice(20, 32)}` as NotificationId;
  return {
    id,
    tenantId: target.tenantId,
    siteId: target.siteId,
    deviceId: target.deviceId,
    callbackData: first.uniqueId,
    callbackUri: urls[0]!,
    gatewayType: target.gatewayType,
    notificationAddress: target.notificationAddress,
    urls,
    messageCount: wakes.filter(({ withdrawn }) => !withdrawn).length,
    priority: PRIORITIES[Math.min(...wakes.map((wake) => PRIORITIES.indexOf(wake.priority)))]!,
    coreVersion,
    expiresAt: Math.max(...wakes.map((wake) => wake.expiresAt)),
  };
}
