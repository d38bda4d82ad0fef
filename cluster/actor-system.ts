/**
 * Actors on nact; the one file that knows it. nact gives names, the tree and one message at a time; what it lacks is
 * here: typed addresses, counted and bounded mailboxes, a deadline for each turn, and turns that never throw into it
 * (its own handling of faults has wedged actors when tried).
 *
 *   spawned ─► waiting ⇄ in a turn ─► stopped
 *                          │ throws or overruns its deadline: reported to onFailure, then stopped
 *
 * A failed turn loses its message, so a mailbox must never be the only place a fact lives. nact copies a parent's list
 * of children at every message to the parent: hot messages go to leaves, by address.
 */
import { dispatch, spawn as spawnInNact, start, stop as stopInNact } from "nact";

export type Told = "queued" | "full" | "gone";

declare const accepts: unique symbol;
/** Where to send messages of type M. Contravariant: an address that takes more is one that takes less. */
export type Address<M> = {
  readonly [accepts]?: (message: M) => void;
  readonly name: string;
  readonly tell: (message: M) => Told;
  readonly stop: () => void;
  /** Messages waiting behind the turn under way. */
  readonly waiting: () => number;
};

export type ActorOptions = {
  readonly mailboxMax: number;
  readonly turnMs: number;
  /** Called once, with what the turn threw, before the actor is gone. */
  readonly onFailure: (error: unknown) => void;
};

export class TurnOverran extends Error {
  override readonly name = "TurnOverran";
}

/** `signal` aborts when the turn has overrun its deadline. */
export type Behaviour<M> = (message: M, signal: AbortSignal) => void | Promise<void>;

declare const parentBrand: unique symbol;
/** A place in the tree that children hang from. */
export type Parent = { readonly [parentBrand]?: true; readonly ref: NactRef };
type NactRef = Parameters<typeof dispatch>[0];

export type ActorSystem = {
  readonly root: Parent;
  /** An actor that only holds others. */
  branch(parent: Parent, name: string): Parent;
  spawn<M>(parent: Parent, name: string, options: ActorOptions, behaviour: Behaviour<M>): Address<M>;
  /** Messages waiting in all mailboxes. */
  depth(): number;
  actors(): number;
  /** Resolves when no message waits and no turn is under way, at the latest after `deadlineMs`. */
  idle(deadlineMs: number): Promise<void>;
  close(): void;
};

const IDLE_LOOK_MS = 10;

let systems = 0;

export function startActorSystem(name: string): ActorSystem {
  // nact keeps its systems in a table of the process, by name.
  const system = start({ name: `${name.replace(/[^a-zA-Z0-9-]/g, "-")}-${++systems}` } as never) as NactRef;
  let depth = 0;
  let actors = 0;
  let turning = 0;
  let incarnations = 0;
  let closed = false;

  function spawn<M>(parent: Parent, actorName: string, options: ActorOptions, behaviour: Behaviour<M>): Address<M> {
    let waiting = 0;
    let gone = false;
    actors += 1;

    function finish(): void {
      if (gone) return;
      gone = true;
      actors -= 1;
      depth -= waiting;
      waiting = 0;
      stopInNact(ref as never);
    }

    async function turn(_state: unknown, message: M): Promise<null> {
      if (gone || closed) return null;
      waiting -= 1;
      depth -= 1;
      turning += 1;
      try {
        const controller = new AbortController();
        const running = behaviour(message, controller.signal);
        if (running !== undefined) await beforeDeadline(running, options.turnMs, controller);
      } catch (error) {
        if (!gone) {
          finish();
          try {
            options.onFailure(error);
          } catch {
            // nact would print the message, and a report that cannot be made has nobody left to tell.
          }
        }
      } finally {
        turning -= 1;
      }
      return null;
    }

    // A name may come back while the last actor of that name is still leaving; a number keeps the two apart.
    incarnations += 1;
    const ref = spawnInNact(parent.ref as never, turn as never, `${actorName}-${incarnations}`) as NactRef;
    return {
      name: actorName,
      stop: finish,
      waiting: () => waiting,
      tell(message) {
        if (gone || closed) return "gone";
        if (waiting >= options.mailboxMax) return "full";
        waiting += 1;
        depth += 1;
        dispatch(ref as never, message as never);
        return "queued";
      },
    };
  }

  return {
    root: { ref: system },
    branch: (parent, branchName) => ({
      ref: spawnInNact(parent.ref as never, (() => null) as never, branchName) as NactRef,
    }),
    spawn,
    depth: () => (closed ? 0 : depth),
    actors: () => actors,
    async idle(deadlineMs) {
      const until = performance.now() + deadlineMs;
      while ((depth > 0 || turning > 0) && !closed && performance.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, IDLE_LOOK_MS));
      }
    },
    close() {
      closed = true;
      stopInNact(system as never);
    },
  };
}

async function beforeDeadline(running: Promise<void>, turnMs: number, controller: AbortController): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const overrun = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      controller.abort();
      reject(new TurnOverran());
    }, turnMs);
  });
  running.catch(() => {});
  try {
    await Promise.race([running, overrun]);
  } finally {
    clearTimeout(timer);
  }
}
