/**
 * The leaves of the tree by their ids: one actor for each message or device something is due for, each hanging from its
 * shard, and reached directly. Bounded: what finds no room here still has its due row, and the sweep comes back for it.
 *
 *   absent ─► resident ─► absent            its work is done
 *                 │ fails
 *                 ▼
 *              resting ─► absent            a pause that doubles with each failure of the same id
 */
import type { Clock, Shard } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import type { Meter } from "../meter.ts";
import { isPassing } from "../persistence/batch.ts";
import type { ActorSystem, Address, Behaviour, Parent } from "./actor-system.ts";
import { type FailureRecord, judge, type RestartPolicy } from "./supervision.ts";

export type Leaves<M> = {
  get(id: string): Address<M> | undefined;
  /** Starts the actor unless it is there, is resting after a failure, or there is no room. */
  start(id: string, shard: Shard, behaviour: (self: () => Address<M>) => Behaviour<M>): Address<M> | null;
  /** The actor's work is done. Another that has taken its place stays. */
  end(id: string, address: Address<M>): void;
  /** How many more may be started. */
  room(): number;
  /** Ends those that have waited for longer than any answer can take; returns how many. */
  reap(): number;
};

export type LeavesSlice = {
  readonly kind: "message" | "device";
  readonly residentMax: number;
  readonly mailboxMax: number;
  readonly turnMs: number;
  /** Longest a leaf may stay without being ended. */
  readonly lifeMs: number;
};

const FAILURE_POLICY: RestartPolicy = { failuresMax: 5, windowMs: 600_000, pauseMinMs: 1_000, pauseMaxMs: 30_000 };
const RESTING_MAX = 10_000;

type Leaf<M> = { address: Address<M>; since: number };
type Rest = { record: FailureRecord; until: number };

export function openLeaves<M>(
  slice: LeavesSlice,
  ports: {
    readonly system: ActorSystem;
    readonly branch: (shard: Shard) => Parent;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
): Leaves<M> {
  const { log, meter, clock } = ports;
  const leaves = new Map<string, Leaf<M>>();
  const resting = new Map<string, Rest>();

  function fail(id: string, error: unknown): void {
    leaves.delete(id);
    // The database is away, or has enough to do: no fault of the actor's, and said once where it belongs.
    if (isPassing(error)) return;
    meter.count("actor_failures", { actor: slice.kind });
    const verdict = judge(resting.get(id)?.record ?? [], clock.monotonic(), FAILURE_POLICY);
    resting.delete(id);
    // The oldest rest makes way: at worst an actor comes back before its pause is over.
    if (resting.size >= RESTING_MAX) resting.delete(resting.keys().next().value!);
    resting.set(id, { record: verdict.record, until: clock.monotonic() + verdict.pauseMs });
    log.warn({ actor: slice.kind, id, ...faultFields(error) }, verdict.spent ? "actor keeps failing" : "actor failed");
  }

  return {
    get(id) {
      const leaf = leaves.get(id);
      if (leaf === undefined) return undefined;
      // Somebody wants it: its time begins anew, and it goes to the end of the row.
      leaves.delete(id);
      leaves.set(id, { address: leaf.address, since: clock.monotonic() });
      return leaf.address;
    },
    start(id, shard, behaviour) {
      if (leaves.has(id) || leaves.size >= slice.residentMax) return null;
      const rest = resting.get(id);
      if (rest !== undefined && clock.monotonic() < rest.until) return null;
      const holder: { address?: Address<M> } = {};
      const address = ports.system.spawn<M>(
        ports.branch(shard),
        `${slice.kind}-${id}`,
        { mailboxMax: slice.mailboxMax, turnMs: slice.turnMs, onFailure: (error) => fail(id, error) },
        behaviour(() => holder.address!),
      );
      holder.address = address;
      leaves.set(id, { address, since: clock.monotonic() });
      return address;
    },
    end(id, address) {
      address.stop();
      if (leaves.get(id)?.address !== address) return;
      leaves.delete(id);
      resting.delete(id);
    },
    room: () => slice.residentMax - leaves.size,
    reap() {
      const before = clock.monotonic() - slice.lifeMs;
      let reaped = 0;
      // In order of age: the map keeps the order of starting.
      for (const [id, leaf] of leaves) {
        if (leaf.since > before) break;
        leaf.address.stop();
        leaves.delete(id);
        reaped += 1;
      }
      return reaped;
    },
  };
}
