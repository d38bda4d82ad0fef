/**
 * One seed: some nodes, some hosts' pages, some faults at some times; what must never be is looked for at every step. Then
 * everything heals, and what was accepted must be on its way within a minute.
 */
import { type BootId, SHARD_COUNT, type Shard, type UniqueId } from "../../../domain.ts";
import { openNode, type SimulatedNode } from "./node.ts";
import { openScheduler } from "./scheduler.ts";
import { type Mutation, openStore, Violation } from "./store.ts";

const FAULTS_MS = 8_000;
const HEALED_MS = 60_000;
const NODES_MAX = 7;
const ENROUTE = 3;

/** The same over all seeds, so that what follows from them is computed once. */
const BOOTS = Array.from({ length: NODES_MAX }, (_, n) => `0000000${n}-0000-4000-8000-000000000000` as BootId);

const FAULTS = [
  "kill",
  "freeze",
  "stall",
  "cut",
  "loss",
  "session",
  "fail over",
  "restart",
  "drain",
  "withdraw",
  "join",
  "hosted away",
] as const;
export type Fault = (typeof FAULTS)[number];

export type Simulated = {
  readonly pages: number;
  readonly acts: number;
  readonly faults: readonly string[];
  readonly healedMs: number;
};

/** @throws Violation that names what was broken, and what happened before */
export function simulate(seed: number, mutation: Mutation = null, only: readonly Fault[] = []): Simulated {
  const scheduler = openScheduler(seed);
  const { random, chance } = scheduler;
  const store = openStore(scheduler, mutation);
  const nodes: SimulatedNode[] = [];
  const happened: string[] = [];
  const accepted = new Set<UniqueId>();
  const sweepMs = random.of([250, 1_000]);
  const wayMs = random.of([2, 20, 150]);
  const pages = random.between(5, 25);

  const running = () => nodes.filter((node) => !node.process.isKilled());
  function join(): void {
    if (nodes.length >= NODES_MAX) return;
    const n = nodes.length;
    const node = openNode(
      { boot: BOOTS[n]!, name: `node ${n}`, sweepMs, wayMs, mutation },
      { scheduler, store, woken },
    );
    nodes.push(node);
  }
  function woken(id: UniqueId): void {
    if (!chance(0.5)) return;
    scheduler.after(random.next() * 5_000, () => store.fetch(id, "phone"));
  }

  function brings(id: UniqueId, shard: Shard): void {
    const some = running();
    if (some.length === 0) {
      scheduler.after(500, () => brings(id, shard));
      return;
    }
    let heard = false;
    random.of(some).accept(id, shard, (well) => {
      heard = true;
      if (well) accepted.add(id);
      else scheduler.after(200, () => brings(id, shard));
    });
    // One that was killed, or is frozen, answers nothing.
    scheduler.after(6_000, () => heard || brings(id, shard));
  }

  function causes(fault: Fault): void {
    const some = running();
    if (some.length === 0) return;
    const node = random.of(some);
    const ms = random.between(200, 5_000);
    happened.push(`${Math.round(scheduler.now())} ${fault} ${node.name} ${ms}`);
    switch (fault) {
      case "kill":
        node.process.kill();
        scheduler.after(random.between(1, 30), () => store.dropSession(node.boot));
        break;
      case "freeze":
        node.process.freeze(ms);
        break;
      case "stall":
        node.process.stall(ms);
        break;
      case "cut":
        node.process.net.cutUntil = scheduler.now() + ms;
        break;
      case "loss":
        node.process.net.loss = 0.2;
        node.process.net.slowMs = 200;
        scheduler.after(ms, node.process.heal);
        break;
      case "session":
        store.dropSession(node.boot);
        break;
      case "fail over":
        store.failOver(random.between(50, 2_500), random.between(-300, 300));
        break;
      case "restart":
        store.restart(random.between(50, 2_500));
        break;
      case "drain":
        store.askDrain(node.boot, true);
        scheduler.after(ms, () => store.askDrain(node.boot, false));
        break;
      case "withdraw":
        node.withdraw("chance");
        scheduler.after(ms, () => node.restore("chance"));
        break;
      case "join":
        join();
        break;
      case "hosted away":
        store.hostedIsAway(ms);
        break;
    }
  }

  function isWell(): boolean {
    if (accepted.size < pages) return false;
    for (const page of store.pages.values()) if (page.status < ENROUTE) return false;
    const living = running();
    if (!store.owners.every((owner) => living.some((node) => node.boot === owner))) return false;
    for (let shard = 0; shard < SHARD_COUNT; shard += 1) {
      if (living.filter((node) => node.drives(shard as Shard)).length !== 1) return false;
    }
    return true;
  }

  try {
    const first = random.between(2, 5);
    for (let n = 0; n < first; n += 1) scheduler.after(random.next() * 300, join);
    for (let n = 0; n < pages; n += 1) {
      const shard = random.between(0, SHARD_COUNT - 1) as Shard;
      scheduler.after(random.next() * FAULTS_MS, () => brings(`page ${n}` as UniqueId, shard));
    }
    // Or owners would have little to do, and nothing to do wrong.
    const aways = random.between(0, 3);
    for (let n = 0; n < aways; n += 1) {
      scheduler.after(random.next() * FAULTS_MS, () => store.hostedIsAway(random.between(200, 2_000)));
    }
    // Some kinds of faults, or what one hides another would never show.
    const kinds = only.length > 0 ? only : FAULTS.filter(() => chance(0.4));
    const faults = kinds.length === 0 ? 0 : random.between(only.length > 0 ? 6 : 2, 10);
    for (let n = 0; n < faults; n += 1) {
      scheduler.after(500 + random.next() * (FAULTS_MS - 500), () => causes(random.of(kinds)));
    }
    scheduler.runUntil(FAULTS_MS);

    for (const node of running()) node.process.heal();
    if (running().length === 0) join();
    const healed = scheduler.now();
    while (!isWell()) {
      if (scheduler.now() > healed + HEALED_MS) throw new Violation(`not well after ${HEALED_MS} ms: ${whatLacks()}`);
      scheduler.runUntil(scheduler.now() + 250);
    }
    for (const id of accepted) if (!store.pages.has(id)) throw new Violation(`${id} was accepted, and is gone`);
    const acts = nodes.reduce((sum, node) => sum + node.acts(), 0);
    return { pages, acts, faults: happened, healedMs: scheduler.now() - healed };
  } catch (error) {
    if (error instanceof Violation) error.message += `; before it: ${happened.join(", ")}`;
    throw error;
  }

  function whatLacks(): string {
    const stuck = [...store.pages.values()].filter((page) => page.status < ENROUTE).map((page) => page.id);
    const orphans = store.owners.filter((owner) => !running().some((node) => node.boot === owner)).length;
    return `${pages - accepted.size} pages are not accepted, ${stuck.length} wait (${stuck.slice(0, 3).join()}), ${orphans} shards have no living owner`;
  }
}
