/**
 * What happens to a page next, and when, if nothing comes between: for the sentence of its trace. Pure. It foretells what
 * `actors/due` decides; `test/trace-next` holds the two together.
 *
 *   answered for, or an outcome was told          ─► nothing but its end: kept for fetching until it expires
 *   its deadline is ahead                         ─► the rule's next step then, or FAILED
 *   its deadline is behind                        ─► the same, now
 *   it has none                                   ─► it expires, told as FAILED
 */
import type { RuleStep } from "./escalation-rules.ts";
import { deadlineOf, isSettled, type PageStanding } from "./page-standing.ts";
import { by, span } from "./trace-words.ts";

/** A step of a site's rule; `name`: of a group or gateway, a person's address; null: it is no more. */
export type StepFacts = {
  readonly kind: RuleStep["kind"];
  readonly name: string | null;
};
export type RuleFacts = { readonly onIgnored: boolean; readonly steps: readonly StepFacts[] };

/** Times in ms since 1970, on the database's clock. */
export type NextFacts = Omit<PageStanding, "rule"> & {
  readonly now: number;
  readonly dueAt: number | null;
  readonly expiresAt: number;
  readonly rule: RuleFacts | null;
};

export type Next = {
  readonly at: number;
  /** What would keep it from happening: "nobody answers". */
  readonly unless: string | null;
  readonly what: string;
};

/** Steps that are named before the rest is only counted. */
const NAMED_MAX = 3;

export function nextOf(facts: NextFacts): Next | null {
  const { now, dueAt, outcome, delivered, expiresAt, rule, step } = facts;
  if (isSettled(facts) || outcome !== null) {
    // Another device has yet to fetch it, or the recipient may still.
    const kept = dueAt !== null && dueAt >= expiresAt && outcome !== "RECALLED" && outcome !== "EXPIRED";
    return kept ? { at: expiresAt, unless: null, what: "it can no longer be fetched" } : null;
  }
  const deadline = deadlineOf(facts);
  if (deadline === null || deadline >= expiresAt || expiresAt <= now) {
    const unless = facts.asksAnswer && delivered ? "nobody answers" : "nobody fetches it";
    return { at: expiresAt, unless, what: "it expires, and the host is told FAILED" };
  }
  const what = consequenceOf(rule?.steps.slice(step) ?? []);
  if (deadline <= now) return { at: now, unless: null, what };
  const verb = facts.asksAnswer && (delivered || step > 0) ? "answers" : "fetches it";
  return { at: deadline, unless: `nobody ${verb}`, what };
}

function consequenceOf(steps: readonly StepFacts[]): string {
  if (steps.length === 0) return "the host is told FAILED";
  const named = steps.slice(0, NAMED_MAX).map(wayOf);
  const rest = steps.length - named.length;
  const more = rest === 0 ? [] : [rest === 1 ? "one more step" : `${rest} more steps`];
  return `it goes ${[...named, ...more].join(", then ")}; then FAILED`;
}

/** Where a step sends a page: "to the group ICU on call". */
export function wayOf({ kind, name }: StepFacts): string {
  switch (kind) {
    case "DEVICES":
      return "to the recipient's other phones";
    case "SUBSCRIBER":
      return name === null ? "to a person who is no more" : `to ${name}`;
    case "GROUP":
      return name === null ? "to a group that is no more" : `to the group ${name}`;
    case "GATEWAY":
      return name === null ? "by a gateway that is no more" : `by the gateway ${name}`;
  }
}

/** "If nobody fetches it by 14:02:10 UTC (in 38 s), it goes to the group ICU on call; then FAILED." */
export function nextSentence(now: number, { at, unless, what }: Next): string {
  if (at <= now) return `Now ${what}`;
  return unless === null ? `In ${span(at - now)} ${what}` : `If ${unless} ${by(now, at)}, ${what}`;
}

/** The same without its time, which goes beside it. */
export function nextText({ unless, what }: Next): string {
  return unless === null ? what : `if ${unless}, ${what}`;
}
