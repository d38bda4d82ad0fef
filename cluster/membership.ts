/**
 * This node's life in the cluster: renews its lease every 500 ms for 2 s, sees who else is alive, takes and gives
 * shards. Driving needs a lease that is good by this node's own monotonic clock, counted from when it asked.
 *
 *   joining ─► live ⇄ draining ─► left
 *               ▲ │ no renewal has come back in time, or this loop has not turned for 1 s
 *               │ ▼
 *              lapsed: drives nothing; records receipts and accepts pages as ever
 *
 * A node is dead when its lock is gone and it has not renewed for 600 ms, or when its lease has run out.
 *
 *   renewal ──── reports ─► placement          reads the owners, takes and gives shards
 *   (a thread           └─► housekeeping       releases what the dead had claimed, writes them off, ends links of theirs
 *    of its own)
 *
 * Nothing slow ever delays a renewal, nor housekeeping a shard. What is decided stands in lease.ts (the thread's side) and
 * membership-state.ts; this is the loops around it.
 */
import { randomBytes, randomUUID } from "node:crypto";
import type { BootId, Clock, Shard } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import { releaseClaims } from "../persistence/claims.ts";
import type { Database } from "../persistence/database.ts";
import { declareDead, leave, moveShards, type NodeRow, shardOwners } from "../persistence/leases.ts";
import { closeLinksOf, closeStrayLinks } from "../persistence/outbox.ts";
import { closeStrayStreams, closeStreamsOf } from "../persistence/streams.ts";
import { RENEW_MS, type Report } from "./lease.ts";
import { type MembershipEvent, newMember, stepMembership, whyDraining } from "./membership-state.ts";
import type { Move } from "./placement.ts";
import { type MemberSlice, openRenewal } from "./renewal.ts";
import { superviseLoop } from "./supervision.ts";

/** Between two looks for links that belong to no living node. */
const STRAYS_MS = 2_000;
/** A placement waits to be woken by a renewal; this is how long at most. */
const PLACE_MS = 10 * RENEW_MS;
/** Claims of the dead released in one statement, of each priority, and statements in one round: the rest runs out by itself. */
const RELEASE_MAX = 1_000;
const RELEASES_MAX = 20;

/** How many shards came and went; `takenOver`: of those gained, from nodes that are no more. */
export type Moved = { readonly gained: number; readonly given: number; readonly takenOver: number };

export type Membership = {
  readonly boot: BootId;
  /** Whether this node may drive the shard at this instant. */
  drives(shard: Shard): boolean;
  shards(): readonly Shard[];
  /** Whether its lease is good. */
  leased(): boolean;
  /** All that are alive, as the last renewal saw them. */
  nodes(): readonly Pick<NodeRow, "boot" | "name" | "state" | "load" | "silentMs" | "locked">[];
  /** ms until its lease runs out by its own clock; 0 when it has. */
  leaseLeftMs(): number;
  /** true, or why this node gives its shards away. */
  staying(): true | string;
  /** Called when shards have come to this node or gone from it. */
  onMoves(listener: (moves: Moved) => void): void;
  /** Resolves when the first renewal is over, well or not: from then on the database's time is known, where it is there. */
  readonly joined: Promise<void>;
  /** Called when shards have come to this node. */
  onGain(listener: (shards: readonly Shard[]) => void): void;
  /** Called when a node was written off: what it had claimed is due now. */
  onRelease(listener: () => void): void;
  /**
   * For as long as any reason stands this node gives its shards to those that stay, and takes none. Where nobody stays it goes on as it
   * did. The lease goes on.
   */
  withdraw(reason: string): void;
  restore(reason: string): void;
  /** How much of the shards this node is to have beside the others, 1 as a rule. */
  weigh(weight: number): void;
  /** Withdraws for good, as this node stops; resolves when the others have its shards, rejects when that could not be written. */
  drain(): Promise<void>;
  /** Drains, and leaves. */
  close(): Promise<void>;
};

const STOPPING = "stopping";

