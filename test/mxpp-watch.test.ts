/** How long a host's connection is borne with that does not answer, or does not take what it is told. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Lost, makePatience, type Sight } from "../gateways/mxpp/watch.ts";

const all = (written: number): Sight => ({
  written,
  waiting: 0,
  peer: { unacknowledged: 0, silent: false, endedByUs: false },
});
const owing = (written: number, unacknowledged: number, waiting = 0, silent = false): Sight => ({
  written,
  waiting,
  peer: { unacknowledged, silent, endedByUs: false },
});

/** Looks once a second; when it was judged lost, in seconds, and how. */
function judge(seconds: number, sightAt: (second: number) => Sight, from = 0): [number, Lost] | null {
  const patience = makePatience();
  for (let second = 0; second <= seconds; second += 1) {
    const lost = patience(sightAt(second), (from + second) * 1_000);
    if (lost !== null) return [second, lost];
  }
  return null;
}

const CASES: [string, (second: number) => Sight, [number, Lost] | null][] = [
  ["has everything", () => all(100), null],
  ["answers nothing from the tenth second on", (s) => (s < 10 ? all(100) : owing(200, 100, 0, true)), [40, "vanished"]],
  [
    "is asked by keep-alive, and then written to",
    (s) => (s < 10 ? owing(100, 0, 0, true) : owing(200, 100, 0, true)),
    [30, "vanished"],
  ],
  ["answers once in 29 seconds", (s) => owing(s, 1, 0, s % 30 !== 0), null],
  ["answers, and takes nothing", () => owing(9_000, 4_000, 5_000), [55, "deaf"]],
  ["takes nothing, and more is written all the time", (s) => owing(9_000 + s, 4_000, 5_000 + s), [55, "deaf"]],
  ["takes a byte in 54 seconds", (s) => owing(9_000, 4_000 - Math.floor(s / 54)), null],
  [
    "lets this process wait, on a system that tells nothing",
    () => ({ written: 100, waiting: 100, peer: null }),
    [55, "deaf"],
  ],
  ["has not taken its first news yet after an hour's silence", (s) => (s < 3_600 ? all(0) : owing(10, 10)), null],
  ["has not taken its last news yet after an hour's silence", (s) => (s < 3_600 ? all(90) : owing(100, 10)), null],
];

for (const [what, sightAt, expected] of CASES) {
  test(`a peer that ${what} is ${expected === null ? "borne with" : `${expected[1]} after ${expected[0]} s`}`, () => {
    assert.equal(judge(3_650, sightAt), expected);
  });
}

test("whoever takes something at every look is never lost, whatever waits", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(10_000), { minLength: 100, maxLength: 300 }), (more) => {
      let written = 0;
      const sights = more.map((bytes, second) => {
        written = Math.max(written + bytes, second + 2);
        return owing(written, written - second - 1);
      });
      assert.is(
        judge(sights.length - 1, (second) => sights[second]!),
        null,
      );
    }),
  );
});

test.run();
