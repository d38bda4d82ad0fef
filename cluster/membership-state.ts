/**
 * What this node makes of what it hears of the others, and of who owns what. Pure: the loops around it are in membership.ts.
 *
 *   renewed ─► who is alive, who is dead ─► place, where anything of that has changed; keep house
 *   owners  ─► what is mine, what is to be moved ─► moved ─► what is mine
 *   withdraw, restore, an operator's wish ─► told to the others, then place
 *
 * Owners read in an older tenure than the present one say nothing of what is driven now, and are read again. What is given
 * away is driven no more before it is written.
 */
import type { BootId, Shard } from "../domain.ts";
import type { NodeRow } from "../persistence/leases.ts";
import { isDead, type Report } from "./lease.ts";
import { type Candidate, type Move, movesFor, type Ownership } from "./placement.ts";

/** A new node is given shards only after this, so that a rolling restart moves each shard once. */
const JOIN_DELAY_MS = 3_000;
/** A renewal comes every 500 ms. */
const SUSPECT_MS = 1_000;

export type MembershipState = {
  readonly boot: BootId;
  /** Why this node itself wants to give its shards away; empty: it does not. */
  readonly reasons: readonly string[];
  readonly drainAsked: boolean;
  /** What the others have been told of this node. */
  readonly told: NodeRow["state"];
  readonly nodes: readonly NodeRow[];
  readonly dead: readonly BootId[];
  readonly ownership: Ownership;
  /** What may be driven, for as long as `tenure` is the present one. */
  readonly mine: ReadonlySet<Shard>;
  readonly tenure: number;
  /** What the last placement was for; where nothing of it has changed there is nothing to place. */
  readonly placedFor: string;
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
  /** `given`: gone from this node; `takenOver`: of those gained, from nodes that are no more. */
  | { readonly kind: "changed"; readonly gained: readonly Shard[]; readonly given: number; readonly takenOver: number };

type Stepped = { readonly state: MembershipState; readonly effects: readonly MembershipEffect[] };

export function newMember(boot: BootId): MembershipState {
  return {
    boot,
    reasons: [],
    drainAsked: false,
    told: "LIVE",
    nodes: [],
    dead: [],
    ownership: new Map(),
    mine: new Set(),
    tenure: 0,
    placedFor: "",
  };
}

export function stepMembership(state: MembershipState, event: MembershipEvent): Stepped {
  switch (event.kind) {
    case "renewed":
      return renewed(state, event.report);
    case "owners":
      return owners(state, event);
    case "moved":
      return moved(state, event);
    case "withdraw":
      return wishing({ ...state, reasons: [...new Set([...state.reasons, event.reason])] }, state);
    case "restore":
      return wishing({ ...state, reasons: state.reasons.filter((reason) => reason !== event.reason) }, state);
  }
}

/** Why this node gives its shards away; null: it does not. */
export function whyDraining({ reasons, drainAsked }: MembershipState): string | null {
  return [...reasons, ...(drainAsked ? ["an operator asked"] : [])].join(", ") || null;
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
    dead: dead.map((node) => node.boot),
    mine: report.tenure > state.tenure ? new Set() : state.mine,
    tenure: Math.max(report.tenure, state.tenure),
    placedFor: placementOf(report, dead),
  };
  const place: MembershipEffect[] = next.placedFor === state.placedFor ? [] : [{ kind: "place" }];
  const house: MembershipEffect[] = dead.length > 0 ? [{ kind: "keep-house" }] : [];
  return { state: next, effects: [...place, ...house, ...wishing(next, state).effects] };
}

/** It may be dead: then nothing is moved but what must be. */
export function isSuspect(node: Pick<NodeRow, "locked" | "silentMs">): boolean {
  return !node.locked || node.silentMs > SUSPECT_MS;
}

/** All that a placement goes by: who is there, who goes, who has just come, what each weighs, and whether anybody has moved shards. */
function placementOf({ tenure, state, nodes }: Report, dead: readonly NodeRow[]): string {
  const staying = nodes.filter((node) => !dead.includes(node));
  const facts = staying.map(
    (node) => `${node.boot} ${node.state} ${node.ageMs >= JOIN_DELAY_MS} ${node.moves} ${node.weight}`,
  );
  return [tenure, state, staying.some(isSuspect), ...facts.sort()].join("\n");
}

function wishing(state: MembershipState, before: MembershipState): Stepped {
  return { state, effects: whyDraining(state) === whyDraining(before) ? [] : [{ kind: "tell" }] };
}

function owners(state: MembershipState, event: MembershipEvent & { kind: "owners" }): Stepped {
  if (event.begun !== event.tenure) return { state, effects: [{ kind: "place" }] };
  const known = { ...state, ownership: event.owners };
  const staying = candidates(known);
  const suspect = known.nodes.some((node) => node.boot !== state.boot && isSuspect(node));
  // One that goes gives all; one that stays evens out later.
  const stays = staying.some((node) => node.boot === state.boot);
  const moves = movesFor(state.boot, event.owners, staying).filter(
    ({ from }) => from !== state.boot || !stays || !suspect,
  );
  const given = new Set(moves.filter((move) => move.from === state.boot).map((move) => move.id));
  const next = driving(known, event.begun, given);
  return moves.length === 0 ? next : { ...next, effects: [...next.effects, { kind: "move", moves }] };
}

function moved(state: MembershipState, event: MembershipEvent & { kind: "moved" }): Stepped {
  if (event.begun !== event.tenure) return { state, effects: [{ kind: "place" }] };
  const after = new Map(state.ownership);
  for (const move of event.moves) if (event.moved.has(move.id)) after.set(move.id, move.to);
  // What was to be given and was not, another has moved: it is read again before it is driven.
  const unclear = new Set(event.moves.filter((move) => !event.moved.has(move.id)).map((move) => move.id));
  const living = new Set(state.nodes.map((node) => node.boot));
  const lost = event.moves.filter(({ id, from }) => event.moved.has(id) && from !== null && !living.has(from));
  const takenOver = lost.filter(({ to }) => to === state.boot).length;
  return driving({ ...state, ownership: after }, event.begun, unclear, takenOver);
}

/** What is this node's by the owners read in this tenure, but for some. */
function driving(state: MembershipState, tenure: number, without: ReadonlySet<Shard>, takenOver = 0): Stepped {
  const mine = new Set<Shard>();
  const gained: Shard[] = [];
  const had = tenure === state.tenure ? state.mine : new Set<Shard>();
  for (const [shard, owner] of state.ownership) {
    if (owner !== state.boot || without.has(shard)) continue;
    mine.add(shard);
    if (!had.has(shard)) gained.push(shard);
  }
  const given = [...had].filter((shard) => !mine.has(shard)).length;
  return {
    state: { ...state, mine, tenure },
    effects: gained.length + given === 0 ? [] : [{ kind: "changed", gained, given, takenOver }],
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
  const goes = whyDraining(state) !== null && state.told === "DRAINING";
  const staying = nodes.filter((node) => (node.boot === boot ? !goes : node.state === "LIVE"));
  const settled = staying.filter((node) => node.ageMs >= JOIN_DELAY_MS || owning.has(node.boot));
  const able = settled.length > 0 ? settled : staying.length > 0 ? staying : nodes;
  // All by the same rule: beside one that knows no weights there are none.
  const weighed = able.every((node) => node.weight !== null);
  return able.map((node) => ({ boot: node.boot, weight: weighed ? node.weight! : 1 }));
}