export function joinCluster(
  slice: MemberSlice,
  ports: {
    readonly database: Database;
    readonly log: Log;
    readonly clock: Clock;
    readonly load: () => number;
    /** What the primary's clock said, and the monotonic ms between which it did. */
    readonly heard: (now: number, asked: number, answered: number) => void;
  },
): Membership {
  const boot = randomUUID() as BootId;
  const lockKey = randomBytes(8).readBigInt64BE().toString();
  const { database, log, clock } = ports;
  const gainListeners: ((shards: readonly Shard[]) => void)[] = [];
  const movesListeners: ((moves: Moved) => void)[] = [];
  const releaseListeners: (() => void)[] = [];
  let state = newMember(boot);
  let closed = false;

  /** Takes in what has happened; answers with the moves it asks for. */
  function take(event: MembershipEvent): readonly Move[] {
    const stepped = stepMembership(state, event);
    state = stepped.state;
    let moves: readonly Move[] = [];
    for (const effect of stepped.effects) {
      switch (effect.kind) {
        case "place":
          placement.wake();
          break;
        case "keep-house":
          housekeeping.wake();
          break;
        case "tell":
          renewal.say(whyDraining(state));
          // What could not be told now is told by the next renewal.
          renewal.renew().catch(() => {});
          break;
        case "move":
          moves = effect.moves;
          break;
        case "changed": {
          const { gained, given, takenOver } = effect;
          if (gained.length > 0) log.info({ gained: gained.length, owned: state.mine.size }, "shards gained");
          if (gained.length > 0) for (const listener of gainListeners) listener(gained);
          for (const listener of movesListeners) listener({ gained: gained.length, given, takenOver });
          break;
        }
      }
    }
    return moves;
  }

  function hear(report: Report): void {
    if (closed) return;
    ports.heard(report.now, report.asked, report.answered);
    take({ kind: "renewed", report });
  }

  async function place(): Promise<void> {
    if (!renewal.holds(null)) return;
    const begun = renewal.tenure();
    const owners = new Map((await shardOwners(database)).map((row) => [row.id, row.owner]));
    const moves = take({ kind: "owners", owners, begun, tenure: renewal.tenure() });
    if (moves.length === 0) return;
    const moved = new Set(await moveShards(database, boot, moves));
    take({ kind: "moved", moves, moved, begun, tenure: renewal.tenure() });
  }

  async function keepHouse(): Promise<void> {
    const { dead } = state;
    if (dead.length > 0) await writeOff(dead);
    await closeStrayLinks(database);
    await closeStrayStreams(database);
  }

  async function writeOff(dead: readonly BootId[]): Promise<void> {
    let released = 0;
    try {
      for (let n = 0; n < RELEASES_MAX; n += 1) {
        const some = await releaseClaims(database, slice.node, dead, RELEASE_MAX);
        released += some;
        if (some < RELEASE_MAX) break;
      }
    } catch (error) {
      // Claims run out by themselves; what waits on a lost node's links does not.
      log.warn(faultFields(error), "what a lost node had claimed could not be released, and runs out");
    }
    // Each node does this of itself, so each one's sweep looks at once, whoever released them.
    for (const listener of releaseListeners) listener();
    const gone = await declareDead(database, dead);
    if (gone.length === 0) return;
    log.warn({ nodes: gone.length, released }, "nodes declared dead");
    await Promise.all([closeLinksOf(database, gone), closeStreamsOf(database, gone)]);
  }

  const tools = { log, clock };
  const renewal = openRenewal({ ...slice, boot, lockKey }, { ...tools, load: ports.load, onReport: hear });
  const placement = superviseLoop("placement", () => PLACE_MS, place, tools);
  const housekeeping = superviseLoop("housekeeping", () => STRAYS_MS, keepHouse, tools);
  const joined = renewal.renew().catch(() => {});

  database.onChange((up) => {
    if (up) placement.wake();
  });

  async function drain(): Promise<void> {
    take({ kind: "withdraw", reason: STOPPING });
    // The others must have been told first: one that takes this node for staying would give shards back.
    await renewal.renew();
    await placement.run();
  }

  return {
    boot,
    joined,
    drives: (shard) => state.mine.has(shard) && renewal.holds(state.tenure),
    shards: () => (renewal.holds(state.tenure) ? [...state.mine] : []),
    leased: () => renewal.holds(null),
    leaseLeftMs: renewal.leftMs,
    nodes: () => state.nodes,
    staying: () => whyDraining(state) ?? true,
    onMoves: (listener) => {
      movesListeners.push(listener);
    },
    onGain: (listener) => {
      gainListeners.push(listener);
    },
    onRelease: (listener) => {
      releaseListeners.push(listener);
    },
    withdraw(reason) {
      log.warn({ reason }, "this node withdraws");
      take({ kind: "withdraw", reason });
    },
    restore(reason) {
      log.warn({ reason }, "this node is no longer withdrawn");
      take({ kind: "restore", reason });
    },
    weigh: renewal.weigh,
    drain,
    async close() {
      // Without a database the others see the lock go.
      await drain().catch(() => {});
      closed = true;
      await Promise.all([renewal.close(), placement.close(), housekeeping.close()]);
      await closeLinksOf(database, [boot]).catch(() => {});
      await leave(database, boot).catch(() => {});
    },
  };
}
