// limit: 30 s
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Effect, type Peer, type State, step, unloaded } from "../actors/supervisors/overload.ts";

const test = suite("overload supervisor");

const LOOK_MS = 500;
const peer = (load: number, suspect = false): Peer => ({ load, suspect });

/** Looks as the clock goes; what came of it. */
function watched(peers: readonly Peer[] | ((at: number) => readonly Peer[])) {
  let state: State = unloaded();
  let now = 0;
  const effects: (Effect & { at: number })[] = [];
  return {
    effects,
    state: () => state,
    /** Each look for so long shows this load. */
    sees(load: number, ms: number) {
      for (const until = now + ms; now < until; now += LOOK_MS) {
        const seen = typeof peers === "function" ? peers(now) : peers;
        const stepped = step(state, { kind: "look", load, peers: seen }, now);
        state = stepped.state;
        effects.push(...stepped.effects.map((effect) => ({ ...effect, at: now })));
      }
    },
    levels: () => effects.flatMap((effect) => (effect.kind === "level" ? [effect.level] : [])),
    of: (kind: Effect["kind"]) => effects.filter((effect) => effect.kind === kind),
  };
}

test("takes one step after the other, and takes them back in reverse as the load falls", () => {
  const node = watched([]);
  node.sees(5, 10_000);
  assert.equal(node.levels(), [1, 2, 3, 4]);
  node.sees(0.1, 20_000);
  assert.equal(node.levels(), [1, 2, 3, 4, 3, 2, 1, 0]);
  const at = node.of("level").map((effect) => effect.at);
  for (let n = 5; n < at.length; n += 1) assert.ok(at[n]! - at[n - 1]! >= 3_000, "at least 3 s apart");
});

test("does nothing about a single busy look", () => {
  const node = watched([peer(0.1)]);
  for (let n = 0; n < 20; n += 1) {
    node.sees(3, LOOK_MS);
    node.sees(0.2, 3 * LOOK_MS);
  }
  assert.equal(node.effects, []);
});

test("a load that goes up and down about a mark keeps its step", () => {
  const node = watched([]);
  node.sees(0.88, 2_000);
  assert.equal(node.state().level, 2);
  for (let n = 0; n < 50; n += 1) {
    node.sees(0.72, 1_000);
    node.sees(0.88, LOOK_MS);
  }
  assert.equal(node.levels(), [1, 2]);
});

test("shards and connections go only where others are clearly idler", () => {
  const alone = watched([]);
  alone.sees(1, 20_000);
  const evenly = watched([peer(0.9), peer(1)]);
  evenly.sees(1, 20_000);
  for (const node of [alone, evenly]) {
    assert.is(node.state().level, 2);
    assert.equal([...node.of("weigh"), ...node.of("part")], []);
  }
  const helped = watched([peer(0.2), peer(0.4)]);
  helped.sees(1, 5_000);
  assert.equal(helped.of("weigh").length, 1);
  assert.ok(helped.of("part").length >= 2);
});

test("neither goes anywhere while a node may be dead", () => {
  const node = watched([peer(0.1), peer(0.1, true)]);
  node.sees(1, 20_000);
  assert.equal([...node.of("weigh"), ...node.of("part")], []);
});

test("the weight is halved at most every five seconds, to a quarter, and comes back once the load is even", () => {
  const node = watched((at) => [peer(at < 30_000 ? 0.2 : 0.4)]);
  node.sees(1, 30_000);
  assert.equal(
    node.of("weigh").map((effect) => effect.kind === "weigh" && effect.weight),
    [0.5, 0.25],
  );
  node.sees(0.39, 20_000);
  assert.is(node.state().weight, 1);
  const at = node.of("weigh").map((effect) => effect.at);
  for (let n = 1; n < at.length; n += 1) assert.ok(at[n]! - at[n - 1]! >= 5_000);
});

test("one at work takes its weight back only where it has clearly less to do than the others", () => {
  const node = watched((at) => [peer(at < 10_000 ? 0.2 : 1)]);
  node.sees(1, 10_000);
  assert.is(node.state().weight, 0.25);
  node.sees(1, 20_000);
  assert.is(node.state().weight, 0.25);
  node.sees(0.88, 12_000);
  assert.is(node.state().weight, 1);
});

test("asks no more to go than what is over the mean of all", () => {
  const node = watched([peer(0.6), peer(0.6)]);
  node.sees(0.9, 3_000);
  const [first] = node.of("part");
  assert.ok(first?.kind === "part" && Math.abs(first.part - 0.2222) < 0.001, JSON.stringify(first));
});

test("whatever the loads: one step at a time, weights within bounds, and at rest in the end", () => {
  const load = fc.double({ min: 0, max: 5, noNaN: true });
  const look = fc.record({ load, peers: fc.array(fc.record({ load, suspect: fc.boolean() }), { maxLength: 4 }) });
  fc.assert(
    fc.property(fc.array(look, { maxLength: 80 }), (looks) => {
      let state = unloaded();
      let now = 0;
      let parted = Number.NEGATIVE_INFINITY;
      for (const { load: seen, peers } of looks) {
        const before = state;
        const stepped = step(state, { kind: "look", load: seen, peers }, (now += LOOK_MS));
        state = stepped.state;
        assert.ok(Math.abs(state.level - before.level) <= 1);
        assert.ok([0.25, 0.5, 1].includes(state.weight));
        for (const effect of stepped.effects) {
          if (effect.kind === "level") continue;
          assert.ok(peers.length > 0 && peers.every((one) => !one.suspect));
          if (effect.kind !== "part") continue;
          assert.ok(effect.part > 0 && effect.part <= 0.25);
          assert.ok(now - parted >= 1_500);
          parted = now;
        }
      }
      for (let n = 0; n < 200; n += 1)
        state = step(state, { kind: "look", load: 0, peers: [peer(0)] }, (now += LOOK_MS)).state;
      assert.equal([state.level, state.weight], [0, 1]);
    }),
  );
});

test.run();
