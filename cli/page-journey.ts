/**
 * One page sent by a host system, and followed until it stands where it was asked to:
 *
 *               refused the first time ─► unreachable
 *                   │
 *   connecting ─► connected: sends the page, unless some status was heard ─► listening ─► reached | failed
 *        ▲                     (then when nothing is, for 3 s)                       │
 *        └──────────────── back-off ◄──────── connection lost ───────────────────────┘
 *
 *   anywhere: the time is over ─► timeout; the signal ─► interrupted
 *
 * The same bytes are sent again, so a page that was accepted just before the connection broke is recognised as a repeat.
 */
import { ANSWERS, STATUS_TEXTS, type StatusText, TRANSPORTS } from "../domain.ts";
import { CONNECT_DEADLINE_MS, type HostLink, type HostTarget, openHostLink } from "../gateways/mxpp/host-link.ts";
import type { NewMessage } from "../gateways/mxpp/new-message.ts";
import type { Notification } from "../gateways/mxpp/notification.ts";
import { makeBackoff, pause } from "./backoff.ts";

/** What a page may be followed to. */
export const GOALS = [...STATUS_TEXTS, "REPLY"] as const;
export type Goal = (typeof GOALS)[number];

export type Journey = {
  readonly trackingId: string;
  readonly document: Uint8Array;
  readonly until: Goal;
  readonly timeoutMs: number;
  /** Asked before every attempt: a server that starts again may listen elsewhere. */
  target(): HostTarget;
  /** Each status once, in the order heard; `sinceMs` from the first sending. */
  onStatus(notification: Notification, sinceMs: number): void;
  /** Each reply once; one that is told again is the same to the letter. */
  onReply?(reply: NewMessage, sinceMs: number): void;
  /** `code` null: the server ended the connection in order. */
  onLost?(code: string | null): void;
  onConnected?(again: boolean): void;
};

export type JourneyEnd =
  | { readonly kind: "reached" | "failed" | "timeout" | "interrupted" }
  /** The first attempt to connect did not succeed. */
  | { readonly kind: "unreachable"; readonly code: string };

/**
 * A host system that only its pages name hears nothing on a new connection before it has sent something; a second copy of the
 * page says who it is.
 */
const QUIET_MS = 3_000;
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 3_000;

export async function runJourney(journey: Journey, signal: AbortSignal): Promise<JourneyEnd> {
  const heard = new Set<StatusText>();
  const replies = new Set<string>();
  const backoff = makeBackoff(BACKOFF_MIN_MS, BACKOFF_MAX_MS);
  const ended = new AbortController();
  const timeout = AbortSignal.timeout(journey.timeoutMs);
  const over = AbortSignal.any([signal, timeout, ended.signal]);
  const startedAt = performance.now();
  let end: JourneyEnd | null = null;
  let sentAt: number | null = null;
  let connections = 0;
  const sinceMs = () => performance.now() - (sentAt ?? performance.now());
  let quiet: NodeJS.Timeout | undefined;

  function onNotification(notification: Notification): void {
    if (notification.trackingId === journey.trackingId) clearTimeout(quiet);
    if (notification.trackingId !== journey.trackingId || heard.has(notification.status) || end !== null) return;
    heard.add(notification.status);
    journey.onStatus(notification, sinceMs());
    const verdict = judge(notification.status, journey.until);
    if (verdict !== "on") finish(verdict);
  }

  function onPage(page: NewMessage): void {
    const key = JSON.stringify([page.sentAtText, page.fromId, page.text]);
    if (page.trackingId !== journey.trackingId || replies.has(key) || end !== null) return;
    replies.add(key);
    journey.onReply?.(page, sinceMs());
    if (journey.until === "REPLY") finish("reached");
  }

  function finish(kind: "reached" | "failed"): void {
    end = { kind };
    ended.abort();
  }

  while (!over.aborted) {
    let link: HostLink;
    try {
      const leftMs = Math.max(1, startedAt + journey.timeoutMs - performance.now());
      link = await openHostLink(journey.target(), { onNotification, onPage }, Math.min(leftMs, CONNECT_DEADLINE_MS));
    } catch (error) {
      if (connections === 0) return { kind: "unreachable", code: codeOf(error) };
      await pause(backoff.next(), over);
      continue;
    }
    journey.onConnected?.(connections > 0);
    connections++;
    // A broken connection says so by `gone`.
    const send = () => void link.send(journey.document).catch(() => {});
    if (heard.size === 0) {
      sentAt ??= performance.now();
      send();
    } else {
      quiet = setTimeout(send, QUIET_MS);
    }
    const code = await Promise.race([link.gone, untilAborted(over)]);
    clearTimeout(quiet);
    if (code === "over") {
      await link.close();
      break;
    }
    if (heard.size > 0) backoff.reset();
    journey.onLost?.(code);
    await pause(backoff.next(), over);
  }
  return end ?? { kind: signal.aborted ? "interrupted" : "timeout" };
}

/**
 * A later rung of the ladder satisfies an earlier one, an answer satisfies every rung. FAILED satisfies none, and one
 * answer not the other: there it is over. No status satisfies REPLY.
 */
export function judge(status: StatusText, until: Goal): "on" | "reached" | "failed" {
  if (status === until) return "reached";
  if (status === "FAILED") return "failed";
  if (until === "FAILED" || until === "REPLY") return "on";
  if (isAnswer(until)) return isAnswer(status) ? "failed" : "on";
  if (isAnswer(status)) return "reached";
  return TRANSPORTS.indexOf(status) > TRANSPORTS.indexOf(until) ? "reached" : "on";
}

function isAnswer(status: StatusText): status is (typeof ANSWERS)[number] {
  return ANSWERS.some((answer) => answer === status);
}

export function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : "ERROR";
}

function untilAborted(signal: AbortSignal): Promise<"over"> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("over");
    else signal.addEventListener("abort", () => resolve("over"), { once: true });
  });
}
