/**
 * A node of the real pure parts (lease, membership, placement, the message's steps), with the loops that cluster/ and actors/
 * put around them, over a simulated process and store.
 */
import { type Effect, type Message, type Row, type State, step } from "../../../actors/message.ts";
import { LEASE_MS, type LeaseEvent, nextLookMs, noLease, RENEW_MS, stepLease } from "../../../cluster/lease.ts";
import { type MembershipEvent, newMember, stepMembership, whyDraining } from "../../../cluster/membership-state.ts";
import type { Move } from "../../../cluster/placement.ts";
import type { BootId, NotificationId, Shard, UniqueId } from "../../../domain.ts";
import { openProcess, type Thread } from "./process.ts";
import type { Scheduler } from "./scheduler.ts";
import { type Mutation, type Store, Violation } from "./store.ts";

const LOOK_MS = 250;
const STATEMENT_MS = 5_000;
const LEASE_STATEMENT_MS = 1_500;
const FIRST_CLAIM_MS = 2_500;
const LEAF_LIFE_MS = 10_000;
const OWNERS_MS = 1_500;

export type SimulatedNode = ReturnType<typeof openNode>;

export function openNode(
  slice: {
    readonly boot: BootId;
    readonly name: string;
    readonly sweepMs: number;
    readonly wayMs: number;
    readonly mutation: Mutation;
  },
  ports: {
    readonly scheduler: Scheduler;
    readonly store: Store;
    /** A phone was woken for the page. */
    readonly woken: (id: UniqueId) => void;
  },
) {
  const { boot, name, mutation } = slice;
  const { scheduler, store } = ports;
  const process = openProcess(scheduler, store, slice.wayMs);
  let lease = noLease(boot);
  let lookMs = RENEW_MS;
  let state = newMember(boot);
  const leaves = new Map<UniqueId, { state: State; readonly mayAct: () => boolean; readonly since: number }>();
  let acts = 0;
  /** When the owners it goes by were so, in the scheduler's time. */
  let readAt = Number.NEGATIVE_INFINITY;

  const tenureNow = () => (mutation === "no tenure" ? 0 : lease.tenure);
  const holds = (tenure: number | null) =>
    (process.monotonic() < lease.until || mutation === "no deadline") && (tenure === null || tenure === tenureNow());
  const drives = (shard: Shard) => state.mine.has(shard) && holds(state.tenure);

  // The renewal thread.
  function takeLease(event: LeaseEvent): void {
    const stepped = stepLease(lease, event, process.monotonic());
    lease = stepped.lease;
    for (const effect of stepped.effects) {
      if (effect.kind === "renew") renewal.wake();
      if (effect.kind !== "report") continue;
      const report = { ...effect.report, tenure: tenureNow() };
      process.runs("main", () => take({ kind: "renewed", report }));
    }
  }
  const renewal = process.loop(
    "renewal",
    () => lookMs,
    (over) => {
      lookMs = RENEW_MS;
      if (lease.stalled) {
        if (lease.givenUp) return over(true);
        const asked = process.monotonic();
        return call(
          "renewal",
          () => store.giveUp(boot, asked),
          (done) => {
            if (done !== null) takeLease({ kind: "given-up" });
            over(done !== null);
          },
        );
      }
      const asked = process.monotonic();
      const told = whyDraining(state) === null ? "LIVE" : "DRAINING";
      call(
        "renewal",
        () => store.renew(boot, name, told, LEASE_MS, asked),
        (renewed) => {
          if (renewed !== null) {
            takeLease({ kind: "answered", asked, state: told, renewed });
            lookMs = nextLookMs(lease, renewed.nodes, process.monotonic());
          }
          over(renewed !== null);
        },
      );
    },
  );
  let lookedAt = process.monotonic();
  function watch(): void {
    const ms = Math.min(process.monotonic() - lookedAt, 2 * LOOK_MS);
    lookedAt = process.monotonic();
    takeLease({ kind: "looked", ticked: process.turns(), ms });
    process.later("renewal", LOOK_MS, watch);
  }
  process.runs("renewal", watch);

  // The main thread.
  function call<T>(thread: Thread, statement: () => T, done: (answer: T | null) => void): void {
    process.call(thread, thread === "main" ? STATEMENT_MS : LEASE_STATEMENT_MS, statement, done);
  }

  function take(event: MembershipEvent): readonly Move[] {
    const stepped = stepMembership(state, event);
    state = stepped.state;
    let moves: readonly Move[] = [];
    for (const effect of stepped.effects) {
      if (effect.kind === "place") placement.wake();
      if (effect.kind === "keep-house") housekeeping.wake();
      if (effect.kind === "tell") process.runs("renewal", renewal.wake);
      if (effect.kind === "changed" && effect.gained.length > 0) sweep.wake();
      if (effect.kind === "move") moves = effect.moves;
    }
    return moves;
  }

  const placement = process.loop(
    "main",
    () => 10 * RENEW_MS,
    (over) => {
      if (!holds(null)) return over(true);
      const begun = tenureNow();
      const at = () => ({ at: scheduler.now(), owners: store.shardOwners() });
      process.call("main", OWNERS_MS, at, (seen) => {
        if (seen === null) return over(false);
        const tenure = tenureNow();
        if (tenure === begun) readAt = seen.at;
        const moves = take({ kind: "owners", owners: seen.owners, begun, tenure });
        if (moves.length === 0) return over(true);
        const move = () => ({ at: scheduler.now(), moved: store.moveShards(boot, moves) });
        process.call("main", OWNERS_MS, move, (done) => {
          if (done !== null) take({ kind: "moved", moves, moved: done.moved, begun, tenure: tenureNow() });
          over(done !== null);
        });
      });
    },
  );

  const housekeeping = process.loop(
    "main",
    () => 2_000,
    (over) => {
      const { dead } = state;
      if (dead.length === 0) return over(true);
      call(
        "main",
        () => store.release(dead, name),
        (released) => {
          if (released === null) return over(false);
          sweep.wake();
          call(
            "main",
            () => store.declareDead(dead),
            (done) => over(done !== null),
          );
        },
      );
    },
  );

  const sweep = process.loop(
    "main",
    () => slice.sweepMs,
    (over) => {
      for (const [id, leaf] of leaves) if (leaf.since < process.monotonic() - LEAF_LIFE_MS) leaves.delete(id);
      const mine = new Set(holds(state.tenure) ? state.mine : []);
      if (mine.size === 0) return over(true);
      call(
        "main",
        () => ({ now: store.clock(), rows: store.dueMessages(mine) }),
        (due) => {
          for (const row of due?.rows ?? []) {
            const shard = store.pages.get(row.uniqueId)!.shard;
            start(row, { kind: "drive", claimed: false, now: due!.now }, () => drives(shard), shard);
          }
          over(due !== null);
        },
      );
    },
  );

  function start(row: Row, message: Message, mayAct: () => boolean, driven: Shard | null): void {
    if (leaves.has(row.uniqueId)) return;
    leaves.set(row.uniqueId, { state: { kind: "fresh", row }, mayAct, since: process.monotonic() });
    tell(row.uniqueId, message, driven);
  }

  function tell(id: UniqueId, message: Message, driven: Shard | null): void {
    const leaf = leaves.get(id);
    if (leaf === undefined) return;
    const stepped = step(leaf.state, message);
    leaf.state = stepped.state;
    for (const effect of stepped.effects) {
      if (effect.kind !== "end" && !leaf.mayAct()) return void leaves.delete(id);
      if (effect.kind !== "end" && driven !== null) judge(driven);
      perform(id, effect, driven);
    }
  }

  function perform(id: UniqueId, effect: Effect, driven: Shard | null): void {
    const leaf = leaves.get(id);
    switch (effect.kind) {
      case "write":
        call(
          "main",
          () => ({ result: store.change(effect.change, name) }),
          (answer) => {
            if (leaves.get(id) !== leaf) return;
            if (answer === null) leaves.delete(id);
            else tell(id, { kind: "written", result: answer.result }, driven);
          },
        );
        break;
      case "ask":
        for (const { deviceId } of effect.targets) {
          const notificationId = `${deviceId}, wake-up ${effect.row.wakeups}` as NotificationId;
          const asked = () => {
            const made = store.notify(notificationId);
            if (made === "made") ports.woken(id);
            return made === "away" ? null : made;
          };
          call("main", asked, (made) => {
            if (leaves.get(id) !== leaf) return;
            if (made === null) tell(id, { kind: "not-handed", deviceId, reason: "unknown" }, driven);
            else tell(id, { kind: "handed", deviceId, notificationId }, driven);
          });
        }
        break;
      case "hint":
      case "pass-on":
        throw new Violation(`${id} has no stream and no rule`);
      case "end":
        leaves.delete(id);
    }
  }

  /** What no node may do, seen by one who sees everything. */
  function judge(shard: Shard): void {
    acts += 1;
    const now = scheduler.now();
    if (now >= (store.granted.get(boot) ?? 0)) throw new Violation(`${name} acts though its lease is over`);
    if (readAt < (store.grantedAnew.get(boot) ?? 0))
      throw new Violation(`${name} goes by owners it read before its lease lapsed`);
    if (store.owners[shard] !== boot && readAt > store.lostAt[shard]!)
      throw new Violation(`${name} acts for shard ${shard}, though it has read that it is another's`);
  }

  return {
    boot,
    name,
    process,
    drives,
    acts: () => acts,
    withdraw: (reason: string) => process.runs("main", () => void take({ kind: "withdraw", reason })),
    restore: (reason: string) => process.runs("main", () => void take({ kind: "restore", reason })),
    /** Takes a page from a host; `answered` tells whether the host hears ACCEPTED. */
    accept(id: UniqueId, shard: Shard, answered: (well: boolean) => void): void {
      process.runs("main", () => {
        const asked = process.monotonic();
        call(
          "main",
          () => ({ verdict: store.accept(id, shard, name), row: store.rowOf(id) }),
          (answer) => {
            answered(answer !== null);
            if (answer?.verdict !== "accepted") return;
            const mayAct = () => process.monotonic() < asked + FIRST_CLAIM_MS;
            start({ ...answer.row, version: 2, wakeups: 1 }, { kind: "drive", claimed: true, now: 0 }, mayAct, null);
          },
        );
      });
    },
  };
}
