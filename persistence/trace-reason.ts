/**
 * One plain sentence on where a page is and why it is there, from what the database knows of it. Pure. Holds no text and
 * no name: only statuses, codes, reasons of ours and times.
 */
import type { Answer, GatewayType, Outcome, Transport } from "../domain.ts";
import type { NotificationState } from "./notifications.ts";
import type { News } from "./outbox.ts";
import { RECALL_REASON } from "./recalls.ts";

/** Times in ms since 1970, on the database's clock, as is `now`. */
export type TraceFacts = {
  readonly now: number;
  readonly status: Transport;
  readonly answer: Answer | null;
  readonly outcome: Outcome | null;
  readonly outcomeReason: string | null;
  readonly dueAt: number | null;
  readonly userDeadline: number | null;
  readonly expiresAt: number;
  /** When the last event that says so happened: an answer, a rung, an outcome. */
  readonly since: { readonly status: number; readonly answer: number | null; readonly outcome: number | null };
  /** The last attempt to wake a phone; null: none was made. `WAIT`: it could not be asked for. */
  readonly attempt: {
    readonly event: "WAKE" | "ENROUTE" | "PUSH" | "WAIT";
    readonly at: number;
    readonly detail: string | null;
  } | null;
  readonly push: PushFacts | null;
  readonly devices: { readonly active: number; readonly reachable: number; readonly lastSeenAt: number | null };
  readonly host: {
    readonly connected: boolean;
    /** `taken`: a connection has had it to write; whether the host got it is not known yet. */
    readonly waiting: readonly { readonly status: News["status"]; readonly at: number; readonly taken: boolean }[];
  };
};

/** The wake-up that got furthest. */
export type PushFacts = {
  readonly gatewayType: GatewayType;
  readonly state: NotificationState;
  readonly attempts: number;
  readonly code: string | null;
  readonly createdAt: number;
  readonly doneAt: number | null;
};

const NETWORKS: Record<GatewayType, string> = { GCM: "FCM", APNS: "APNs", WEBPUSH: "Web Push" };
/** A page whose due time is so long past is being driven by nobody. */
export const OVERDUE_MS = 10_000;
/** What is written to a connection stays noted for 30 s, so that only later is it news that the host has not taken it. */
const HOST_SLOW_MS = 35_000;

export function whyOf(facts: TraceFacts): string {
  return `${[pageClause(facts), overdueClause(facts), hostClause(facts)].filter((clause) => clause !== null).join("; ")}.`;
}

function pageClause(facts: TraceFacts): string {
  const { now, status, answer, outcome, outcomeReason, since } = facts;
  const reason = outcomeReason ?? "no reason given";
  if (outcome === "RECALLED") return recalledClause(facts);
  if (answer !== null) {
    const late = outcome === null ? "" : `, after the host had been told FAILED (${reason})`;
    return `Answered ${answer} ${ago(now, since.answer ?? since.status)}${late}`;
  }
  if (status === "READ" || status === "DELIVERED") {
    const where = status === "READ" ? "Read" : "On the phone and not opened yet, fetched";
    if (outcome !== null) return `${where} ${ago(now, since.status)}; the host was told FAILED (${reason})`;
    if (facts.userDeadline === null) return `${where} ${ago(now, since.status)}`;
    return `${where} ${ago(now, since.status)}, no answer yet (${until(now, facts.userDeadline, "asked for within", "was due")})`;
  }
  if (outcome === "EXPIRED" || facts.expiresAt <= now)
    return `Expired ${ago(now, since.outcome ?? facts.expiresAt)} before any phone fetched it`;
  if (outcome === "FAILED") {
    return `Failed ${ago(now, since.outcome ?? since.status)}: ${reason}; a phone can still fetch it for ${span(facts.expiresAt - now)}`;
  }
  return waitingClause(facts);
}

