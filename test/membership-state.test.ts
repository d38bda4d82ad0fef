import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Report } from "../cluster/lease.ts";
import {
  type MembershipEffect,
  type MembershipEvent,
  newMember,
  stepMembership,
  whyDraining,
} from "../cluster/membership-state.ts";
import { MOVES_MAX, type Ownership, ownerOf } from "../cluster/placement.ts";
import { type BootId, SHARD_COUNT, type Shard } from "../domain.ts";
import type { NodeRow } from "../persistence/leases.ts";
import { nodeRow as row } from "./helpers/node-row.ts";

const [ME, OTHER, THIRD] = ["me", "other", "third"] as BootId[] as [BootId, BootId, BootId];
const SHARDS = Array.from({ length: SHARD_COUNT }, (_, n) => n as Shard);

const DEAD = { locked: false, silentMs: 800 };
const renewed = (nodes: readonly NodeRow[], more: Partial<Report> = {}): MembershipEvent => ({
  kind: "renewed",
  report: { asked: 0, answered: 0, now: 0, tenure: 1, state: "LIVE", nodes, judges: true, ...more },
});
const all = (owner: BootId | null): Ownership => new Map(SHARDS.map((shard) => [shard, owner]));
const placed = (...boots: BootId[]): Ownership =>
  new Map(
    SHARDS.map((shard) => [
      shard,
      ownerOf(
        shard,
        boots.map((boot) => ({ boot, weight: 1 })),
      ),
    ]),
  );
const read = (owners: Ownership, tenure = 1, begun = tenure): MembershipEvent => ({
  kind: "owners",
  owners,
  begun,
  tenure,
});

function after(...events: MembershipEvent[]) {
  let state = newMember(ME);
  let effects: readonly MembershipEffect[] = [];
  for (const event of events) ({ state, effects } = stepMembership(state, event));
  const moves = effects.flatMap((effect) => (effect.kind === "move" ? effect.moves : []));
  const gained = effects.flatMap((effect) => (effect.kind === "changed" ? effect.gained : []));
  const [changed] = effects.flatMap((effect) => {
    if (effect.kind !== "changed") return [];
    return [{ gained: effect.gained.length, given: effect.given, takenOver: effect.takenOver }];
  });
  return { state, kinds: effects.map((effect) => effect.kind), moves, gained, changed };
}

test("the dead are no candidates, and house is kept for them; while nobody is judged they count as living", () => {
  const seen = [row(ME), row(OTHER, DEAD)];
  const judged = after(renewed(seen));
  assert.equal([judged.state.dead, judged.kinds], [[OTHER], ["place", "keep-house"]]);
  assert.is(after(renewed(seen), read(all(OTHER))).moves.length, SHARD_COUNT);
  const spared = after(renewed(seen, { judges: false }));
  assert.equal([spared.state.dead, spared.kinds], [[], ["place"]]);
  assert.is(after(renewed(seen, { judges: false }), read(all(OTHER))).moves.length, 0);
});

test("owners are read where shards have moved, or somebody came, went, settled or wants to go, and not otherwise", () => {
  const both = [row(ME), row(OTHER)];
  const later = [row(OTHER, { load: 0.9, ageMs: 90_000, silentMs: 300 }), row(ME, { leaseMs: 1_500 })];
  assert.equal(after(renewed(both), renewed(later)).kinds, []);
  for (const [nodes, more] of [
    [[row(ME), row(OTHER, { moves: 1 })], {}],
    [both, { tenure: 2 }],
    [both, { state: "DRAINING" }],
    [[row(ME)], {}],
    [[row(ME), row(OTHER, { state: "DRAINING" })], {}],
    [[row(ME), row(OTHER, { ageMs: 100 })], {}],
    [[row(ME), row(OTHER), row(THIRD)], {}],
  ] as const)
    assert.equal(after(renewed(both), renewed(nodes, more)).kinds, ["place"]);
});

test("owners read in an older tenure are read again, and what was mine before a new one is mine no more", () => {
  const old = after(renewed([row(ME)]), read(all(ME), 2, 1));
  assert.equal([old.state.mine.size, old.kinds], [0, ["place"]]);
  const had = [renewed([row(ME)]), read(all(ME))];
  assert.is(after(...had).state.mine.size, SHARD_COUNT);
  assert.is(after(...had, renewed([row(ME)])).state.mine.size, SHARD_COUNT);
  const lapsed = after(...had, renewed([row(ME)], { tenure: 2 }));
  assert.is(lapsed.state.mine.size, 0);
  const again = after(...had, renewed([row(ME)], { tenure: 2 }), read(all(ME), 2));
  assert.is(again.gained.length, SHARD_COUNT, "and comes to it again");
  const late = after(...had, renewed([row(ME)], { tenure: 2 }), read(all(ME), 2), renewed([row(ME)], { tenure: 1 }));
  assert.is(late.state.mine.size, SHARD_COUNT, "a late report takes nothing away");
});

