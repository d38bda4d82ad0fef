import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Lease, type LeaseEvent, nextLookMs, noLease, stepLease } from "../cluster/lease.ts";
import type { BootId } from "../domain.ts";
import type { NodeRow, Renewed } from "../persistence/leases.ts";
import { nodeRow as row } from "./helpers/node-row.ts";

const ME = "me" as BootId;
const says = (more: Partial<Renewed> = {}): Renewed => ({
  now: 0,
  timeline: "7/1",
  startedAt: 0,
  nodes: [row("me"), row("other")],
  ...more,
});
const answered = (asked: number, more: Partial<Renewed> = {}): LeaseEvent => ({
  kind: "answered",
  asked,
  state: "LIVE",
  renewed: says(more),
});
/** Each event at its time. */
function after(...events: [number, LeaseEvent][]) {
  let lease: Lease = noLease(ME);
  let effects: ReturnType<typeof stepLease>["effects"] = [];
  for (const [now, event] of events) ({ lease, effects } = stepLease(lease, event, now));
  const report = effects.find((effect) => effect.kind === "report")?.report ?? null;
  return { lease, report, kinds: effects.map((effect) => effect.kind) };
}
const held = (from: number, ms: number): [number, LeaseEvent][] =>
  Array.from({ length: ms / 100 }, (_, n) => [from + 100 * (n + 1), { kind: "looked", ticked: false, ms: 100 }]);

test("a lease is good for 1.7 s from when it was asked for, however late the answer", () => {
  assert.is(after([40, answered(10)]).lease.until, 1_710);
  assert.is(after([1_500, answered(10)]).lease.until, 1_710);
});

test("renewed in time it stays in its tenure; after a lapse, a writing off, or at the beginning it has a new one", () => {
  assert.is(after([10, answered(0)]).lease.tenure, 1);
  assert.is(after([10, answered(0)], [510, answered(500)]).lease.tenure, 1);
  assert.is(after([10, answered(0)], [1_699, answered(1_690)]).lease.tenure, 1);
  assert.is(after([10, answered(0)], [1_700, answered(1_690)]).lease.tenure, 2);
  assert.is(after([10, answered(0)], [510, answered(500, { nodes: [row("other")] })]).lease.tenure, 2);
});

test("on a timeline not seen before what was known is void, and nobody is judged for 2 s", () => {
  for (const other of [{ timeline: "7/2" }, { timeline: "8/1" }, { startedAt: 5 }]) {
    const { lease, report } = after([10, answered(0)], [510, answered(500, other)]);
    assert.equal([lease.tenure, lease.until, report!.judges, report!.tenure], [2, 2_200, false, 2]);
    const later = (at: number) => after([10, answered(0)], [510, answered(500, other)], [at, answered(at - 10, other)]);
    assert.is(later(2_509).report!.judges, false);
    assert.is(later(2_510).report!.judges, true);
    assert.is(later(1_010).lease.tenure, 2, "and that once");
  }
});

test("the first server that answers is not taken for a new one: a node that starts judges at once", () => {
  assert.is(after([10, answered(0)]).report!.judges, true);
});

test("a server of a timeline left behind renews nothing", () => {
  const { lease, report, kinds } = after(
    [10, answered(0)],
    [510, answered(500, { timeline: "7/2" })],
    [1_010, answered(1_000)],
  );
  assert.equal([lease.until, report, kinds], [2_200, null, ["outdated"]]);
});

test("a main loop that is not seen to turn for 1 s voids the lease, whatever answers come, until it turns", () => {
  const begun: [number, LeaseEvent][] = [[10, answered(0)]];
  assert.is(after(...begun, ...held(10, 900)).lease.stalled, false);
  const stalled = after(...begun, ...held(10, 1_000));
  assert.equal(
    [stalled.lease.stalled, stalled.lease.until, stalled.kinds],
    [true, Number.NEGATIVE_INFINITY, ["renew"]],
  );
  const late = after(...begun, ...held(10, 1_000), [1_020, answered(900)]);
  assert.equal([late.lease.until, late.report], [Number.NEGATIVE_INFINITY, null]);
  const turns: [number, LeaseEvent] = [1_200, { kind: "looked", ticked: true, ms: 100 }];
  const turning = after(...begun, ...held(10, 1_000), [1_100, { kind: "given-up" }], turns);
  assert.equal([turning.lease.stalled, turning.kinds], [false, ["renew"]]);
  const back = after(...begun, ...held(10, 1_000), turns, [1_250, answered(1_210)]);
  assert.equal([back.lease.tenure, back.lease.until], [2, 2_910]);
});

test("a thread that died leaves its tenure and timelines to the next", () => {
  const { lease } = after([10, answered(0)], [510, answered(500, { timeline: "7/2" })]);
  const next = stepLease(noLease(ME, lease), answered(600), 610);
  assert.equal(
    next.effects.map((effect) => effect.kind),
    ["outdated"],
  );
  assert.is(stepLease(noLease(ME, lease), answered(600, { timeline: "7/2" }), 610).lease.tenure, 3);
});

// the other node's row, when it is looked at next
const looks: [string, Partial<NodeRow>, number][] = [
  ["well", {}, 500],
  ["without its lock, just heard of", { locked: false, silentMs: 100 }, 500],
  ["without its lock, silent for 450 ms", { locked: false, silentMs: 450 }, 155],
  ["without its lock, about to be judged", { locked: false, silentMs: 599 }, 20],
  ["dead", { locked: false, silentMs: 800 }, 500],
  ["silent, its lease about to run out", { silentMs: 1_900, leaseMs: 100 }, 105],
];
for (const [what, more, ms] of looks) {
  test(`the next renewal after one that showed a node ${what} is due in ${ms} ms`, () => {
    assert.is(nextLookMs(noLease(ME), [row("me", { leaseMs: 1 }), row("other", more)], 0), ms);
  });
}

test("while nobody is judged the next renewal is due when judging begins", () => {
  const lease = { ...noLease(ME), judgesFrom: 1_300 };
  const nodes = [row("me"), row("other", { leaseMs: 10 })];
  assert.is(nextLookMs(lease, nodes, 1_000), 305);
  assert.is(nextLookMs(lease, nodes, 0), 500);
});

test("a node that is not in the list yet looks again at once", () => {
  assert.is(nextLookMs(noLease(ME), [row("other")], 0), 20);
});

test.run();