/** What phones did before and what they said after stand beside it alike. */
function recalledClause({ now, status, answer, outcomeReason, since }: TraceFacts): string {
  const delivered = status === "READ" || status === "DELIVERED";
  const became =
    answer !== null
      ? `it was answered ${answer} ${ago(now, since.answer ?? since.status)}`
      : delivered
        ? `a phone ${status === "READ" ? "opened" : "fetched"} it ${ago(now, since.status)}`
        : "no phone has said that it fetched it";
  const before = outcomeReason === RECALL_REASON ? "" : `; the host had been told FAILED (${outcomeReason}) before`;
  return `Recalled by an operator ${ago(now, since.outcome ?? since.status)}; ${became}${before}`;
}

function waitingClause({ now, attempt, push, devices, dueAt }: TraceFacts): string {
  if (devices.active === 0) return "Waiting: the recipient has no registered phone any more";
  if (attempt?.event === "WAIT" || (attempt === null && devices.reachable === 0)) {
    if (devices.reachable === 0)
      return `Waiting: no phone of the recipient has a live notification address (${count(devices.active, "phone")} registered)`;
    const next = dueAt === null ? "" : `, tried again ${dueAt > now ? `in ${span(dueAt - now)}` : "now"}`;
    return `Waiting: ${attempt?.detail ?? "nothing could be sent"}${next}`;
  }
  if (attempt === null)
    return `Waiting for the first wake-up${dueAt === null ? "" : ` (${until(now, dueAt, "at the latest in", "due")})`}`;
  const seen =
    devices.lastSeenAt === null ? "never seen since it was registered" : `last seen ${ago(now, devices.lastSeenAt)}`;
  if (push === null) {
    if (attempt.event === "WAKE")
      return `A wake-up was begun ${ago(now, attempt.at)} and is not yet with the hosted side`;
    return `On its way since ${span(now - attempt.at)}, not fetched yet (phone ${seen})`;
  }
  const network = NETWORKS[push.gatewayType];
  const when = ago(now, push.doneAt ?? push.createdAt);
  const code = push.code ?? "no code";
  switch (push.state) {
    case "SENT":
      return `${network} accepted the wake-up ${when}, the phone has not fetched the page yet (${seen})`;
    case "DEAD":
      return `${network} said ${when} that the phone's notification address is dead (${code}); the phone must open its app`;
    case "REFUSED":
      return `${network} refused the wake-up ${when} (${code})`;
    case "EXPIRED":
      return `The wake-up expired ${when}, before ${network} took it (${code})`;
    case "SETTLED":
      return `The wake-up was not sent ${when}: nothing waited for that phone any more (phone ${seen})`;
    case "SUPERSEDED":
      return `A later wake-up of the phone took this one's place ${when}`;
    case "STORED":
      if (push.attempts === 0)
        return `The wake-up is with the hosted side since ${span(now - push.createdAt)} and was not answered by ${network} yet`;
      return `${network} has not taken the wake-up after ${count(push.attempts, "attempt")} (last answer ${code})`;
  }
}

function overdueClause({ now, dueAt, status, outcome }: TraceFacts): string | null {
  if (dueAt === null)
    return outcome === null && (status === "ACCEPTED" || status === "QUEUED" || status === "ENROUTE")
      ? "nothing more is due for it"
      : null;
  return now - dueAt > OVERDUE_MS ? `its next step is overdue by ${span(now - dueAt)}: no node drives it` : null;
}

function hostClause({ now, host }: TraceFacts): string | null {
  const last = host.waiting.at(-1);
  if (last === undefined) return null;
  // Without a connection, what one had to write was most likely written: it is only sent again to be sure.
  if (!host.connected && last.taken) return null;
  if (!host.connected) return `the host system is not connected and has not taken ${last.status} yet`;
  return now - host.waiting[0]!.at > HOST_SLOW_MS
    ? `the host system is connected but has not taken ${last.status} yet`
    : null;
}

function ago(now: number, at: number): string {
  return `${span(now - at)} ago`;
}

function until(now: number, at: number, ahead: string, behind: string): string {
  return at > now ? `${ahead} ${span(at - now)}` : `${behind} ${ago(now, at)}`;
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** The largest unit that gives at least two of it, so that "90 s" is not told as "1 min". */
function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}
