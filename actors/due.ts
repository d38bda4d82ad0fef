/**
 * What is to happen to a page next, from what its row says. Pure.
 *
 *                         (first that holds)
 *   recalled                                ─► a wake-up, while some of its devices have yet to hear so; nothing
 *   its time is over                        ─► EXPIRED (told as FAILED unless told before, or settled)
 *   answered for its family, who do not know ─► they are told, and nothing is due for them any more
 *   settled                                 ─► nothing
 *   an outcome was told, not DELIVERED      ─► kept until it expires
 *   its deadline has passed                 ─► the rule's next step, or FAILED; nothing, where that was told before it was DELIVERED
 *   passed on                               ─► nothing before the step's deadline
 *   not DELIVERED                           ─► another wake-up
 *   DELIVERED, reminders left               ─► a reminder; none left ─► nothing before the deadline
 *
 * What is settled, and which deadline it has: persistence/page-standing.ts.
 */
import { rankOf } from "../domain.ts";
import type { RuleStep } from "../persistence/escalation-rules.ts";
import type { DueMessage } from "../persistence/messages.ts";
import { deadlineOf, isPassedOn, isSettled, type PageStanding } from "../persistence/page-standing.ts";

/** What of the row decides it. */
export type Standing = Pick<
  DueMessage,
  | "status"
  | "answer"
  | "replied"
  | "outcome"
  | "asksAnswer"
  | "deviceDeadline"
  | "userDeadline"
  | "expiresAt"
  | "reminders"
  | "profile"
  | "step"
  | "stepDeadline"
  | "rule"
  | "settledByFamily"
  | "untoldAnswer"
> & {
  /** The devices that can be woken for it; once it is recalled, those that have yet to hear so. */
  readonly targets: readonly unknown[];
};

export type Due =
  | { readonly kind: "expired"; readonly detail: string; readonly outcome: "EXPIRED" | null }
  | { readonly kind: "failed"; readonly detail: string; readonly kept: boolean }
  | { readonly kind: "step"; readonly number: number; readonly step: RuleStep }
  | { readonly kind: "tell-family" }
  | { readonly kind: "wake" }
  /** `until`: it is looked at again then, if at all. */
  | { readonly kind: "nothing"; readonly detail: string; readonly until: "never" | "expiry" | "deadline" };

export function dueOf(row: Standing, now: number): Due {
  if (row.outcome === "RECALLED") {
    if (row.targets.length > 0 && row.expiresAt > now) return { kind: "wake" };
    return { kind: "nothing", detail: "recalled, and no phone has to be woken for it", until: "never" };
  }
  const delivered = rankOf(row.status) >= rankOf("DELIVERED");
  const family = { delivered: row.settledByFamily, answered: row.settledByFamily };
  const page: PageStanding = { ...row, delivered, family };
  const settled = isSettled(page);
  if (row.expiresAt <= now) return expired(row, delivered, settled);
  if (row.untoldAnswer) return { kind: "tell-family" };
  if (settled) return { kind: "nothing", detail: "nothing is due", until: "never" };
  if (!delivered && row.outcome !== null) return { kind: "nothing", detail: "kept until it expires", until: "expiry" };
  const deadline = deadlineOf(page);
  if (deadline !== null && deadline <= now) {
    if (row.outcome !== null) return { kind: "nothing", detail: "it has failed before", until: "never" };
    const step = row.rule?.steps[row.step];
    if (step !== undefined) return { kind: "step", number: row.step + 1, step };
    return { kind: "failed", detail: failureOf(row, delivered), kept: !delivered };
  }
  if (isPassedOn(page)) return { kind: "nothing", detail: "passed on", until: "deadline" };
  if (!delivered) return { kind: "wake" };
  if (row.reminders >= row.profile.repeats)
    return { kind: "nothing", detail: "reminded as often as is set", until: "deadline" };
  return { kind: "wake" };
}

function failureOf(row: Standing, delivered: boolean): string {
  if (row.step > 0)
    return row.asksAnswer ? "passed on, and answered by nobody in time" : "passed on, and fetched by nobody in time";
  if (delivered) return "delivered, but not answered in time";
  return row.status === "ENROUTE" ? "woken, but not fetched by any device in time" : "no device could be woken in time";
}

function expired(row: Standing, delivered: boolean, settled: boolean): Due {
  const told = settled || (delivered && !row.asksAnswer);
  const detail = told
    ? "no longer kept for fetching"
    : delivered
      ? "delivered, but not answered before it expired"
      : "expired before any device fetched it";
  return { kind: "expired", detail, outcome: told ? null : "EXPIRED" };
}
