/** What is said of a database, told from what is seen of it. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type Effect,
  gaugesOf,
  readiness,
  type Seen,
  type State,
  step,
  unwatched,
} from "../actors/supervisors/database.ts";

const WELL: Seen = {
  up: true,
  server: "a:1",
  timeline: 1,
  hanging: false,
  refused: 0,
  required: 1,
  inSync: 1,
  waiting: 0,
};
const AWAY: Seen = { ...WELL, up: false, server: null, timeline: null, required: 0, inSync: null };
const HANGING: Seen = { ...WELL, hanging: true, inSync: 0, waiting: 3 };

/** Each look at its time; what was said and counted, in order. */
function watch(...looks: readonly (readonly [number, Seen])[]): { state: State; told: string[] } {
  let state = unwatched;
  const told: string[] = [];
  for (const [now, seen] of looks) {
    const stepped = step(state, { kind: "seen", database: "premise", seen }, now);
    state = stepped.state;
    told.push(...stepped.effects.map(wordOf));
  }
  return { state, told };
}
const wordOf = (effect: Effect) => (effect.kind === "say" ? `${effect.level} ${effect.event}` : effect.metric);

const LOST = "error no database server takes writes: pages wait at their hosts";
const HANGS = "error commits hang: pages wait at their hosts";
const MISSING = "error a standby that commits wait for is missing";
const THERE = "info the standbys that commits wait for are there";

test("a database that is well is not spoken of", () => {
  assert.equal(watch([0, WELL], [500, WELL]).told, []);
});

test("a failover that goes well is told as a move alone, with its loss counted", () => {
  const moved = { ...WELL, server: "b:1", timeline: 2 };
  const { told, state } = watch([0, WELL], [500, AWAY], [1_000, AWAY], [1_500, moved], [2_000, moved]);
  assert.equal(told, ["database_losses", "warn the primary has moved", "database_moves"]);
  assert.is(readiness(state), true);
});

test("a database away for longer is an alarm, once, and its return is told", () => {
  const { told } = watch([0, WELL], [500, AWAY], [5_400, AWAY], [5_500, AWAY], [9_000, AWAY], [9_500, WELL]);
  assert.equal(told, ["database_losses", LOST, "warn a database server takes writes again"]);
});

test("a node that starts without its database says so", () => {
  const { told, state } = watch([0, AWAY], [5_000, AWAY]);
  assert.equal(told, [LOST]);
  assert.is(readiness(state), "no writable server");
});

test("commits that hang are an alarm at once, with the standby that is missing", () => {
  const { told, state } = watch([0, WELL], [500, HANGING], [1_000, HANGING], [1_500, WELL]);
  assert.equal(told, ["database_stalls", HANGS, MISSING, "warn commits come back again", THERE]);
  assert.equal(gaugesOf(state).find(({ name }) => name === "database_up")?.value, 1);
  assert.is(readiness(watch([0, WELL], [500, HANGING]).state), "commits hang");
});

test("a lost standby that nothing waits for any more is no alarm any more", () => {
  const { told } = watch([0, WELL], [500, { ...WELL, inSync: 0 }], [1_000, { ...WELL, inSync: 0, required: 0 }]);
  assert.equal(told, [MISSING, THERE]);
});

test("a role that may not see standbys is told nothing of them", () => {
  const blind = { ...WELL, inSync: null };
  const { told, state } = watch([0, blind], [500, blind]);
  assert.equal(told, []);
  assert.not(gaugesOf(state).some(({ name }) => name === "database_standbys_in_sync"));
});

test("whatever is seen: alarms and their ends alternate, and ready is said when and only when pages are accepted", () => {
  const seen = fc.record({
    up: fc.boolean(),
    server: fc.constantFrom(null, "a:1", "b:1"),
    timeline: fc.constantFrom(1, 2),
    hanging: fc.boolean(),
    refused: fc.nat(2),
    required: fc.nat(2),
    inSync: fc.constantFrom(null, 0, 1, 2),
    waiting: fc.nat(2),
  });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 8_000 }), seen), { maxLength: 40 }), (looks) => {
      let now = 0;
      const { told, state } = watch(...looks.map(([ms, one]) => [(now += ms), one] as const));
      for (const pair of [[MISSING, THERE]]) {
        const said = told.filter((word) => pair.includes(word));
        for (const [index, word] of said.entries()) assert.is(word, pair[index % 2]);
      }
      const alarms = told.filter((word) => word === LOST || word === HANGS).length;
      const ends = told.filter((word) => /again$|is gone$/.test(word)).length;
      assert.ok(alarms - ends === 0 || alarms - ends === 1);
      const last = looks.at(-1)?.[1];
      if (last !== undefined) assert.is(readiness(state) === true, last.up && last.server !== null && !last.hanging);
    }),
    { numRuns: 1_000 },
  );
});

test.run();
