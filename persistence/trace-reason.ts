/**
 * Where a page is, why it is there, and what happens next, in a sentence or two, from what the database knows of it. Pure. Holds
 * no text and no person's name: only statuses, codes, reasons of ours, addresses, names of groups and gateways, and times.
 */
import type { GatewayType, Transport } from "../domain.ts";
import type { NotificationState } from "./notifications.ts";
import type { News } from "./outbox.ts";
import { isPassedOn, isSettled } from "./page-standing.ts";
import { RECALL_REASON } from "./recalls.ts";
import { type NextFacts, nextOf, nextSentence, wayOf } from "./trace-next.ts";
import { ago, count, span } from "./trace-words.ts";

/** Times in ms since 1970, on the database's clock, as is `now`. */
export type TraceFacts = Omit<NextFacts, "family"> & {
  readonly status: Transport;
  readonly outcomeReason: string | null;
  readonly reminders: number;
  /** How often its devices' group has it reminded; null: the recipient has no device. */
  readonly repeats: number | null;
  /** The last step of its rule found nobody. */
  readonly skipped: boolean;
  /** When the last event that says so happened: a rung, an answer, a reply, an outcome, a step of the rule. */
  readonly since: {
    readonly status: number;
    readonly answer: number | null;
    readonly reply: number | null;
    readonly outcome: number | null;
    readonly step: number | null;
  };
  /** The last attempt to reach a phone; null: none was made. `WAIT`: it could not be asked for; `STREAM`: sent over its stream. */
  readonly attempt: {
    readonly event: "WAKE" | "ENROUTE" | "PUSH" | "WAIT" | "STREAM";
    readonly at: number;
    readonly detail: string | null;
  } | null;
  readonly push: PushFacts | null;
  readonly devices: {
    readonly active: number;
    readonly reachable: number;
    /** How many listen by a stream. */
    readonly streaming: number;
    readonly lastSeenAt: number | null;
  };
  readonly host: {
    readonly connected: boolean;
    /** `taken`: a connection has had it to write; whether the host got it is not known yet. */
    readonly waiting: readonly { readonly status: News["status"]; readonly at: number; readonly taken: boolean }[];
  };
  /** The page it was passed on from, and by which step of the rule. */
  readonly parent: { readonly uniqueId: string; readonly step: number | null } | null;
  readonly family: NextFacts["family"] & {
    /** Pages it was passed on as; those that were fetched; who answered one. */
    readonly children: number;
    readonly fetched: number;
    readonly answeredBy: readonly string[];
  };
  /** Phones that have yet to hear that it is withdrawn. */
  readonly noticesOut: number;
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
  const clauses = [
    pageClause(facts),
    repeatClause(facts),
    noticeClause(facts),
    overdueClause(facts),
    parentClause(facts),
    hostClause(facts),
  ];
  const where = `${clauses.filter((clause) => clause !== null).join("; ")}.`;
  const next = nextOf(facts);
  // How long a page that failed, or was fetched, is still kept stands in the first sentence where it matters.
  if (next === null || isSettled(facts) || facts.outcome !== null) return where;
  return `${where} ${nextSentence(facts.now, next)}.`;
}

function pageClause(facts: TraceFacts): string {
  const { now, status, answer, outcome, outcomeReason, since, family } = facts;
  if (outcome === "RECALLED") return recalledClause(facts);
  const reason = outcomeReason ?? "no reason given";
  const late = outcome === null ? "" : `, after the host had been told FAILED (${reason})`;
  if (answer !== null && (answer === "ACKNOWLEDGED" || isSettled(facts) || outcome !== null))
    return `Answered ${answer} ${ago(now, since.answer ?? since.status)}${late}`;
  if (facts.replied) return `Answered by a reply ${ago(now, since.reply ?? since.status)}${late}`;
  const kin = facts.parent === null ? "to whom it was passed on" : "who had it too";
  if (family.answered) return `Answered by ${listed(family.answeredBy)}, ${kin}${late}`;
  if (isPassedOn(facts)) return passedOnClause(facts);
  if (status === "READ" || status === "DELIVERED") {
    const where = status === "READ" ? "Read" : "On the phone and not opened yet, fetched";
    if (outcome !== null) return `${where} ${ago(now, since.status)}; the host was told FAILED (${reason})`;
    if (answer !== null) return `Declined ${ago(now, since.answer ?? since.status)}, and to be passed on`;
    if (facts.userDeadline === null) return `${where} ${ago(now, since.status)}`;
    const of = facts.repeats === null ? "" : ` of ${facts.repeats}`;
    const reminded = facts.reminders === 0 ? "" : `, reminded ${facts.reminders}${of} times`;
    const overdue = facts.userDeadline > now ? "" : ` (was due ${ago(now, facts.userDeadline)})`;
    return `${where} ${ago(now, since.status)}${reminded}, no answer yet${overdue}`;
  }
  if (outcome === "EXPIRED" || facts.expiresAt <= now)
    return `Expired ${ago(now, since.outcome ?? facts.expiresAt)} before any phone fetched it`;
  if (outcome === "FAILED") {
    return `Failed ${ago(now, since.outcome ?? since.status)}: ${reason}; a phone can still fetch it for ${span(facts.expiresAt - now)}`;
  }
  return waitingClause(facts);
}

