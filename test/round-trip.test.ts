/** What the test pages of a site say of it: the machine alone. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { StatusText } from "../domain.ts";
import { type Effect, LATE_MS, LOST_MS, newSite, type State, step } from "../gateways/synthetic/round-trip.ts";

const EVERY_MS = 60_000;

function site() {
  let state: State = newSite(0);
  let ids = 0;
  const take = (event: Parameters<typeof step>[1]): readonly Effect[] => {
    const stepped = step(state, event, EVERY_MS);
    state = stepped.state;
    return stepped.effects.filter(({ kind }) => kind !== "reached");
  };
  return {
    state: () => state,
    at: (now: number) => take({ kind: "tick", now, freshId: `page-${++ids}` }),
    told: (now: number, status: StatusText, trackingId = state.out?.trackingId ?? "none") =>
      take({ kind: "told", now, trackingId, status }),
  };
}

test("a page that comes back in ten seconds is delivered, and the next is due a period after it was", () => {
  const { at, told, state } = site();
  assert.equal(at(0), []);
  assert.is(state().out?.trackingId, "page-1");
  assert.equal(told(20, "ACCEPTED"), []);
  assert.equal(told(LATE_MS, "DELIVERED"), [{ kind: "outcome", outcome: "delivered" }]);
  assert.is(state().out, null);
  at(EVERY_MS - 1);
  assert.is(state().out, null);
  at(EVERY_MS);
  assert.is(state().out?.at, EVERY_MS);
});

test("one that does not is an outage, told once, whose end is the next that comes back, late or in time", () => {
  const { at, told, state } = site();
  at(0);
  told(30, "QUEUED");
  assert.equal(at(LATE_MS), [{ kind: "broken", standing: "QUEUED" }]);
  assert.equal(at(LATE_MS + 1_000), []);
  assert.is(state().brokenSince, 0);
  assert.equal(told(LATE_MS + 5_000, "DELIVERED"), [
    { kind: "outcome", outcome: "late" },
    { kind: "well", ms: LATE_MS + 5_000 },
  ]);
  assert.is(state().brokenSince, null);
});

test("lost pages follow each other within one outage, which began with the first", () => {
  const { at, told, state } = site();
  at(0);
  assert.equal(at(LATE_MS), [{ kind: "broken", standing: null }]);
  assert.equal(at(LOST_MS), [{ kind: "outcome", outcome: "lost" }]);
  at(LOST_MS + 1);
  assert.equal(told(LOST_MS + 50, "DELIVERED", "page-1"), [], "what was given up says nothing of now");
  assert.equal(told(LOST_MS + 60, "FAILED"), [{ kind: "outcome", outcome: "lost" }]);
  at(2 * EVERY_MS);
  assert.is(state().brokenSince, 0);
  assert.equal(told(2 * EVERY_MS + 100, "DELIVERED"), [
    { kind: "outcome", outcome: "delivered" },
    { kind: "well", ms: 2 * EVERY_MS + 100 },
  ]);
});

test("a page that FAILED at once is an outage at once, and one after a standstill stands for all that were missed", () => {
  const { at, told, state } = site();
  at(0);
  assert.equal(told(10, "FAILED"), [
    { kind: "outcome", outcome: "lost" },
    { kind: "broken", standing: "FAILED" },
  ]);
  at(20 * EVERY_MS);
  told(20 * EVERY_MS + 10, "DELIVERED");
  at(20 * EVERY_MS + 1_000);
  told(20 * EVERY_MS + 1_010, "DELIVERED");
  at(20 * EVERY_MS + 2_000);
  assert.is(state().out, null);
});

test.run();
