/**
 * The shards this node drives: their branches in the tree, and the sweep that finds what is due in them. The sweep is
 * what makes every faster way optional: whatever died, was lost or found no room is a row with a due time, met here.
 */
import type { Clock, Shard } from "../domain.ts";
import type { Log } from "../log.ts";
import { type Database, urgently } from "../persistence/database.ts";
import { type DueMessage, type DuePlace, dueMessages } from "../persistence/messages.ts";
import type { ActorSystem, Parent } from "./actor-system.ts";
import type { Membership } from "./membership.ts";
import { type Loop, superviseLoop } from "./supervision.ts";

/** Hangs shards under the node, each when it is first used. */
export function openBranches(system: ActorSystem, node: string): (shard: Shard) => Parent {
  const root = system.branch(system.root, node.replace(/[^a-zA-Z0-9-]/g, "-"));
  const branches = new Map<Shard, Parent>();
  return (shard) => {
    let branch = branches.get(shard);
    if (branch === undefined) {
      branch = system.branch(root, `shard-${shard}`);
      branches.set(shard, branch);
    }
    return branch;
  };
}

/** Most rows taken in one look; a takeover of many comes in at this rate and no faster. */
const LOOK_MAX = 500;

/** `lateMs`: how late the oldest row was that its last look took. One that keeps failing is ever later, and no work that is behind. */
export type Sweep = Loop & { lateMs(): number };

export function openSweep(
  slice: { readonly intervalMs: number },
  ports: {
    readonly database: Database;
    readonly membership: Membership;
    readonly log: Log;
    readonly clock: Clock;
    /** How many more messages may be driven now. */
    readonly room: () => number;
    /** Whether it was taken; not when it is being driven already, or may not be driven yet. */
    readonly drive: (due: DueMessage) => boolean;
    /** Called each round, for leaves that nobody will answer any more. */
    readonly reap: () => void;
  },
): Sweep {
  let lateMs = 0;
  let after: DuePlace | null = null;
  let full = false;
  async function round(): Promise<void> {
    ports.reap();
    const shards = ports.membership.shards();
    const limit = Math.min(LOOK_MAX, ports.room());
    const begun = after;
    after = null;
    full = false;
    // Without room there is no look, and what it found late before is later now.
    if (limit > 0) lateMs = 0;
    if (shards.length === 0 || limit <= 0 || !ports.database.isUp()) return;
    // Behind everybody else it would be refused for as long as a crowd lasts, and what was lost with it would stay lost.
    const due = await dueMessages(urgently(ports.database), shards, limit, begun);
    const taken = due.filter((message) => ports.drive(message));
    lateMs = Math.max(0, ...taken.map(({ readAt, place }) => readAt - place.dueMs));
    // Only rows that are being driven or rest after a failure: the next look goes on behind them.
    after = due.length === limit && taken.length === 0 ? due.at(-1)!.place : null;
    full = due.length === limit;
  }
  const pauseMs = () => (full ? Math.min(50, slice.intervalMs) : slice.intervalMs);
  const loop = superviseLoop("sweep", pauseMs, round, ports);
  ports.membership.onGain(() => loop.wake());
  ports.membership.onRelease(() => loop.wake());
  return { ...loop, lateMs: () => lateMs };
}
