/**
 * What this node makes of what it hears of the others, and of who owns what. Pure: the loops around it are in membership.ts.
 *
 *   renewed ─► who is alive, who is dead ─► place, keep house
 *   owners  ─► what is mine, what is to be moved ─► moved ─► what is mine
 *   withdraw, restore, an operator's wish ─► told to the others, then place
 *
 * Owners read in an older tenure than the present one say nothing of what is driven now, and are read again. What is given
 * away is driven no more before it is written.
 */
import { type BootId, SHARD_COUNT, type Shard } from "../domain.ts";
import type { NodeRow } from "../persistence/leases.ts";
import { isDead, type Report } from "./lease.ts";
import { type Candidate, type Move, movesFor, type Ownership } from "./placement.ts";

/** A new node is given shards only after this, so that a rolling restart moves each shard once. */
const JOIN_DELAY_MS = 3_000;
const MOVES_KEPT = 50;
const NAMES_MAX = 256;

/** So many shards went from one node to another between two looks. */
export type SeenMove = {
  readonly at: number;
  readonly from: BootId | null;
  readonly to: BootId | null;
  readonly shards: number;
};

export type MembershipState = {
  readonly boot: BootId;
  /** Why this node itself wants to give its shards away; empty: it does not. */
  readonly reasons: readonly string[];
  readonly drainAsked: boolean;
  /** What the others have been told of this node. */
  readonly told: NodeRow["state"];
  readonly nodes: readonly NodeRow[];
  /** When they were seen, monotonic ms. */
  readonly seenAt: number;
  readonly dead: readonly BootId[];
  readonly ownership: Ownership;
  /** What may be driven, for as long as `tenure` is the present one. */
  readonly mine: ReadonlySet<Shard>;
  readonly tenure: number;
  readonly moves: readonly SeenMove[];
  readonly names: ReadonlyMap<BootId, string>;
};

export type MembershipEvent =
  | { readonly kind: "renewed"; readonly report: Report }
  /** Read in tenure `begun`; `tenure` is the present one. */
  | { readonly kind: "owners"; readonly owners: Ownership; readonly begun: number; readonly tenure: number }
  | {
      readonly kind: "moved";
      readonly moves: readonly Move[];
      /** Those of `moves` that were carried out. */
      readonly moved: ReadonlySet<Shard>;
      readonly begun: number;
      readonly tenure: number;
    }
  | { readonly kind: "withdraw"; readonly reason: string }
  | { readonly kind: "restore"; readonly reason: string };

export type MembershipEffect =
  | { readonly kind: "place" }
  | { readonly kind: "keep-house" }
  /** Tell the others, by a renewal. */
  | { readonly kind: "tell" }
  | { readonly kind: "move"; readonly moves: readonly Move[] }
  | { readonly kind: "gained"; readonly shards: readonly Shard[] };

type Stepped = { readonly state: MembershipState; readonly effects: readonly MembershipEffect[] };

export function newMember(boot: BootId): MembershipState {
  return {
    boot,
    reasons: [],
    drainAsked: false,
    told: "LIVE",
    nodes: [],
    seenAt: 0,
    dead: [],
    ownership: new Map(),
    mine: new Set(),
    tenure: 0,
    moves: [],
    names: new Map(),
  };
}

export function stepMembership(state: MembershipState, event: MembershipEvent, now: number): Stepped {
  switch (event.kind) {
    case "renewed":
      return renewed(state, event.report);
    case "owners":
      return owners(state, event, now);
    case "moved":
      return moved(state, event, now);
    case "withdraw":
      return wishing({ ...state, reasons: [...new Set([...state.reasons, event.reason])] }, state);
    case "restore":
      return wishing({ ...state, reasons: state.reasons.filter((reason) => reason !== event.reason) }, state);
  }
}

export function isDraining(state: MembershipState): boolean {
  return state.drainAsked || state.reasons.length > 0;
}

function renewed(state: MembershipState, report: Report): Stepped {
  const { boot } = state;
  const own = report.nodes.find((node) => node.boot === boot);
  const others = report.nodes.filter((node) => node.boot !== boot);
  const dead = report.judges ? others.filter(isDead) : [];
  const next: MembershipState = {
    ...state,
    told: report.state,
    drainAsked: own?.drainAsked ?? state.drainAsked,
    nodes: report.nodes.filter((node) => !dead.includes(node)),
    seenAt: report.answered,
    dead: dead.map((node) => node.boot),
    mine: report.tenure > state.tenure ? new Set() : state.mine,
    tenure: Math.max(report.tenure, state.tenure),
    names: namesKept(state, report.nodes),
  };
  const house: MembershipEffect[] = dead.length > 0 ? [{ kind: "keep-house" }] : [];
  return { state: next, effects: [{ kind: "place" }, ...house, ...wishing(next, state).effects] };
}

