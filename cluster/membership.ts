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
/** Links that belong to no living node are looked for once in so many renewals. */
const STRAYS_ROUNDS = 4;
const JOIN_DELAY_MS = 3_000;

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
  /** Called when shards have come to this node. */
  onGain(listener: (shards: readonly Shard[]) => void): void;
  /** Gives every shard away and leaves. */
  close(): Promise<void>;
};

export function joinCluster(
  slice: { readonly node: string; readonly address: string },
  ports: {
    /** One connection of its own: it holds the lock that says this process lives. */
    readonly database: Database;
    readonly log: Log;
    readonly clock: Clock;
    readonly load: () => number;
  },
): Membership {
  const boot = randomUUID() as BootId;
  const lockKey = randomBytes(8).readBigInt64BE().toString();
  const { database, log, clock } = ports;
  const listeners: ((shards: readonly Shard[]) => void)[] = [];
  let draining = false;
  let leaseUntil = Number.NEGATIVE_INFINITY;
  let nodes: readonly NodeRow[] = [];
  let ownership: Ownership = new Map();
  let mine: ReadonlySet<Shard> = new Set();

  let rounds = 0;
  async function round(): Promise<void> {
    const asked = clock.monotonic();
    const self = {
      boot,
      name: slice.node,
      address: slice.address,
      state: draining ? ("DRAINING" as const) : ("LIVE" as const),
      load: ports.load(),
      lockKey,
    };
    const rows = await renewLease(database, self, LEASE_MS);
    // What lapsed may be another's by now: nothing is driven again before the owners have been read.
    if (clock.monotonic() >= leaseUntil) mine = new Set();
    leaseUntil = asked + LEASE_MS - LEASE_MARGIN_MS;
    nodes = rows.filter((row) => row.boot === boot || isAlive(row));
    const dead = rows.filter((row) => row.boot !== boot && !isAlive(row)).map((row) => row.boot);
    if (dead.length > 0) {
      await closeLinksOf(database, dead);
      await declareDead(database, dead);
      log.warn({ nodes: dead.length }, "nodes declared dead");
    }
    await place();
    if (rounds % STRAYS_ROUNDS === 0) await closeStrayLinks(database);
    rounds += 1;
  }

  async function place(): Promise<void> {
    ownership = new Map((await shardOwners(database)).map((row) => [row.id, row.owner]));
    const moves = movesFor(boot, ownership, candidates());
    if (moves.length > 0) {
      const moved = new Set(await moveShards(database, moves));
      const now = new Map(ownership);
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

  /** Who may own shards: the living that stay, and of those just come only owners and the ones nobody is there before. */
  function candidates(): Candidate[] {
    const owners = new Set(ownership.values());
    const staying = nodes.filter((node) => (node.boot === boot ? !draining : node.state === "LIVE"));
    const settled = staying.filter((node) => node.age >= JOIN_DELAY_MS || owners.has(node.boot));
    return (settled.length > 0 ? settled : staying).map((node) => ({ boot: node.boot, weight: 1 }));
  }

  const loop = superviseLoop("membership", () => RENEW_MS, round, { log, clock });
  database.onChange((up) => {
    if (up) loop.wake();
  });

  return {
    boot,
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
    async close() {
      draining = true;
      await loop.close();
      // One more round by hand gives the shards away; without a database the others see the lock go.
      await round().catch(() => {});
      mine = new Set();
      await closeLinksOf(database, [boot]).catch(() => {});
      await leave(database, boot).catch(() => {});
    },
  };
}

function isAlive(row: NodeRow): boolean {
  return row.leased && (row.locked || row.fresh);
}
