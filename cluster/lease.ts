/**
 * This node's right to drive, as its renewal thread sees it: until when, and since which change of it what is known of owners
 * counts. Pure; all times are this machine's monotonic ms.
 *
 *              answered                       no answer in time
 *   void ──────────────────► good until asked + 1.7 s ──────────► void
 *     ▲                        │   │ answered by another server, or the same begun anew: tenure + 1,
 *     │   no tick of the main  │   │ and nobody is judged dead for 2 s, so that all have time to come
 *     │   loop for 1 s         ▼   └──► good, nobody judged
 *     └──────────────────── stalled ── given up in the database ── it ticks ──► claimed anew
 *
 * `tenure` rises whenever shards may have become another's meanwhile: after a lapse, after this node was written off, and
 * where the database may have lost what it said. Whatever of owners was read in an older tenure counts for nothing.
 */
import type { BootId } from "../domain.ts";
import { type NodeRow, type Renewed, SILENT_MS } from "../persistence/leases.ts";

export const RENEW_MS = 500;
export const LEASE_MS = 2_000;
/** The lease is taken to end this much before the database says so. */
const LEASE_MARGIN_MS = 300;
/** The main loop turns at least so often, or it does not serve. */
const STALLED_MS = 1_000;
/** What the database rounds off, and a look that must not come too early. */
const SOON_MS = 5;
const LOOK_MIN_MS = 20;
const TIMELINES_MAX = 16;

export type Lease = {
  readonly boot: BootId;
  /** The right to drive ends here. */
  readonly until: number;
  readonly tenure: number;
  /** The server that answered last, and since when it has run there. */
  readonly server: { readonly timeline: string; readonly startedAt: number } | null;
  /** Timelines left behind. */
  readonly left: readonly string[];
  /** Nobody is judged dead before this. */
  readonly judgesFrom: number;
  /** How long the main loop has not been seen to turn. */
  readonly quietMs: number;
  readonly stalled: boolean;
  /** The stall has been said in the database. */
  readonly givenUp: boolean;
};

export type LeaseEvent =
  /** `state`: what the renewal told of this node. */
  | { readonly kind: "answered"; readonly asked: number; readonly state: NodeRow["state"]; readonly renewed: Renewed }
  /** `ms`: since the last such look, as far as this thread ran meanwhile. */
  | { readonly kind: "looked"; readonly ticked: boolean; readonly ms: number }
  | { readonly kind: "given-up" };

/** What the main loop is told of a renewal. */
export type Report = {
  readonly asked: number;
  readonly answered: number;
  readonly now: number;
  readonly tenure: number;
  readonly state: NodeRow["state"];
  readonly nodes: readonly NodeRow[];
  /** Whether a node may be taken for dead by this. */
  readonly judges: boolean;
};

export type LeaseEffect =
  | { readonly kind: "report"; readonly report: Report }
  /** The next renewal, or the giving up, is due now. */
  | { readonly kind: "renew" }
  /** A server of a timeline that was left behind answered: its word counts for nothing. */
  | { readonly kind: "outdated" };

export function noLease(boot: BootId, before: Pick<Lease, "tenure" | "server" | "left"> | null = null): Lease {
  const kept = { tenure: before?.tenure ?? 0, server: before?.server ?? null, left: before?.left ?? [] };
  const none = Number.NEGATIVE_INFINITY;
  return { boot, ...kept, until: none, judgesFrom: none, quietMs: 0, stalled: false, givenUp: false };
}

export function stepLease(
  lease: Lease,
  event: LeaseEvent,
  now: number,
): { lease: Lease; effects: readonly LeaseEffect[] } {
  switch (event.kind) {
    case "answered":
      return answered(lease, event, now);
    case "looked": {
      const quietMs = event.ticked ? 0 : lease.quietMs + event.ms;
      if (lease.stalled && event.ticked) {
        return { lease: { ...lease, quietMs, stalled: false, givenUp: false }, effects: [{ kind: "renew" }] };
      }
      if (lease.stalled || quietMs < STALLED_MS) return { lease: { ...lease, quietMs }, effects: [] };
      const voided = { ...lease, quietMs, stalled: true, givenUp: false, until: Number.NEGATIVE_INFINITY };
      return { lease: voided, effects: [{ kind: "renew" }] };
    }
    case "given-up":
      return { lease: { ...lease, givenUp: lease.stalled }, effects: [] };
  }
}

function answered(
  lease: Lease,
  { asked, state, renewed }: LeaseEvent & { kind: "answered" },
  now: number,
): { lease: Lease; effects: readonly LeaseEffect[] } {
  const { timeline, startedAt, nodes } = renewed;
  // It was asked before the stall was seen, and is given up behind this.
  if (lease.stalled) return { lease, effects: [] };
  if (lease.left.includes(timeline)) return { lease, effects: [{ kind: "outdated" }] };
  const { server } = lease;
  const moved = server !== null && server.timeline !== timeline;
  const anew = moved || (server !== null && server.startedAt !== startedAt);
  const known = nodes.some((node) => node.boot === lease.boot);
  const next: Lease = {
    ...lease,
    until: asked + LEASE_MS - LEASE_MARGIN_MS,
    tenure: now >= lease.until || !known || anew ? lease.tenure + 1 : lease.tenure,
    server: { timeline, startedAt },
    left: moved ? [...lease.left, server.timeline].slice(-TIMELINES_MAX) : lease.left,
    judgesFrom: anew ? now + LEASE_MS : lease.judgesFrom,
  };
  const judges = now >= next.judgesFrom;
  const report = {
    asked,
    answered: now,
    now: renewed.now,
    tenure: next.tenure,
    state,
    nodes,
    judges,
  };
  return { lease: next, effects: [{ kind: "report", report }] };
}

/** When the next renewal is due, ms from a renewal that said `nodes`: at once when one of them could be judged. */
export function nextLookMs(lease: Lease, nodes: readonly NodeRow[], now: number): number {
  // What it wrote it sees in the next: a node that has just come, or come back, need not wait for that.
  if (nodes.every((node) => node.boot !== lease.boot)) return LOOK_MIN_MS;
  const others = nodes.filter((node) => node.boot !== lease.boot && !isDead(node));
  const judged = others.map((node) => (node.locked ? node.leaseMs : Math.min(node.leaseMs, SILENT_MS - node.silentMs)));
  const waits = now < lease.judgesFrom ? [lease.judgesFrom - now] : judged;
  return Math.min(RENEW_MS, Math.max(LOOK_MIN_MS, Math.min(...waits, RENEW_MS) + SOON_MS));
}

/** Its lock is gone and it has been silent for a while, or its lease has run out. */
export function isDead(node: NodeRow): boolean {
  return node.leaseMs <= 0 || (!node.locked && node.silentMs >= SILENT_MS);
}