function passedOnClause(facts: TraceFacts): string {
  const { now, since, step, rule, family, asksAnswer } = facts;
  const taken = rule?.steps[step - 1];
  const way = taken === undefined ? "" : ` ${wayOf(taken)}`;
  const of = rule === null ? "" : ` of ${rule.steps.length}`;
  if (facts.skipped) return `Step ${step}${of} of the rule found nobody`;
  const where = `Passed on${way} ${ago(now, since.step ?? since.status)} (step ${step}${of} of the rule)`;
  if (family.children === 0) return where;
  const fetched = `${family.fetched} of ${count(family.children, "page")} fetched`;
  return `${where}, ${fetched}${asksAnswer ? ", none answered yet" : ""}`;
}

/** What phones did before and what they said after stand beside it alike. */
function recalledClause({ now, status, delivered, answer, outcomeReason, since }: TraceFacts): string {
  const became =
    answer !== null
      ? `it was answered ${answer} ${ago(now, since.answer ?? since.status)}`
      : delivered
        ? `a phone ${status === "READ" ? "opened" : "fetched"} it ${ago(now, since.status)}`
        : "no phone has said that it fetched it";
  const before = outcomeReason === RECALL_REASON ? "" : `; the host had been told FAILED (${outcomeReason}) before`;
  return `Recalled by an operator ${ago(now, since.outcome ?? since.status)}; ${became}${before}`;
}

/** A handful; a group may be large. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(", ");
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

function waitingClause({ now, attempt, push, devices, dueAt }: TraceFacts): string {
  if (devices.active === 0) return "Waiting: the recipient has no registered phone any more";
  if (attempt?.event === "WAIT" || (attempt === null && devices.reachable + devices.streaming === 0)) {
    if (devices.reachable === 0)
      return `Waiting: no phone of the recipient has a live notification address (${count(devices.active, "phone")} registered)`;
    const next = dueAt === null ? "" : `, tried again ${dueAt > now ? `in ${span(dueAt - now)}` : "now"}`;
    return `Waiting: ${attempt?.detail ?? "nothing could be sent"}${next}`;
  }
  if (attempt === null) {
    if (dueAt === null) return "Waiting for the first wake-up";
    return `Waiting for the first wake-up (${dueAt > now ? `at the latest in ${span(dueAt - now)}` : `due ${ago(now, dueAt)}`})`;
  }
  const seen =
    devices.lastSeenAt === null ? "never seen since it was registered" : `last seen ${ago(now, devices.lastSeenAt)}`;
  if (isByStream(attempt)) {
    const stream = devices.streaming === 0 ? "which has ended since" : `which is open`;
    return `Sent ${ago(now, attempt.at)} over the phone's stream, ${stream}, and not confirmed yet`;
  }
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

/** ENROUTE by a stream is told by its detail, `<device> stream <epoch>:<seq>`. */
function isByStream({ event, detail }: NonNullable<TraceFacts["attempt"]>): boolean {
  return event === "STREAM" || (event === "ENROUTE" && detail?.includes(" stream ") === true);
}

/** When its own phones are tried again, where that comes before anything else does. */
function repeatClause(facts: TraceFacts): string | null {
  const { now, attempt, dueAt, delivered } = facts;
  if (attempt === null || attempt.event === "WAKE" || attempt.event === "WAIT" || dueAt === null || dueAt <= now)
    return null;
  if (facts.outcome !== null || isSettled(facts) || isPassedOn(facts)) return null;
  const next = nextOf(facts);
  if (next !== null && next.at <= dueAt) return null;
  const again = delivered ? "reminded" : isByStream(attempt) ? "pushed as well" : "woken again";
  return `${again} in ${span(dueAt - now)}`;
}

function noticeClause({ noticesOut }: TraceFacts): string | null {
  return noticesOut === 0 ? null : `${count(noticesOut, "phone")} yet to hear that it is withdrawn`;
}

function overdueClause(facts: TraceFacts): string | null {
  const { now, dueAt, delivered, outcome } = facts;
  if (dueAt !== null) {
    return now - dueAt > OVERDUE_MS ? `its next step is overdue by ${span(now - dueAt)}: no node drives it` : null;
  }
  return outcome === null && !delivered && !isSettled(facts) ? "nothing more is due for it" : null;
}

function parentClause({ parent }: TraceFacts): string | null {
  if (parent === null) return null;
  return `passed on from ${parent.uniqueId}${parent.step === null ? "" : ` by step ${parent.step} of its rule`}`;
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
