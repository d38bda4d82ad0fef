/**
 * Where one page is, why, and what happens next: its row, its history, its family, what its wake-ups met and what its host has
 * yet to be told, read together for an operator. Never its text and no person's name.
 */
import { rankOf, type StatusText, transportOf, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { gatewayEvents } from "./dispatch-events.ts";
import { findPage, type Refusal } from "./page-search.ts";
import { isSettled } from "./page-standing.ts";
import { nextOf, nextText } from "./trace-next.ts";
import { type TraceFacts, whyOf } from "./trace-reason.ts";
import { EVENTS_MAX, type Kin, type Notice, readPage, type TracedPage, type TraceEvent } from "./traced-page.ts";
import { eventsOfPush, furthest, readPushes, type TracedPush } from "./traced-pushes.ts";

export type Relative = Pick<Kin, "uniqueId" | "relation" | "destination" | "status" | "outcome" | "acceptedAt"> & {
  readonly why: string;
};

export type Trace = {
  /** null: it was refused before it became a message. */
  readonly uniqueId: UniqueId | null;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  /** The last word the host was told. */
  readonly status: StatusText;
  readonly why: string;
  /** What happens next and when, if nothing comes between; null: nothing. */
  readonly next: { readonly what: string; readonly at: Date } | null;
  /** Nothing more is awaited of it, nor of those it was passed on to. */
  readonly finished: boolean;
  readonly deadlines: {
    /** When a node looks at it again. */
    readonly due: Date | null;
    readonly device: Date | null;
    readonly user: Date | null;
    readonly step: Date | null;
    readonly expires: Date;
  } | null;
  /** Oldest first, the newest of them. */
  readonly events: readonly TraceEvent[];
  /** Older events that are left out. */
  readonly earlier: number;
  readonly family: readonly Relative[];
  /** What phones have yet to hear of it. */
  readonly notices: readonly Notice[];
  /** Other pages under the same trackingId, newest first. */
  readonly others: readonly UniqueId[];
};

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const REACHING = ["WAKE", "ENROUTE", "PUSH", "WAIT", "STREAM"];

/** @param which a uniqueId, a host's trackingId, or `last`; null when there is no such page */
export async function trace(premise: Database, which: string): Promise<Trace | null> {
  const found = await findPage(premise, which);
  if (found === null) return null;
  if (found.kind === "refusal") return traceOfRefusal(found);
  const page = await readPage(premise, found.uniqueId);
  if (page === null) return null;
  const [pushes, dispatched] = await Promise.all([
    readPushes(premise, pushesOf(page)),
    gatewayEvents(premise, page.uniqueId),
  ]);
  const facts = factsOf(page, pushes);
  const next = nextOf(facts);
  const history = page.history.map(({ seq, ...line }) => ({ id: String(seq), ...line }));
  return {
    uniqueId: page.uniqueId,
    trackingId: page.trackingId,
    origin: page.origin,
    destination: page.destination,
    status: page.told,
    why: whyOf(facts),
    next: next === null ? null : { what: nextText(next), at: new Date(next.at) },
    finished: isFinished(page, facts),
    deadlines: {
      due: page.dueAt,
      device: page.deviceDeadline,
      user: page.userDeadline,
      step: page.stepDeadline,
      expires: page.expiresAt,
    },
    events: [...history, ...pushes.flatMap(eventsOfPush), ...dispatched].sort(
      (a, b) => a.at.getTime() - b.at.getTime(),
    ),
    // Each line has the version of its change.
    earlier: (page.history[0]?.seq ?? 1) - 1,
    family: page.family.map(relativeOf),
    notices: page.notices,
    others: found.others,
  };
}

function traceOfRefusal({ trackingId, origin, destination, reason, node, at, others }: Refusal): Trace {
  return {
    uniqueId: null,
    trackingId,
    origin,
    destination,
    status: "FAILED",
    why: `Refused before it was accepted: ${reason}.`,
    next: null,
    finished: true,
    deadlines: null,
    events: [{ id: "refused", at, event: "REFUSED", node, detail: reason }],
    earlier: 0,
    family: [],
    notices: [],
    others,
  };
}

/** Ids of the pushes that its history names; a stream's are other ids. */
function pushesOf(page: TracedPage): string[] {
  return page.history
    .filter(({ event, detail }) => REACHING.includes(event) && detail?.includes(" stream ") === false)
    .flatMap(({ detail }) => detail?.match(UUID) ?? [])
    .slice(-EVENTS_MAX);
}

function relativeOf({ uniqueId, relation, destination, status, outcome, acceptedAt, step }: Kin): Relative {
  const by = step === null ? "" : ` by step ${step} of the rule`;
  const why =
    relation === "parent"
      ? "this page was passed on from it"
      : relation === "child"
        ? `this page was passed on to it${by}`
        : `passed on from the same page${by}`;
  return { uniqueId, relation, destination, status, outcome, acceptedAt, why };
}

/** DELIVERED alone is not the end of a page: READ may follow. One that failed goes on where others still have it. */
function isFinished(page: TracedPage, facts: TraceFacts): boolean {
  if (isSettled(facts))
    return facts.asksAnswer || facts.status === "READ" || facts.family.delivered || page.outcome !== null;
  const children = page.family.filter(({ relation }) => relation === "child");
  return page.outcome !== null && children.every(({ answered, outcome }) => answered || outcome !== null);
}

function factsOf(page: TracedPage, pushes: readonly TracedPush[]): TraceFacts {
  const transport = transportOf(page.status);
  const last = (test: (event: string) => boolean) => page.history.findLast((line) => test(line.event)) ?? null;
  const at = (test: (event: string) => boolean) => last(test)?.at.getTime() ?? null;
  const attempt = last((event) => REACHING.includes(event));
  const answeredAt = page.answer === null ? null : at((event) => event === page.answer);
  const children = page.family.filter(({ relation }) => relation === "child");
  const answering = page.family.filter(({ answered }) => answered);
  return {
    now: page.now.getTime(),
    status: transport,
    delivered: page.status >= rankOf("DELIVERED"),
    answer: page.answer,
    replied: page.repliedAt !== null,
    outcome: page.outcome,
    outcomeReason: page.outcomeReason,
    asksAnswer: page.asksAnswer,
    dueAt: ms(page.dueAt),
    deviceDeadline: ms(page.deviceDeadline),
    userDeadline: ms(page.userDeadline),
    expiresAt: page.expiresAt.getTime(),
    step: page.step,
    stepDeadline: ms(page.stepDeadline),
    reminders: page.reminders,
    repeats: page.repeats,
    skipped: last((event) => event === "ESCALATED" || event === "SKIPPED")?.event === "SKIPPED",
    rule: page.rule,
    since: {
      status: at((event) => event === transport) ?? answeredAt ?? page.acceptedAt.getTime(),
      answer: answeredAt,
      reply: ms(page.repliedAt),
      outcome: page.outcome === null ? null : at((event) => event === page.outcome),
      step: at((event) => event === "ESCALATED"),
    },
    attempt:
      attempt === null ? null : { event: attempt.event as "WAKE", at: attempt.at.getTime(), detail: attempt.detail },
    push: furthest(pushes),
    devices: {
      active: page.active,
      reachable: page.reachable,
      streaming: page.streaming,
      lastSeenAt: ms(page.lastSeenAt),
    },
    host: {
      connected: page.connected,
      waiting: page.waiting.map((row) => ({ ...row, at: new Date(row.at).getTime() })),
    },
    parent: page.parentId === null ? null : { uniqueId: page.parentId, step: page.madeBy },
    family: {
      children: children.length,
      fetched: children.filter(({ delivered }) => delivered).length,
      delivered: page.family.some(({ delivered }) => delivered),
      answered: answering.length > 0,
      answeredBy: answering.map(({ destination }) => destination),
    },
    noticesOut: page.notices.filter(({ kind }) => kind !== "ANSWERED").length,
  };
}

function ms(at: Date | null): number | null {
  return at === null ? null : at.getTime();
}
