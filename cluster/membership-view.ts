/** What a node can say of its cluster. Pure. */
import { type BootId, SHARD_COUNT } from "../domain.ts";
import { isDraining, type MembershipState } from "./membership-state.ts";

export type ClusterView = {
  readonly nodes: readonly {
    readonly name: string;
    readonly boot: BootId;
    readonly address: string;
    readonly state: string;
    readonly load: number;
    readonly shards: number;
    /** How long its lease lasts if it is not renewed, ms. */
    readonly leaseMs: number;
    /** How long it has been up, ms. */
    readonly ageMs: number;
    readonly drainAsked: boolean;
    /** Why it gives its shards away of itself; only the node that is asked knows its own. */
    readonly reasons: readonly string[];
  }[];
  /** Shards no living node owns. */
  readonly unowned: number;
  /** The latest, oldest first; nodes by name, null: none. `at`: ms since 1970. */
  readonly moves: readonly {
    readonly at: number;
    readonly from: string | null;
    readonly to: string | null;
    readonly shards: number;
  }[];
};

/** `now` is monotonic, `wall` the same instant in ms since 1970. */
export function viewOf(state: MembershipState, now: number, wall: number): ClusterView {
  const { boot, nodes, ownership, names } = state;
  const shards = new Map<BootId, number>();
  for (const owner of ownership.values()) if (owner !== null) shards.set(owner, (shards.get(owner) ?? 0) + 1);
  const passed = now - state.seenAt;
  const owned = nodes.reduce((sum, node) => sum + (shards.get(node.boot) ?? 0), 0);
  const nameOf = (of: BootId | null) => (of === null ? null : (names.get(of) ?? of));
  return {
    unowned: SHARD_COUNT - owned,
    nodes: nodes.map((node) => ({
      name: node.name,
      boot: node.boot,
      address: node.address,
      state: node.boot === boot && isDraining(state) ? "DRAINING" : node.state,
      load: node.load,
      shards: shards.get(node.boot) ?? 0,
      leaseMs: Math.max(0, Math.round(node.leaseMs - passed)),
      ageMs: Math.round(node.ageMs + passed),
      drainAsked: node.drainAsked,
      reasons: node.boot === boot ? state.reasons : [],
    })),
    moves: state.moves.map(({ at, from, to, shards: count }) => ({
      at: Math.round(wall - (now - at)),
      from: nameOf(from),
      to: nameOf(to),
      shards: count,
    })),
  };
}
