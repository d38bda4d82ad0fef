/**
 * The database as the statements of persistence/ use it: each is done whole, at one instant, or not at all. A failover loses
 * what no synchronous commit came after: the tail of the leases' writes, nothing else.
 */
import type { Row } from "../../../actors/message.ts";
import type { Move, Ownership } from "../../../cluster/placement.ts";
import {
  type BootId,
  type HostSystemId,
  rankOf,
  SHARD_COUNT,
  type Shard,
  type StatusText,
  TRANSPORTS,
  type Transport,
  type UniqueId,
} from "../../../domain.ts";
import { DEFAULT_PROFILES } from "../../../persistence/alert-profiles.ts";
import { type NodeRow, type Renewed, SILENT_MS } from "../../../persistence/leases.ts";
import { type Change, CLAIM_MS, type Written } from "../../../persistence/messages.ts";
import type { WakeTarget } from "../../../persistence/page-devices.ts";
import type { Scheduler } from "./scheduler.ts";

/** A rule broken on purpose, to see that it is found. */
export type Mutation = "no deadline" | "no tenure" | "no compare-and-set" | "no number" | null;

export class Violation extends Error {
  override readonly name = "Violation";
}

type NodeEntry = {
  readonly boot: BootId;
  readonly name: string;
  readonly state: "LIVE" | "DRAINING" | "DEAD";
  readonly startedAt: number;
  readonly renewedAt: number;
  readonly leaseUntil: number;
  readonly drainAsked: boolean;
  readonly asked: number;
  readonly moves: number;
};
export type Page = {
  readonly id: UniqueId;
  readonly shard: Shard;
  version: number;
  status: number;
  wakeups: number;
  dueAt: number | null;
  last: { event: string; node: string };
  claimedAt: number;
  readonly told: StatusText[];
};

const FIRST_CLAIM_MS = 3_000;
/** The shortest pause after a claim that came to nothing, on the database's clock, which each failover may move. */
const BETWEEN_CLAIMS_MS = 2_000;
const STATUSES = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"];
const LANE = "lane" as HostSystemId;

export type Store = ReturnType<typeof openStore>;

