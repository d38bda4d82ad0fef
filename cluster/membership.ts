/**
 * This node's life in the cluster: renews its lease every 500 ms for 2 s, sees who else is alive, takes and gives
 * shards. Driving needs a lease that is good by this node's own monotonic clock, counted from when it asked.
 *
 *   joining ─► live ─► draining ─► left
 *               ▲ │ no renewal has come back in time
 *               │ ▼
 *              lapsed: drives nothing; records receipts and accepts pages as ever
 *
 * A node is dead when its lock is gone and it has not renewed for 750 ms, or when its lease has run out.
 *
 *   renewal ──────── wakes ─► placement          reads the owners, takes and gives shards
 *   (a connection    wakes ─► housekeeping       writes the dead off, ends links of theirs
 *    of its own)
 *
 * Three loops, so that nothing slow ever delays a renewal, nor housekeeping a shard. What was renewed after a lapse, or
 * after this node was written off, may be another's by now: whatever of owners was read before that counts for nothing.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { type BootId, type Clock, SHARD_COUNT, type Shard } from "../domain.ts";
import type { Log } from "../log.ts";
import type { Database } from "../persistence/database.ts";
import { declareDead, leave, moveShards, type NodeRow, renewLease, shardOwners } from "../persistence/leases.ts";
import { closeLinksOf, closeStrayLinks } from "../persistence/outbox.ts";
import { type Candidate, movesFor, type Ownership } from "./placement.ts";
import { superviseLoop } from "./supervision.ts";

const RENEW_MS = 500;
const LEASE_MS = 2_000;
/** The lease is taken to end this much before the database says so. */
const LEASE_MARGIN_MS = 300;
/** A new node is given shards only after this, so that a rolling restart moves each shard once. */
const JOIN_DELAY_MS = 3_000;
/** Between two looks for links that belong to no living node. */
const STRAYS_MS = 2_000;
/** A placement waits to be woken by a renewal; this is how long at most. */
const PLACE_MS = 10 * RENEW_MS;

export type ClusterView = {
  readonly nodes: readonly {
    readonly name: string;
    readonly boot: BootId;
    readonly state: string;
    readonly load: number;
    readonly shards: number;
  }[];
  /** Shards no living node owns. */
  readonly unowned: number;
};

export type Membership = {
  readonly boot: BootId;
  /** Whether this node may drive the shard at this instant. */
  drives(shard: Shard): boolean;
  shards(): readonly Shard[];
  /** Whether its lease is good. */
  leased(): boolean;
  view(): ClusterView;
  /** Resolves when the first renewal is over, well or not: from then on the database's time is known, where it is there. */
  readonly joined: Promise<void>;
  /** Called when shards have come to this node. */
  onGain(listener: (shards: readonly Shard[]) => void): void;
  /** Gives every shard to the others and takes no more; the lease goes on. Rejects when that could not be written. */
  drain(): Promise<void>;
  /** Drains, and leaves. */
  close(): Promise<void>;
};

