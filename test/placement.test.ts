import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Candidate, MOVES_MAX, type Move, movesFor, type Ownership, ownerOf } from "../cluster/placement.ts";
import { type BootId, SHARD_COUNT, type Shard } from "../domain.ts";

const SHARDS = Array.from({ length: SHARD_COUNT }, (_, n) => n as Shard);

const boots = (minLength: number, maxLength: number) =>
  fc.uniqueArray(fc.uuid() as fc.Arbitrary<string>, { minLength, maxLength }) as fc.Arbitrary<BootId[]>;
const equals = (nodes: readonly BootId[]): Candidate[] => nodes.map((boot) => ({ boot, weight: 1 }));
const placed = (candidates: readonly Candidate[]) => SHARDS.map((shard) => ownerOf(shard, candidates));

function shares(candidates: readonly Candidate[]): Map<BootId, number> {
  const counts = new Map(candidates.map(({ boot }) => [boot, 0]));
  for (const owner of placed(candidates)) counts.set(owner!, counts.get(owner!)! + 1);
  return counts;
}

/** Carries moves out as the database does: each only from the owner it names. */
function carryOut(owners: Map<Shard, BootId | null>, moves: readonly Move[]): void {
  for (const { id, from, to } of moves) if (owners.get(id) === from) owners.set(id, to);
}

const nobody = () => new Map<Shard, BootId | null>(SHARDS.map((shard) => [shard, null]));

test("every node computes the same owner for each shard, whatever order it sees the nodes in", () => {
  fc.assert(
    fc.property(boots(1, 8), fc.infiniteStream(fc.nat()), (nodes, chance) => {
      const shuffled = [...nodes].sort(() => (chance.next().value % 3) - 1);
      const owners = placed(equals(nodes));
      assert.equal(placed(equals(shuffled)), owners);
      assert.ok(owners.every((owner) => owner !== null && nodes.includes(owner)));
    }),
  );
});

test("without nodes no shard has an owner, and nothing is moved", () => {
  assert.is(ownerOf(7 as Shard, []), null);
  assert.equal(movesFor("me" as BootId, nobody(), []), []);
});

test("when a node goes only its own shards move, and when one comes shards move only to it", () => {
  fc.assert(
    fc.property(boots(2, 8), (nodes) => {
      const [gone, ...rest] = nodes;
      const all = placed(equals(nodes));
      const left = placed(equals(rest));
      for (const shard of SHARDS) if (all[shard] !== gone) assert.is(left[shard], all[shard]);
    }),
  );
});

test("nodes of one weight get shares that differ no more than chance allows", () => {
  fc.assert(
    fc.property(boots(2, 16), (nodes) => {
      const mean = SHARD_COUNT / nodes.length;
      const deviation = Math.sqrt(mean * (1 - 1 / nodes.length));
      for (const share of shares(equals(nodes)).values()) {
        assert.ok(Math.abs(share - mean) < 6 * deviation, `${share} of a mean of ${mean}`);
      }
    }),
    { numRuns: 100, seed: 7 },
  );
});

test("a node of three times the weight gets about three times the shards", () => {
  fc.assert(
    fc.property(boots(2, 2), ([light, heavy]) => {
      const counts = shares([
        { boot: light!, weight: 1 },
        { boot: heavy!, weight: 3 },
      ]);
      assert.ok(Math.abs(counts.get(heavy!)! - 192) < 42, `${counts.get(heavy!)}`);
    }),
    { numRuns: 100, seed: 7 },
  );
});

test("a node never takes what a living node has, nor what belongs on another", () => {
  const owners = fc.array(fc.option(fc.nat(5)), { minLength: SHARD_COUNT, maxLength: SHARD_COUNT });
  fc.assert(
    fc.property(boots(6, 6), owners, fc.nat(4), (nodes, picks, living) => {
      const candidates = equals(nodes.slice(0, living + 1));
      const alive = candidates.map((candidate) => candidate.boot);
      const ownership: Ownership = new Map(
        SHARDS.map((shard) => [shard, picks[shard] === null ? null : nodes[picks[shard]!]!]),
      );
      for (const self of nodes) {
        const moves = movesFor(self, ownership, candidates);
        let given = 0;
        for (const { id, from, to } of moves) {
          assert.is(from, ownership.get(id));
          assert.not.equal(from, to);
          assert.is(to, ownerOf(id, candidates));
          if (from === self) given += 1;
          else assert.ok(to === self && (from === null || !alive.includes(from)), "only what nobody living has");
        }
        if (alive.includes(self)) assert.ok(given <= MOVES_MAX, `${given} given at once`);
        else
          assert.is(
            given,
            [...ownership.values()].filter((owner) => owner === self).length,
            "a leaving node gives all",
          );
        assert.is(new Set(moves.map((move) => move.id)).size, moves.length);
      }
    }),
  );
});

test("a tenth of the shards moves between the living at once, and no more", () => {
  assert.is(MOVES_MAX, 25);
  const [first, second] = ["a", "b"] as BootId[];
  const all: Ownership = new Map(SHARDS.map((shard) => [shard, first!]));
  assert.is(movesFor(first!, all, equals([first!, second!])).length, MOVES_MAX);
});

test("from any ownership, nodes that move in any order settle on the one placement and then rest", () => {
  const owners = fc.array(fc.option(fc.nat(5)), { minLength: SHARD_COUNT, maxLength: SHARD_COUNT });
  fc.assert(
    fc.property(
      boots(6, 6),
      owners,
      fc.integer({ min: 1, max: 6 }),
      fc.infiniteStream(fc.nat()),
      (nodes, picks, living, chance) => {
        const candidates = equals(nodes.slice(0, living));
        const current = new Map<Shard, BootId | null>(
          SHARDS.map((shard) => [shard, picks[shard] === null ? null : nodes[picks[shard]!]!]),
        );
        const target = placed(candidates);
        // Each acts on what it saw a while ago: two look, then both move.
        for (let round = 0; round < 30; round += 1) {
          const [one, two] = [nodes[chance.next().value % living]!, nodes[chance.next().value % living]!];
          const seen = new Map(current);
          const both = [movesFor(one, seen, candidates), movesFor(two, seen, candidates)];
          for (const moves of both) carryOut(current, moves);
        }
        for (const node of candidates) {
          for (let round = 0; round < 12; round += 1) carryOut(current, movesFor(node.boot, current, candidates));
        }
        assert.equal([...current.values()], target);
        for (const node of nodes.slice(0, living)) assert.equal(movesFor(node, current, candidates), []);
      },
    ),
    { numRuns: 8 },
  );
});

test.run();
