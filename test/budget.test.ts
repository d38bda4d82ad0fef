import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { heapBytes } from "../cluster/heap.ts";
import { budgetBytes, openBudget, type Share } from "../gateways/budget.ts";

const MIB = 2 ** 20;

test("all connections together take no more than there is, but for the last one's document", () => {
  const budget = openBudget(8 * MIB);
  const shares = Array.from({ length: 1_000 }, () => budget.share(() => {}));
  for (let round = 0; round < 10; round += 1) for (const share of shares) if (!share.full()) share.take(256 * 1024);
  assert.ok(budget.used() <= 8 * MIB + 256 * 1024, `${budget.used()}`);
  assert.ok(budget.used() >= 8 * MIB);
});

test("one connection has at most an eighth of all, and takes more when it has given some back", () => {
  const budget = openBudget(64 * MIB);
  const share = budget.share(() => assert.unreachable("it waits for nobody else"));
  share.take(8 * MIB);
  assert.ok(share.full());
  assert.not.ok(budget.share(() => {}).full());
  share.give(MIB);
  assert.not.ok(share.full());
});

test("what floods stops at three quarters; a connection with nothing under way goes on", () => {
  const budget = openBudget(4 * MIB);
  const flooding = Array.from({ length: 10 }, () => budget.share(() => {}));
  for (const share of flooding.slice(0, 6)) share.take(MIB / 2);
  assert.ok(flooding[0]!.full(), "it has some already");
  const calm = budget.share(() => {});
  assert.not.ok(calm.full());
  calm.take(MIB);
  assert.ok(budget.share(() => {}).full(), "now nobody");
});

test("connections are called in turn when there is room again, those with nothing under way first, each once", () => {
  const budget = openBudget(4 * MIB);
  const called: string[] = [];
  const named = (name: string) => budget.share(() => called.push(name));
  const [busy, other] = [named("busy"), named("other")];
  busy.take(MIB / 2);
  other.take(MIB / 2);
  const big = budget.share(() => {});
  big.take(3 * MIB);
  const calm = named("calm");
  const gone = named("gone");
  for (const share of [busy, other, calm, gone]) assert.ok(share.full());
  gone.leave();
  big.give(3 * MIB);
  assert.equal(called, ["calm", "busy", "other"]);
  busy.give(MIB / 2);
  assert.equal(called.length, 3);
});

test("who is called and takes it all leaves the others waiting", () => {
  const budget = openBudget(2 * MIB);
  const called: number[] = [];
  const all = budget.share(() => {});
  all.take(2 * MIB);
  const shares: Share[] = [0, 1, 2].map((n) =>
    budget.share(() => {
      called.push(n);
      shares[n]!.take(2 * MIB);
    }),
  );
  for (const share of shares) assert.ok(share.full());
  all.give(2 * MIB);
  assert.equal(called, [0]);
  shares[0]!.give(2 * MIB);
  assert.equal(called, [0, 1]);
});

test("a request is let in or not at once, a short one longest, and gives its bytes back once", () => {
  const budget = openBudget(MIB);
  const [first, ...more] = [1, 2, 3].map(() => budget.admit(256 * 1024));
  assert.ok(first && more.every(Boolean));
  assert.is(budget.admit(256 * 1024), null);
  const short = Array.from({ length: 100 }, () => budget.admit(1_000)).filter((done) => done !== null);
  assert.is(short.length, 64, "each counts for four kibibytes at least");
  first!();
  first!();
  assert.is(budget.used(), MIB - 256 * 1024);
});

test("a budget is a small part of the heap, whatever heap there is", () => {
  assert.is(heapBytes(288 * MIB), 96 * MIB, "--max-old-space-size=96");
  assert.is(heapBytes(4_288 * MIB), 4_096 * MIB);
  assert.is(budgetBytes(96 * MIB), 3 * MIB);
  assert.is(budgetBytes(16 * MIB), MIB);
  assert.is(budgetBytes(64_000 * MIB), 64 * MIB);
});

test("however connections take and give, nothing is lost, and nobody waits while there is room for all", () => {
  const step = fc.record({ who: fc.nat(7), bytes: fc.integer({ min: 1, max: 300_000 }), gives: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const budget = openBudget(MIB);
      const held: number[][] = Array.from({ length: 8 }, () => []);
      const waits = new Set<number>();
      const shares = held.map((_, n) => budget.share(() => waits.delete(n)));
      for (const { who, bytes, gives } of steps) {
        if (gives) {
          const given = held[who]!.shift();
          if (given !== undefined) shares[who]!.give(given);
        } else if (shares[who]!.full()) waits.add(who);
        else {
          held[who]!.push(bytes);
          shares[who]!.take(bytes);
        }
      }
      for (const [who, list] of held.entries()) for (const bytes of list) shares[who]!.give(bytes);
      assert.is(budget.used(), 0);
      assert.is(waits.size, 0);
    }),
    { numRuns: 300 },
  );
});

test.run();