export function joinCluster(
  slice: { readonly node: string; readonly address: string },
  ports: {
    /** One connection of its own: it holds the lock that says this process lives, and carries renewals alone. */
    readonly lease: Database;
    readonly database: Database;
    readonly log: Log;
    readonly clock: Clock;
    readonly load: () => number;
    /** What the primary's clock said, and the monotonic ms at which it was asked. */
    readonly heard: (now: number, asked: number) => void;
  },
): Membership {
  const boot = randomUUID() as BootId;
  const lockKey = randomBytes(8).readBigInt64BE().toString();
  const { lease, database, log, clock } = ports;
  const listeners: ((shards: readonly Shard[]) => void)[] = [];
  let draining = false;
  let leaseUntil = Number.NEGATIVE_INFINITY;
  let nodes: readonly NodeRow[] = [];
  let dead: readonly BootId[] = [];
  let ownership: Ownership = new Map();
  let mine: ReadonlySet<Shard> = new Set();
  /** Rises whenever what was known of the owners has lost its worth. */
  let tenure = 0;

  async function renew(): Promise<void> {
    const asked = clock.monotonic();
    const { node: name, address } = slice;
    const state = draining ? "DRAINING" : "LIVE";
    const rows = await renewLease(lease, { boot, name, address, state, load: ports.load(), lockKey }, LEASE_MS);
    if (rows[0] !== undefined) ports.heard(rows[0].now, asked);
    const known = rows.some((row) => row.boot === boot);
    if (clock.monotonic() >= leaseUntil || !known) {
      tenure += 1;
      mine = new Set();
    }
    leaseUntil = asked + LEASE_MS - LEASE_MARGIN_MS;
    nodes = rows.filter((row) => row.boot === boot || isAlive(row));
    dead = rows.filter((row) => row.boot !== boot && !isAlive(row)).map((row) => row.boot);
    placement.wake();
    if (dead.length > 0) housekeeping.wake();
  }

  async function place(): Promise<void> {
    const begun = tenure;
    if (clock.monotonic() >= leaseUntil) return;
    const owners: Ownership = new Map((await shardOwners(database)).map((row) => [row.id, row.owner]));
    if (begun !== tenure) return placement.wake();
    ownership = owners;
    const moves = movesFor(boot, owners, candidates());
    if (moves.length > 0) {
      const moved = new Set(await moveShards(database, moves));
      if (begun !== tenure) return placement.wake();
      const now = new Map(owners);
      for (const move of moves) if (moved.has(move.id)) now.set(move.id, move.to);
      ownership = now;
    }
    const owned = new Set([...ownership].filter(([, owner]) => owner === boot).map(([shard]) => shard));
    const gained = [...owned].filter((shard) => !mine.has(shard));
    mine = owned;
    if (gained.length > 0) {
      log.info({ gained: gained.length, owned: owned.size }, "shards gained");
      for (const listener of listeners) listener(gained);
    }
  }

  async function keepHouse(): Promise<void> {
    const gone = dead.length === 0 ? [] : await declareDead(database, dead);
    if (gone.length > 0) {
      log.warn({ nodes: gone.length }, "nodes declared dead");
      await closeLinksOf(database, gone);
    }
    await closeStrayLinks(database);
  }

  /** Who may own shards: the living that stay, and of those just come only owners and the ones nobody is there before. */
  function candidates(): Candidate[] {
    const owners = new Set(ownership.values());
    const staying = nodes.filter((node) => (node.boot === boot ? !draining : node.state === "LIVE"));
    const settled = staying.filter((node) => node.age >= JOIN_DELAY_MS || owners.has(node.boot));
    return (settled.length > 0 ? settled : staying).map((node) => ({ boot: node.boot, weight: 1 }));
  }

  const tools = { log, clock };
  const placement = superviseLoop("placement", () => PLACE_MS, place, tools);
  const housekeeping = superviseLoop("housekeeping", () => STRAYS_MS, keepHouse, tools);
  const renewal = superviseLoop("renewal", () => RENEW_MS, renew, tools);
  const joined = renewal.run().catch(() => {});
  lease.onChange((up) => {
    if (up) renewal.wake();
  });

  database.onChange((up) => {
    if (up) placement.wake();
  });

  async function drain(): Promise<void> {
    draining = true;
    // The others must have been told first: one that takes this node for staying would give shards back.
    await renewal.run();
    await placement.run();
  }

  return {
    boot,
    joined,
    drives: (shard) => mine.has(shard) && clock.monotonic() < leaseUntil,
    shards: () => (clock.monotonic() < leaseUntil ? [...mine] : []),
    leased: () => clock.monotonic() < leaseUntil,
    view: () => ({
      unowned:
        SHARD_COUNT - [...ownership.values()].filter((owner) => nodes.some((node) => node.boot === owner)).length,
      nodes: nodes.map((node) => ({
        name: node.name,
        boot: node.boot,
        state: node.boot === boot && draining ? "DRAINING" : node.state,
        load: node.load,
        shards: [...ownership.values()].filter((owner) => owner === node.boot).length,
      })),
    }),
    onGain: (listener) => {
      listeners.push(listener);
    },
    drain,
    async close() {
      // Without a database the others see the lock go.
      await drain().catch(() => {});
      await Promise.all([renewal.close(), placement.close(), housekeeping.close()]);
      mine = new Set();
      await closeLinksOf(database, [boot]).catch(() => {});
      await leave(database, boot).catch(() => {});
    },
  };
}

function isAlive(row: NodeRow): boolean {
  return row.leased && (row.locked || row.fresh);
}
