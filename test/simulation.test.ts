/**
 * Nodes of the real rules in simulated time, some thousand times over: `SEEDS` says how often, `SEED` which one is to be seen
 * again. `npm run simulate` runs 10,000.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Fault, simulate } from "./helpers/simulation/simulate.ts";
import { type Mutation, Violation } from "./helpers/simulation/store.ts";

const SEEDS = Number(process.env.SEEDS ?? 1_500);
const SEED = process.env.SEED === undefined ? null : Number(process.env.SEED);
/** What a broken rule is looked for in; it is found in one of ten to a hundred. */
const TRIES = 600;

test("whatever faults come, no page is lost, none is told or woken for twice, nobody drives without right, and all heals", () => {
  const seeds = SEED === null ? Array.from({ length: SEEDS }, (_, n) => n) : [SEED];
  const began = performance.now();
  let [pages, acts, faults, slowest] = [0, 0, 0, 0];
  for (const seed of seeds) {
    try {
      const seen = simulate(seed);
      pages += seen.pages;
      acts += seen.acts;
      faults += seen.faults.length;
      slowest = Math.max(slowest, seen.healedMs);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message} (again: SEED=${seed} node test/simulation.test.ts)`, {
        cause: error,
      });
    }
  }
  const seconds = ((performance.now() - began) / 1_000).toFixed(1);
  console.log(
    `${seeds.length} seeds in ${seconds} s: ${pages} pages, ${faults} faults, ${acts} steps by owners, all well after ${slowest} ms at most`,
  );
  if (SEED === null) assert.ok(acts > seeds.length, "owners had something to do");
});

test("a seed gives the same again", () => {
  for (const seed of [1, 2, 3]) assert.equal(simulate(seed), simulate(seed));
});

// the rule that is broken, the faults it takes, what is said of it
const broken: [string, NonNullable<Mutation>, readonly Fault[], RegExp][] = [
  ["acts after its lease is over", "no deadline", ["stall", "hosted away", "cut"], /though its lease is over/],
  [
    "goes by owners it read before a lapse",
    "no tenure",
    ["loss", "stall", "cut", "hosted away"],
    /before its lease lapsed/,
  ],
  ["writes without comparing versions", "no compare-and-set", ["hosted away", "loss"], /was told|came/],
  ["wakes anew where a lost one's claim was to be taken up", "no number", ["loss", "kill", "session"], /wake-up 2/],
];
for (const [what, mutation, faults, said] of broken) {
  test(`the simulation finds a node that ${what}`, () => {
    for (let seed = 0; seed < TRIES; seed += 1) {
      try {
        simulate(seed, mutation, faults);
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        assert.match(error.message, said);
        return;
      }
    }
    assert.unreachable(`not in ${TRIES} seeds`);
  });
}

test.run();