function wishing(state: MembershipState, before: MembershipState): Stepped {
  return { state, effects: isDraining(state) === isDraining(before) ? [] : [{ kind: "tell" }] };
}

function owners(state: MembershipState, event: MembershipEvent & { kind: "owners" }, now: number): Stepped {
  if (event.begun !== event.tenure) return { state, effects: [{ kind: "place" }] };
  const known = withOwners(state, event.owners, now);
  const moves = movesFor(state.boot, event.owners, candidates(known));
  const given = new Set(moves.filter((move) => move.from === state.boot).map((move) => move.id));
  const next = driving(known, event.begun, given);
  return moves.length === 0 ? next : { ...next, effects: [...next.effects, { kind: "move", moves }] };
}

function moved(state: MembershipState, event: MembershipEvent & { kind: "moved" }, now: number): Stepped {
  if (event.begun !== event.tenure) return { state, effects: [{ kind: "place" }] };
  const after = new Map(state.ownership);
  for (const move of event.moves) if (event.moved.has(move.id)) after.set(move.id, move.to);
  // What was to be given and was not, another has moved: it is read again before it is driven.
  const unclear = new Set(event.moves.filter((move) => !event.moved.has(move.id)).map((move) => move.id));
  return driving(withOwners(state, after, now), event.begun, unclear);
}

/** What is this node's by the owners read in this tenure, but for some. */
function driving(state: MembershipState, tenure: number, without: ReadonlySet<Shard>): Stepped {
  const mine = new Set<Shard>();
  const gained: Shard[] = [];
  const had = tenure === state.tenure ? state.mine : new Set<Shard>();
  for (const [shard, owner] of state.ownership) {
    if (owner !== state.boot || without.has(shard)) continue;
    mine.add(shard);
    if (!had.has(shard)) gained.push(shard);
  }
  return {
    state: { ...state, mine, tenure },
    effects: gained.length === 0 ? [] : [{ kind: "gained", shards: gained }],
  };
}

/**
 * Who may own shards: the living that stay, and of those just come only owners and the ones nobody is there before. Where
 * none stays, those that would go.
 */
function candidates(state: MembershipState): Candidate[] {
  const { boot, nodes } = state;
  const owning = new Set(state.ownership.values());
  // One that the others take for staying would be given back what it gives away.
  const goes = isDraining(state) && state.told === "DRAINING";
  const staying = nodes.filter((node) => (node.boot === boot ? !goes : node.state === "LIVE"));
  const settled = staying.filter((node) => node.ageMs >= JOIN_DELAY_MS || owning.has(node.boot));
  const able = settled.length > 0 ? settled : staying.length > 0 ? staying : nodes;
  return able.map((node) => ({ boot: node.boot, weight: 1 }));
}

/** Notes what has moved since the last look. */
function withOwners(state: MembershipState, ownership: Ownership, at: number): MembershipState {
  const moves = new Map<string, SeenMove>();
  const last = state.ownership;
  if (last.size === SHARD_COUNT) {
    for (const [shard, to] of ownership) {
      const from = last.get(shard) ?? null;
      if (from === to) continue;
      const key = `${from} ${to}`;
      moves.set(key, { at, from, to, shards: (moves.get(key)?.shards ?? 0) + 1 });
    }
  }
  const kept = moves.size === 0 ? state.moves : [...state.moves, ...moves.values()].slice(-MOVES_KEPT);
  return { ...state, ownership, moves: kept };
}

/** Of the gone too, for as long as moves of theirs may be shown. */
function namesKept({ names }: MembershipState, nodes: readonly NodeRow[]): ReadonlyMap<BootId, string> {
  if (nodes.every((node) => names.get(node.boot) === node.name)) return names;
  const all = new Map([...names, ...nodes.map((node) => [node.boot, node.name] as const)]);
  for (const boot of all.keys()) {
    if (all.size <= NAMES_MAX) break;
    if (nodes.every((node) => node.boot !== boot)) all.delete(boot);
  }
  return all;
}
