/** The sentences of a page whose site has a rule, and of those it was passed on to. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type TraceFacts, whyOf } from "../persistence/trace-reason.ts";
import { NOBODY, NOW, PASSED_ON, PUSHED, RULE, SECOND, THEN, WAITING } from "./helpers/trace-facts.ts";

const SENTENCES: [string, TraceFacts, string][] = [
  [
    "a rule is to follow",
    { ...WAITING, rule: { ...RULE, steps: RULE.steps.slice(0, 1) } },
    "Waiting for the first wake-up (at the latest in 2 s). If nobody fetches it by 12:00:38 UTC (in 38 s), it goes to the group ICU on call; then FAILED.",
  ],
  [
    "a long rule is to follow, of which some is no more",
    {
      ...WAITING,
      rule: {
        onIgnored: false,
        steps: [
          { kind: "DEVICES", name: null },
          { kind: "GROUP", name: null },
          { kind: "SUBSCRIBER", name: null },
          { kind: "GATEWAY", name: null },
          { kind: "SUBSCRIBER", name: "5550102" },
        ],
      },
    },
    "Waiting for the first wake-up (at the latest in 2 s). If nobody fetches it by 12:00:38 UTC (in 38 s), it goes to the recipient's other phones, then to a group that is no more, then to a person who is no more, then 2 more steps; then FAILED.",
  ],
  [
    "passed on",
    PASSED_ON,
    "Passed on to the group ICU on call 9 s ago (step 1 of 3 of the rule), 1 of 3 pages fetched, none answered yet. If nobody answers by 12:01:00 UTC (in 60 s), it goes to 5550102, then by the gateway night mail; then FAILED.",
  ],
  [
    "passed on by the last step",
    { ...PASSED_ON, step: 3, family: NOBODY },
    "Passed on by the gateway night mail 9 s ago (step 3 of 3 of the rule). If nobody answers by 12:01:00 UTC (in 60 s), the host is told FAILED.",
  ],
  [
    "passed on, no answer asked for",
    { ...PASSED_ON, asksAnswer: false, family: { ...NOBODY, children: 1 } },
    "Passed on to the group ICU on call 9 s ago (step 1 of 3 of the rule), 0 of 1 page fetched. If nobody fetches it by 12:01:00 UTC (in 60 s), it goes to 5550102, then by the gateway night mail; then FAILED.",
  ],
  [
    "passed on, and the rule has been taken away since",
    { ...PASSED_ON, rule: null },
    "Passed on 9 s ago (step 1 of the rule), 1 of 3 pages fetched, none answered yet. If nobody answers by 12:01:00 UTC (in 60 s), the host is told FAILED.",
  ],
  [
    "a step that found nobody",
    { ...PASSED_ON, skipped: true, stepDeadline: NOW, dueAt: NOW },
    "Step 1 of 3 of the rule found nobody. Now it goes to 5550102, then by the gateway night mail; then FAILED.",
  ],
  [
    "sent to the recipient's other phones",
    {
      ...PUSHED,
      rule: { onIgnored: false, steps: [{ kind: "DEVICES", name: null }] },
      step: 1,
      stepDeadline: NOW + 60 * SECOND,
    },
    "FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago); woken again in 25 s. If nobody fetches it by 12:01:00 UTC (in 60 s), the host is told FAILED.",
  ],
  [
    "answered by one it was passed on to",
    { ...PASSED_ON, family: { ...PASSED_ON.family, answered: true, answeredBy: ["5550102"] }, dueAt: null },
    "Answered by 5550102, to whom it was passed on.",
  ],
  [
    "answered by many it was passed on to",
    {
      ...PASSED_ON,
      family: { ...PASSED_ON.family, answered: true, answeredBy: ["1", "2", "3", "4", "5"] },
    },
    "Answered by 1, 2, 3 and 2 more, to whom it was passed on.",
  ],
  [
    "it was itself passed on",
    { ...WAITING, parent: { uniqueId: "p-1", step: 2 } },
    `Waiting for the first wake-up (at the latest in 2 s); passed on from p-1 by step 2 of its rule.${THEN}`,
  ],
  [
    "it was itself passed on, nobody knows by which step",
    { ...WAITING, parent: { uniqueId: "p-1", step: null } },
    `Waiting for the first wake-up (at the latest in 2 s); passed on from p-1.${THEN}`,
  ],
];
for (const [state, facts, sentence] of SENTENCES) {
  test(`a page's trace says why, and what is next: ${state}`, () => {
    assert.is(whyOf(facts), sentence);
  });
}

test.run();
