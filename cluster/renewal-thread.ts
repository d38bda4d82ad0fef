/**
 * The thread that renews this node's lease, over a connection of its own that also holds the lock: a main loop that is busy
 * does not make the node lapse. It watches whether that loop turns at all, and gives the lease up when it does not. What is
 * decided stands in lease.ts; this is the loop around it.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type BootId, systemClock as clock } from "../domain.ts";
import { faultFields, openLog } from "../log.ts";
import { openDatabase } from "../persistence/database.ts";
import { DatabaseDown, isDriverFault } from "../persistence/database-faults.ts";
import { giveUpLease, renewLease } from "../persistence/leases.ts";
import { newestMigration } from "../persistence/migrate.ts";
import type { PrimaryState } from "../persistence/primary.ts";
import { openToldPrimary } from "../persistence/told-primary.ts";
import {
  LEASE_MS,
  type Lease,
  type LeaseEffect,
  type LeaseEvent,
  nextLookMs,
  noLease,
  RENEW_MS,
  type Report,
  stepLease,
} from "./lease.ts";
import { openLeaseMemory } from "./lease-memory.ts";
import { superviseLoop } from "./supervision.ts";

export type RenewalSlice = {
  readonly node: string;
  readonly address: string;
  readonly logLevel: string;
};
export type ThreadData = {
  readonly slice: RenewalSlice;
  readonly boot: BootId;
  readonly lockKey: string;
  readonly buffer: SharedArrayBuffer;
  /** What the thread before this one knew. */
  readonly before: Pick<Lease, "tenure" | "server" | "left"> | null;
};
export type ToThread =
  | { readonly kind: "renew"; readonly id: number }
  | { readonly kind: "primary"; readonly state: PrimaryState }
  /** Why this node gives its shards away; null: it does not. */
  | { readonly kind: "why"; readonly why: string | null }
  | { readonly kind: "close" };
export type FromThread =
  | { readonly kind: "report"; readonly report: Report; readonly lease: Pick<Lease, "tenure" | "server" | "left"> }
  /** The renewal asked for is over, well or not. */
  | { readonly kind: "renewed"; readonly id: number; readonly well: boolean }
  /** The connection was lost: the main loop is to look for the primary. */
  | { readonly kind: "search" };

const LOOK_MS = 250;

const port = parentPort!;
const { slice, boot, lockKey, buffer, before } = workerData as ThreadData;
const log = openLog(slice.logLevel, slice.node).child({ thread: "renewal" });
const memory = openLeaseMemory(buffer);
const primary = openToldPrimary(() => say({ kind: "search" }));
const database = openDatabase(
  { name: "premise_core", urls: [], node: slice.node, connectionsMax: 1, lease: true },
  { log, primary },
);
const known = newestMigration("premise_core");
let lease = noLease(boot, before);
let pauseMs = RENEW_MS;
let why: string | null = null;

process.on("uncaughtException", (error: unknown) => {
  log.error({ ...faultFields(error) }, "an error nobody caught");
  if (!isDriverFault(error)) process.exit(1);
});

function take(event: LeaseEvent): readonly LeaseEffect[] {
  const stepped = stepLease(lease, event, clock.monotonic());
  lease = stepped.lease;
  memory.publish(lease);
  return stepped.effects;
}

async function round(): Promise<void> {
  pauseMs = RENEW_MS;
  if (lease.stalled) {
    if (lease.givenUp) return;
    await giveUpLease(database, { boot, asked: clock.monotonic() });
    take({ kind: "given-up" });
    return;
  }
  const asked = clock.monotonic();
  const { load, weight } = memory.said();
  const state = why === null ? "LIVE" : "DRAINING";
  const { node: name, address } = slice;
  const self = { boot, name, address, state, why, load, weight, knows: await known, lockKey, asked } as const;
  const renewed = await renewLease(database, self, LEASE_MS);
  for (const effect of take({ kind: "answered", asked, state, renewed })) {
    if (effect.kind === "outdated") {
      log.error({ timeline: renewed.timeline }, "a database server of a timeline that was left behind still answers");
      throw new DatabaseDown(true);
    }
    if (effect.kind !== "report") continue;
    const { tenure, server, left } = lease;
    say({ kind: "report", report: effect.report, lease: { tenure, server, left } });
  }
  pauseMs = nextLookMs(lease, renewed.nodes, clock.monotonic());
}

function say(message: FromThread): void {
  port.postMessage(message);
}

// Failures, however many, are no reason to be without a lease for longer than they last.
const renewal = superviseLoop("renewal", () => pauseMs, round, { log, clock }, RENEW_MS);
database.onChange((up) => {
  if (up) renewal.wake();
});

let ticks = memory.ticks();
let lookedAt = clock.monotonic();
const watch = setInterval(() => {
  const now = clock.monotonic();
  const seen = memory.ticks();
  // Where this thread did not run either, the process was frozen, and no loop of it stalled.
  const ms = Math.min(now - lookedAt, 2 * LOOK_MS);
  const stalled = lease.stalled;
  const effects = take({ kind: "looked", ticked: seen !== ticks, ms });
  ticks = seen;
  lookedAt = now;
  if (lease.stalled && !stalled) log.error({}, "the main loop does not turn: the lease is given up");
  if (!lease.stalled && stalled) log.warn({}, "the main loop turns again: the lease is claimed anew");
  if (effects.some((effect) => effect.kind === "renew")) renewal.wake();
}, LOOK_MS);

port.on("message", (message: ToThread) => {
  if (message.kind === "close") {
    void close();
    return;
  }
  if (message.kind === "why") {
    why = message.why;
    return;
  }
  if (message.kind === "primary") {
    primary.tell(message.state);
    return;
  }
  const { id } = message;
  renewal.run().then(
    () => say({ kind: "renewed", id, well: true }),
    () => say({ kind: "renewed", id, well: false }),
  );
});

async function close(): Promise<void> {
  clearInterval(watch);
  await renewal.close();
  await database.close();
  port.close();
}