test("what is given away is driven no more before it is written, and again only when it was read that it was not", () => {
  const both = [row(ME), row(OTHER)];
  const giving = after(renewed(both), read(all(ME)));
  assert.is(giving.moves.length, MOVES_MAX);
  assert.is(giving.state.mine.size, SHARD_COUNT - MOVES_MAX);
  const { moves } = giving;
  const moved = (ids: readonly Shard[]): MembershipEvent => ({
    kind: "moved",
    moves,
    moved: new Set(ids),
    begun: 1,
    tenure: 1,
  });
  const events = [renewed(both), read(all(ME))];
  assert.is(after(...events, moved(moves.map((move) => move.id))).state.mine.size, SHARD_COUNT - MOVES_MAX);
  assert.is(after(...events, moved([])).state.mine.size, SHARD_COUNT - MOVES_MAX);
});

test("it gives nothing away before the others were told that it goes, and everything then", () => {
  const mine = placed(ME, OTHER);
  const both = [row(ME), row(OTHER)];
  const wish: MembershipEvent = { kind: "withdraw", reason: "push" };
  const asked = after(renewed(both), read(mine), wish);
  assert.equal([asked.kinds, whyDraining(asked.state)], [["tell"], "push"]);
  assert.equal(after(renewed(both), read(mine), wish, read(mine)).moves, []);
  const told = after(renewed(both), read(mine), wish, renewed(both, { state: "DRAINING" }), read(mine));
  assert.is(told.moves.length, [...mine.values()].filter((owner) => owner === ME).length);
  assert.is(told.state.mine.size, 0);
});

test("it comes back with the last reason and the operator's wish, and says each change once", () => {
  const [push, mxpp] = ["push", "mxpp"].map((reason) => ({ kind: "withdraw", reason }) as const);
  const [noPush, noMxpp] = ["push", "mxpp"].map((reason) => ({ kind: "restore", reason }) as const);
  assert.equal(after(push!, mxpp!).kinds, ["tell"]);
  assert.equal(after(push!, push!).kinds, []);
  assert.equal(after(push!, mxpp!, noPush!).kinds, ["tell"]);
  assert.equal(after(push!, mxpp!, noPush!, noMxpp!).kinds, ["tell"]);
  const wished = renewed([row(ME, { drainAsked: true })]);
  assert.equal(after(wished).kinds, ["place", "tell"]);
  assert.equal(after(push!, wished, noPush!).kinds, ["tell"]);
  assert.equal(after(wished, renewed([row(ME)])).kinds, ["tell"]);
});

test("where nobody stays those that would go take what nobody has", () => {
  const going = [row(ME), row(OTHER, { state: "DRAINING" }), row(THIRD, DEAD)];
  const wish: MembershipEvent = { kind: "withdraw", reason: "push" };
  const { moves } = after(wish, renewed(going, { state: "DRAINING" }), read(all(THIRD)));
  assert.ok(moves.length > 64 && moves.every((move) => move.to === ME));
});

test("what came, what went, and what was taken over from a node that is no more is told", () => {
  const both = [row(ME), row(OTHER, DEAD)];
  const mine = all(OTHER);
  const { moves } = after(renewed(both), read(mine));
  const moved: MembershipEvent = {
    ...{ kind: "moved", moves, moved: new Set(moves.map((move) => move.id)), begun: 1, tenure: 1 },
  };
  const taken = after(renewed(both), read(mine), moved);
  assert.equal(taken.kinds, ["changed"]);
  assert.equal(taken.changed, { gained: SHARD_COUNT, given: 0, takenOver: SHARD_COUNT });
  const gone = after(renewed(both), read(mine), moved, read(all(THIRD)));
  assert.equal(gone.changed, { gained: 0, given: SHARD_COUNT, takenOver: 0 });
});

test("whatever it hears, it drives only what it last read to be its own and does not give away", () => {
  const owners = fc
    .array(fc.constantFrom(ME, OTHER, THIRD, null), { minLength: SHARD_COUNT, maxLength: SHARD_COUNT })
    .map((list): Ownership => new Map(list.map((owner, shard) => [shard as Shard, owner])));
  const node = (boot: BootId) =>
    fc
      .record({ leaseMs: fc.constantFrom(-1, 1_000), state: fc.constantFrom("LIVE", "DRAINING") })
      .map((more) => row(boot, more as never));
  const event = fc.oneof(
    fc
      .tuple(node(ME), node(OTHER), node(THIRD), fc.boolean())
      .map(([a, b, c, judges]) => renewed([a, b, c], { judges })),
    owners.map((some) => read(some)),
    fc.constantFrom<MembershipEvent>({ kind: "withdraw", reason: "x" }, { kind: "restore", reason: "x" }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 12 }), (events) => {
      let state = newMember(ME);
      let last: Ownership = new Map();
      let giving = new Set<Shard>();
      for (const one of events) {
        const stepped = stepMembership(state, one);
        state = stepped.state;
        if (one.kind === "owners") {
          last = one.owners;
          const moves = stepped.effects.flatMap((effect) => (effect.kind === "move" ? effect.moves : []));
          giving = new Set(moves.filter((move) => move.from === ME).map((move) => move.id));
        }
        for (const shard of state.mine) assert.ok(last.get(shard) === ME && !giving.has(shard));
      }
    }),
    { numRuns: 60 },
  );
});

test.run();
