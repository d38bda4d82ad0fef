/**
 * Acts when this node has more to do than it can bear, step by step, and takes each back as the load falls. No step ever drops
 * a page that was accepted.
 *
 *   0 none ⇄ 1 rehome ⇄ 2 part ⇄ 3 put off ⇄ 4 refuse
 *
 *   rehome    this node weighs less where shards are placed, so that idler ones take some
 *   part      some host connections, and phones' with their next answer, are asked to come again, to an idler node
 *   put off   requests that would have to wait are answered 503 with Retry-After
 *   refuse    new connections are closed: hosts' at once, others' with a 503, but for who asks whether this node lives
 *
 * Hosts are read ahead of what is written, within bounds, so that high priority passes, and paused at the bounds, always: that needs
 * nobody's judgement (gateways/mxpp/session).
 *
 * One step up where the load was above the next one's mark in two looks, one down where it was clearly below its own for three
 * seconds. Shards and connections go only where others are clearly idler, and while nobody is suspected to be dead: where all
 * have too much to do nothing is moved about. The weight is halved at most every five seconds, and comes back as slowly.
 */
import type { ActorSystem, Address } from "../../cluster/actor-system.ts";
import type { LoadPart } from "../../cluster/load.ts";
import { isSuspect } from "../../cluster/membership-state.ts";
import type { Clock } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { GaugeReading, Meter } from "../../meter.ts";

export const STEPS = ["none", "rehome", "part", "put off", "refuse"] as const;
export type Level = 0 | 1 | 2 | 3 | 4;

/** Another node that stays, as the last renewal saw it. */
export type Peer = {
  readonly load: number;
  /** It may be dead. */
  readonly suspect: boolean;
};

export type State = {
  readonly level: Level;
  /** Looks in a row above the next level's mark. */
  readonly above: number;
  /** Monotonic ms since which the load was clearly below this level's mark; null: it was not. */
  readonly belowSince: number | null;
  /** Of this node where shards are placed: 1, 1/2 or 1/4. */
  readonly weight: number;
  readonly weighedAt: number;
  readonly partedAt: number;
};

export type Message = { readonly kind: "look"; readonly load: number; readonly peers: readonly Peer[] };

export type Effect =
  | { readonly kind: "level"; readonly level: Level }
  | { readonly kind: "weigh"; readonly weight: number }
  /** This part of the connections is asked to go elsewhere, now. */
  | { readonly kind: "part"; readonly part: number };

/** The load from which a level is entered. */
const MARKS = [0, 0.75, 0.85, 2, 4] as const;
/** From these levels on requests are put off, and who is new is refused. */
export const PUTS_OFF: Level = 3;
export const REFUSES: Level = 4;
const LOOKS_ABOVE = 2;
/** Clearly below: so much under the mark. */
const MARGIN = 0.15;
const BELOW_MS = 3_000;
/** Others are clearly idler: by so much, on average. */
const IDLER = 0.2;
const WEIGH_MS = 5_000;
const WEIGHT_MIN = 0.25;
const PART_MS = 1_500;
const PART_MAX = 0.25;

export function unloaded(): State {
  const never = Number.NEGATIVE_INFINITY;
  return { level: 0, above: 0, belowSince: null, weight: 1, weighedAt: never, partedAt: never };
}

export function step(state: State, { load, peers }: Message, now: number): { state: State; effects: Effect[] } {
  const effects: Effect[] = [];
  let next = levelled(state, load, now);
  if (next.level !== state.level) effects.push({ kind: "level", level: next.level });

  const mean = peers.reduce((sum, peer) => sum + peer.load, 0) / peers.length;
  const calm = peers.length > 0 && peers.every((peer) => !peer.suspect);
  const idler = calm && mean <= load - IDLER;
  // At rest as much as the others; at work clearly less, or what it gave away would come straight back.
  const free = calm && load <= mean + (next.level === 0 ? IDLER / 2 : -IDLER / 2);
  const weight = weightOf(next, idler, free);
  if (weight !== next.weight && now - next.weighedAt >= WEIGH_MS) {
    next = { ...next, weight, weighedAt: now };
    effects.push({ kind: "weigh", weight });
  }
  if (next.level >= 2 && idler && now - next.partedAt >= PART_MS) {
    next = { ...next, partedAt: now };
    // What is over the mean of all, which those that stay bear as well.
    const over = ((load - mean) / load) * (peers.length / (peers.length + 1));
    effects.push({ kind: "part", part: Math.min(PART_MAX, over) });
  }
  return { state: next, effects };
}

