/** What a trace foretells is what the page's driver does, whatever state the page is in. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { dueOf, type Standing } from "../actors/due.ts";
import { type NextFacts, nextOf } from "../persistence/trace-next.ts";

const NOW = 1_000_000;
const soon = fc.integer({ min: NOW - 100, max: NOW + 1_000 });
const steps = fc.array(fc.constantFrom("DEVICES", "GROUP"), { maxLength: 4 });

type Both = { readonly row: Standing; readonly facts: NextFacts };
const pages: fc.Arbitrary<Both> = fc
  .record({
    status: fc.constantFrom("QUEUED", "ENROUTE", "DELIVERED", "READ"),
    answer: fc.constantFrom(null, "ACKNOWLEDGED", "IGNORED"),
    replied: fc.boolean(),
    asksAnswer: fc.boolean(),
    deviceDeadline: fc.option(soon),
    userDeadline: soon,
    stepDeadline: soon,
    expiresAt: soon,
    step: fc.nat(4),
    rule: fc.option(fc.record({ onIgnored: fc.boolean(), steps })),
    settledByFamily: fc.boolean(),
    reminders: fc.nat(3),
  })
  .map(({ status, rule, settledByFamily, ...drawn }): Both => {
    const delivered = status === "DELIVERED" || status === "READ";
    const step = Math.min(drawn.step, rule?.steps.length ?? 0);
    const common = {
      ...drawn,
      outcome: null,
      answer: delivered ? drawn.answer : null,
      userDeadline: delivered && drawn.asksAnswer ? drawn.userDeadline : null,
      step,
      stepDeadline: step > 0 ? drawn.stepDeadline : null,
    } as const;
    const family = { delivered: settledByFamily && step > 0, answered: settledByFamily && step > 0 };
    return {
      row: {
        ...common,
        status,
        settledByFamily: settledByFamily && step > 0,
        untoldAnswer: false,
        targets: [],
        profile: { intervalSeconds: 60, repeats: 2 },
        rule: (rule && { ...rule, steps: rule.steps.map((kind) => ({ kind })) }) as Standing["rule"],
      },
      facts: {
        ...common,
        now: NOW,
        delivered,
        dueAt: null,
        rule: rule && { ...rule, steps: rule.steps.map((kind) => ({ kind, name: "x" })) },
        family,
      },
    };
  });

test("what comes next, and when, is what the driver does then, and nothing before", () => {
  const met = new Set<string>();
  fc.assert(
    fc.property(pages, ({ row, facts }) => {
      const next = nextOf(facts);
      if (next === null) {
        const due = dueOf(row, Math.min(NOW, row.expiresAt - 1));
        assert.is(due.kind, "nothing");
        met.add("nothing");
        return;
      }
      const due = dueOf(row, Math.max(next.at, NOW));
      met.add(due.kind);
      if (due.kind === "step") assert.match(next.what, /^it goes to/);
      else if (due.kind === "failed") assert.is(next.what, "the host is told FAILED");
      else if (due.kind === "expired") assert.is(next.what, "it expires, and the host is told FAILED");
      else assert.unreachable(`${due.kind}: ${next.what}`);
      if (next.at > NOW) assert.ok(["wake", "nothing"].includes(dueOf(row, next.at - 1).kind));
    }),
    { numRuns: 5_000 },
  );
  assert.equal([...met].sort(), ["expired", "failed", "nothing", "step"]);
});

test.run();