export function openStore(scheduler: Scheduler, mutation: Mutation) {
  let nodes = new Map<BootId, NodeEntry>();
  let synced = nodes;
  const owners: (BootId | null)[] = new Array(SHARD_COUNT).fill(null);
  /** As it was last read; never changed. */
  let read: Ownership | null = null;
  /** When each shard was last taken from somebody. */
  const lostAt: number[] = new Array(SHARD_COUNT).fill(Number.NEGATIVE_INFINITY);
  const locks = new Set<BootId>();
  const pages = new Map<UniqueId, Page>();
  const notifications = new Set<string>();
  /** The highest number of a wake-up of each page that was ever claimed. */
  const numbers = new Map<UniqueId, number>();
  /** Until when anybody ever gave each node the right to drive, in the scheduler's time. */
  const granted = new Map<BootId, number>();
  /** When each node last came back to such a right after it had run out. */
  const grantedAnew = new Map<BootId, number>();
  let timeline = 1;
  let startedAt = 0;
  let ahead = 0;
  let downUntil = 0;
  let hostedFrom = 0;

  const clock = () => scheduler.now() + ahead;
  const commit = () => {
    synced = new Map(nodes);
  };

  function tell(page: Page, status: StatusText): void {
    const last = page.told.at(-1);
    if (last !== undefined && STATUSES.indexOf(status) <= STATUSES.indexOf(last))
      throw new Violation(`${page.id} was told ${status} after ${last}`);
    page.told.push(status);
  }

  function note(page: Page, event: string, node: string): void {
    page.version += 1;
    page.last = { event, node };
  }

  function claim(page: Page): void {
    const now = clock();
    if (now - page.claimedAt < BETWEEN_CLAIMS_MS)
      throw new Violation(`wake-up ${page.wakeups} of ${page.id} came ${now - page.claimedAt} ms after the one before`);
    page.claimedAt = now;
  }

  const isLost = (node: NodeEntry) => node.leaseUntil <= clock() || node.renewedAt < clock() - SILENT_MS;

  return {
    pages,
    owners,
    lostAt,
    granted,
    grantedAnew,
    isDown: () => scheduler.now() < downUntil,
    clock,
    rowOf: (id: UniqueId) => rowOf(pages.get(id)!),

    renew(boot: BootId, name: string, state: "LIVE" | "DRAINING", leaseMs: number, asked: number): Renewed {
      const now = clock();
      const rows: NodeRow[] = [];
      for (const node of nodes.values()) {
        if (node.state === "DEAD") continue;
        rows.push({
          boot: node.boot,
          name: node.name,
          address: "",
          state: node.state,
          load: 0,
          weight: 1,
          leaseMs: node.leaseUntil - now,
          silentMs: now - node.renewedAt,
          locked: locks.has(node.boot),
          ageMs: now - node.startedAt,
          drainAsked: node.drainAsked,
          moves: node.moves,
        });
      }
      const old = nodes.get(boot);
      const kept = { startedAt: old?.startedAt ?? now, drainAsked: old?.drainAsked ?? false, moves: old?.moves ?? 0 };
      locks.add(boot);
      const answer = { now, timeline: `1/${timeline}`, startedAt, nodes: rows };
      if (old !== undefined && old.asked >= asked) return answer;
      nodes.set(boot, { boot, name, state, ...kept, asked, renewedAt: now, leaseUntil: now + leaseMs });
      if ((granted.get(boot) ?? 0) <= scheduler.now()) grantedAnew.set(boot, scheduler.now());
      granted.set(boot, scheduler.now() + leaseMs);
      return answer;
    },
    giveUp(boot: BootId, asked: number): true {
      const node = nodes.get(boot);
      if (node === undefined || node.asked >= asked) return true;
      nodes.set(boot, { ...node, asked, leaseUntil: clock() });
      granted.set(boot, scheduler.now());
      return true;
    },
    dropSession: (boot: BootId) => void locks.delete(boot),
    askDrain(boot: BootId, drainAsked: boolean): void {
      const node = nodes.get(boot);
      if (node !== undefined) nodes.set(boot, { ...node, drainAsked });
      commit();
    },
    declareDead(boots: readonly BootId[]): true {
      for (const boot of boots) {
        const node = nodes.get(boot);
        if (node !== undefined && isLost(node)) nodes.set(boot, { ...node, state: "DEAD" });
      }
      commit();
      return true;
    },

    shardOwners(): Ownership {
      read ??= new Map(owners.map((owner, id) => [id as Shard, owner]));
      return read;
    },
    moveShards(by: BootId, moves: readonly Move[]): ReadonlySet<Shard> {
      const moved = new Set<Shard>();
      const somebodyStays = [...nodes.values()].some((node) => node.state === "LIVE" && node.leaseUntil > clock());
      for (const { id, from, to } of moves) {
        const taker = nodes.get(to)?.state;
        if (taker === undefined || taker === "DEAD" || (taker === "DRAINING" && somebodyStays)) continue;
        if (owners[id] !== from) continue;
        owners[id] = to;
        lostAt[id] = scheduler.now();
        moved.add(id);
        read = null;
      }
      const mover = nodes.get(by);
      if (mover !== undefined && moved.size > 0) nodes.set(by, { ...mover, moves: mover.moves + 1 });
      commit();
      return moved;
    },

    accept(id: UniqueId, shard: Shard, node: string): "accepted" | "repeated" {
      if (pages.has(id)) return "repeated";
      const last = { event: "QUEUED", node };
      const rest = { claimedAt: clock(), told: [] as StatusText[], last };
      const page: Page = { id, shard, version: 2, status: 2, wakeups: 1, dueAt: clock() + FIRST_CLAIM_MS, ...rest };
      pages.set(id, page);
      numbers.set(id, 1);
      tell(page, "ACCEPTED");
      tell(page, "QUEUED");
      commit();
      return "accepted";
    },
    dueMessages(shards: ReadonlySet<Shard>): Row[] {
      const now = clock();
      return [...pages.values()]
        .filter((page) => page.dueAt !== null && page.dueAt <= now && shards.has(page.shard))
        .map(rowOf);
    },
    change(change: Change, node: string): Written | null {
      const page = pages.get(change.uniqueId)!;
      if (page.version !== change.version && mutation !== "no compare-and-set") return null;
      note(page, change.event, node);
      if (change.transport !== null) page.status = Math.max(page.status, rankOf(change.transport));
      if (change.wakes) {
        page.wakeups += 1;
        // The same number again is the same wake-up.
        if (page.wakeups > numbers.get(page.id)!) claim(page);
        numbers.set(page.id, Math.max(page.wakeups, numbers.get(page.id)!));
      }
      page.dueAt = typeof change.due === "number" ? clock() + change.due : null;
      if (change.tell !== null) tell(page, change.tell);
      commit();
      return { version: page.version, news: change.tell === null ? null : LANE, ageSeconds: 0 };
    },
    fetch(id: UniqueId, node: string): void {
      const page = pages.get(id);
      if (page === undefined || page.status >= rankOf("DELIVERED")) return;
      note(page, "DELIVERED", node);
      page.status = rankOf("DELIVERED");
      page.dueAt = null;
      tell(page, "DELIVERED");
      commit();
    },
    release(boots: readonly BootId[], node: string): true {
      const lost = new Set<string>();
      for (const boot of boots) {
        const entry = nodes.get(boot);
        if (entry !== undefined && entry.state !== "DEAD" && isLost(entry)) lost.add(entry.name);
      }
      const now = clock();
      for (const page of pages.values()) {
        const { event, node: by } = page.last;
        const claimed = page.dueAt !== null && page.dueAt > now && page.dueAt <= now + CLAIM_MS;
        if (!claimed || !lost.has(by) || (event !== "QUEUED" && event !== "WAKE")) continue;
        note(page, "RELEASE", node);
        page.dueAt = now;
        if (mutation !== "no number") page.wakeups -= 1;
      }
      commit();
      return true;
    },
    /** The hosted side: made once, whoever asks. */
    notify(id: string): "made" | "there" | "away" {
      if (scheduler.now() < hostedFrom) return "away";
      if (notifications.has(id)) return "there";
      notifications.add(id);
      return "made";
    },
    hostedIsAway: (ms: number) => {
      hostedFrom = scheduler.now() + ms;
    },

    /** Another server takes over, with a clock of its own, after so long. */
    failOver(downMs: number, aheadMs: number): void {
      nodes = new Map(synced);
      locks.clear();
      timeline += 1;
      startedAt = scheduler.now() - 5_000;
      ahead += aheadMs;
      downUntil = scheduler.now() + downMs;
    },
    /** The same server, started anew. */
    restart(downMs: number): void {
      locks.clear();
      downUntil = scheduler.now() + downMs;
      startedAt = downUntil;
    },
  };
}

function rowOf(page: Page): Row {
  const target = { deviceId: `device of ${page.id}`, streaming: false } as unknown as WakeTarget;
  return {
    uniqueId: page.id,
    version: page.version,
    status: TRANSPORTS[page.status - 1] as Transport,
    answer: null,
    outcome: null,
    wakeups: page.wakeups,
    priority: "high",
    subscriberId: "" as never,
    deviceDeadline: null,
    userDeadline: null,
    expiresAt: Number.MAX_SAFE_INTEGER,
    replied: false,
    asksAnswer: false,
    reminders: 0,
    profile: DEFAULT_PROFILES.high,
    step: 0,
    stepDeadline: null,
    rule: null,
    settledByFamily: false,
    untoldAnswer: false,
    targets: [target],
    synthetic: false,
  };
}