function levelled(state: State, load: number, now: number): State {
  const { level } = state;
  const mark = MARKS[level + 1];
  if (mark !== undefined && load >= mark) {
    const above = state.above + 1;
    if (above < LOOKS_ABOVE) return { ...state, above, belowSince: null };
    return { ...state, level: (level + 1) as Level, above: 0, belowSince: null };
  }
  if (level === 0 || load >= MARKS[level] - MARGIN) return { ...state, above: 0, belowSince: null };
  const belowSince = state.belowSince ?? now;
  if (now - belowSince < BELOW_MS) return { ...state, above: 0, belowSince };
  return { ...state, level: (level - 1) as Level, above: 0, belowSince: now };
}

function weightOf({ level, weight }: State, idler: boolean, free: boolean): number {
  if (level >= 1 && idler) return Math.max(WEIGHT_MIN, weight / 2);
  return free ? Math.min(1, weight * 2) : weight;
}

export type OverloadSupervisor = {
  /** true, or why no new connections may be sent here: not where all others have as much to do. */
  ready(): true | string;
  gauges(): GaugeReading[];
  close(): void;
};

const LOOK_MS = 500;
const MAILBOX = 16;
const TURN_MS = 1_000;

export type OverloadPorts = {
  readonly system: ActorSystem;
  readonly load: { score(): number; worst(): LoadPart };
  readonly membership: {
    readonly boot: string;
    nodes(): readonly {
      readonly boot: string;
      readonly state: string;
      readonly load: number;
      readonly silentMs: number;
      readonly locked: boolean;
    }[];
    weigh(weight: number): void;
  };
  /** What is to hold from now on. */
  readonly onLevel: (level: Level) => void;
  readonly part: (part: number) => void;
  readonly log: Log;
  readonly meter: Meter;
  readonly clock: Clock;
};

export function superviseLoad(ports: OverloadPorts): OverloadSupervisor {
  const { system, load, membership, meter, clock } = ports;
  const log = ports.log.child({ part: "overload" });
  let state = unloaded();
  let address: Address<Message> = spawn();
  let closed = false;

  function spawn(): Address<Message> {
    return system.spawn<Message>(
      system.root,
      "overload",
      { mailboxMax: MAILBOX, turnMs: TURN_MS, onFailure },
      (message) => {
        const { level: before } = state;
        const stepped = step(state, message, clock.monotonic());
        state = stepped.state;
        for (const effect of stepped.effects) perform(effect, before);
      },
    );
  }
  function onFailure(error: unknown): void {
    meter.count("actor_failures", { actor: "overload" });
    log.error(faultFields(error), "the supervisor of the load failed");
    if (!closed) address = spawn();
  }

  function perform(effect: Effect, before: Level): void {
    const facts = { load: Math.round(load.score() * 100) / 100, of: load.worst() };
    switch (effect.kind) {
      case "level": {
        const { level } = effect;
        ports.onLevel(level);
        if (level > before) meter.count("overload_steps", { step: STEPS[level] });
        const told = { ...facts, step: STEPS[level], level };
        if (level < before) log.info(told, "less to do again: one step is taken back");
        // What sends nobody away is no operator's concern.
        else if (level < PUTS_OFF) log.info(told, "more to do than is good: one step more is taken");
        else log.warn(told, "more to do than this node can bear: one step more is taken");
        return;
      }
      case "weigh":
        membership.weigh(effect.weight);
        log.info({ ...facts, weight: effect.weight }, "this node's weight where shards are placed");
        return;
      case "part":
        ports.part(effect.part);
    }
  }

  const timer = setInterval(() => {
    const peers = others().map((node) => ({ load: node.load, suspect: isSuspect(node) }));
    address.tell({ kind: "look", load: load.score(), peers });
  }, LOOK_MS);
  const others = () => membership.nodes().filter((node) => node.boot !== membership.boot && node.state === "LIVE");

  return {
    ready() {
      if (state.level < REFUSES) return true;
      return others().some((node) => node.load < MARKS[2]) ? "overloaded" : true;
    },
    gauges: () => [
      { name: "load", value: load.score() },
      { name: "overload_level", value: state.level },
    ],
    close() {
      closed = true;
      clearInterval(timer);
      address.stop();
    },
  };
}
