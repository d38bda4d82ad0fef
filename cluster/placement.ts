/**
 * Which node is to drive which shard: weighted rendezvous hashing over the living nodes. Every node computes the same
 * answer from the same rows; when a node goes, only its shards move. Pure.
 */
import { createHash } from "node:crypto";
import { type BootId, SHARD_COUNT, type Shard } from "../domain.ts";

export type Candidate = { readonly boot: BootId; readonly weight: number };
export type Ownership = ReadonlyMap<Shard, BootId | null>;
export type Move = { readonly id: Shard; readonly from: BootId | null; readonly to: BootId };

/** At most a tenth of the shards changes hands between living nodes at once. */
export const MOVES_MAX = Math.floor(SHARD_COUNT / 10);

/** The node a shard belongs on; null when there is none. */
export function ownerOf(shard: Shard, candidates: readonly Candidate[]): BootId | null {
  return best(shard, candidates.map(inTheRunning));
}

type Runner = Candidate & { readonly chances: Float64Array };

function inTheRunning(candidate: Candidate): Runner {
  return { ...candidate, chances: chancesOf(candidate.boot) };
}

function best(shard: Shard, runners: readonly Runner[]): BootId | null {
  let found: BootId | null = null;
  let highest = Number.NEGATIVE_INFINITY;
  for (const { boot, weight, chances: of } of runners) {
    const score = weight * of[shard]!;
    if (score > highest || (score === highest && found !== null && boot < found)) {
      found = boot;
      highest = score;
    }
  }
  return found;
}

/**
 * What `self` may move now: shards of nobody and of the dead that belong on it, at once; and of its own those that
 * belong on another living node, a few at a time.
 */
export function movesFor(self: BootId, ownership: Ownership, candidates: readonly Candidate[]): Move[] {
  const living = new Set(candidates.map((candidate) => candidate.boot));
  const runners = candidates.map(inTheRunning);
  const taken: Move[] = [];
  const given: Move[] = [];
  for (const [id, from] of ownership) {
    const to = best(id, runners);
    if (to === null || to === from) continue;
    if (to === self && (from === null || !living.has(from))) taken.push({ id, from, to });
    else if (from === self) given.push({ id, from, to });
  }
  // A node that is leaving is no candidate: it gives everything at once.
  return [...taken, ...(living.has(self) ? given.slice(0, MOVES_MAX) : given)];
}

/** Of nodes met lately: a look at 100 nodes took 25,600 digests otherwise. */
const chances = new Map<BootId, Float64Array>();
const CHANCES_MAX = 512;

/** -1 / ln(u) for each shard, with u uniform in (0, 1): times its weight, each node wins a share in proportion to that. */
function chancesOf(boot: BootId): Float64Array {
  let of = chances.get(boot);
  if (of === undefined) {
    if (chances.size >= CHANCES_MAX) chances.delete(chances.keys().next().value!);
    of = Float64Array.from({ length: SHARD_COUNT }, (_, shard) => -1 / Math.log(uniform(boot, shard as Shard)));
    chances.set(boot, of);
  }
  return of;
}

function uniform(boot: BootId, shard: Shard): number {
  const hash = createHash("sha1").update(`${boot}/${shard}`).digest();
  return (hash.readUIntBE(0, 6) + 1) / (2 ** 48 + 2);
}
