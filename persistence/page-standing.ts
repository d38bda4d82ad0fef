/**
 * Whether a page is settled, who has it now, and by when something must have come of it: by this its driver acts (actors/due), and its
 * trace foretells what that will do. Pure.
 *
 *   settled    an answer is asked for: somebody has answered (ACKNOWLEDGED, a reply, or IGNORED where a page that is declined is
 *              not passed on), here or another of its family; else: it was DELIVERED, here or there
 *   deadline   before any step: timeoutDevice from acceptance, and once DELIVERED timeoutUser from there; then the step's
 */
import type { Answer, Outcome } from "../domain.ts";
import type { RuleStep } from "./escalation-rules.ts";

/** Times in ms since 1970, on the database's clock. */
export type PageStanding = {
  readonly delivered: boolean;
  readonly answer: Answer | null;
  readonly replied: boolean;
  readonly outcome: Outcome | null;
  readonly asksAnswer: boolean;
  readonly deviceDeadline: number | null;
  readonly userDeadline: number | null;
  /** Steps of the rule taken so far, and by when the last must have led to an end. */
  readonly step: number;
  readonly stepDeadline: number | null;
  /** null: its site has none for its type, or it was itself passed on. */
  readonly rule: { readonly onIgnored: boolean; readonly steps: readonly Pick<RuleStep, "kind">[] } | null;
  /** Whether any of those it was passed on to, or with which it was passed on. */
  readonly family: { readonly delivered: boolean; readonly answered: boolean };
};

/** Somebody has it, as far as is asked for: nothing is done for it any more. */
export function isSettled({ delivered, answer, replied, asksAnswer, rule, family }: PageStanding): boolean {
  if (replied) return true;
  if (!asksAnswer) return delivered || family.delivered;
  if (family.answered) return true;
  return answer === "IGNORED" ? rule === null || !rule.onIgnored : answer !== null;
}

/** Others have it now, and its own devices are left alone. What went to more of them is still theirs. */
export function isPassedOn({ step, outcome, rule }: PageStanding): boolean {
  return step > 0 && outcome === null && rule?.steps[step - 1]?.kind !== "DEVICES";
}

/** Of one that is not settled; null: it has none. */
export function deadlineOf(page: PageStanding): number | null {
  // It was declined, and is to be passed on: now, whenever that is.
  if (page.answer === "IGNORED" && page.outcome === null && !isPassedOn(page)) return 0;
  if (page.step > 0 && page.outcome === null) return page.stepDeadline;
  return page.delivered ? page.userDeadline : page.deviceDeadline;
}
