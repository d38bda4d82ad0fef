/**
 * Admission of requests. Callers begin theirs by turns, so that one with a thousand leaves the event loop to the others; and
 * each has so many under way at once, so that it leaves them the database. Where there is no crowd all pass at once.
 *
 *   enter ─► in its turn ─► the body is read ─► settle ─► a place is free ─► under way ─ left ─► the caller's next
 *     └─ too many wait: refused                    ├─ none ─► waiting ─ a place, in its turn ──▲
 *                                                  └─ too many wait, or too long: refused
 */
import type { FastifyRequest } from "fastify";
import { heapBytes } from "../cluster/heap.ts";
import { BatchFull } from "../persistence/batch.ts";
import { addressKey } from "./allowance.ts";
import { makeTurns } from "./turns.ts";

/** Goes on with a request, or refuses it. */
export type Go = (refusal?: BatchFull) => void;

export type Admission = {
  /** Calls `go` once, now or in the caller's turn. */
  enter(caller: string, go: Go): void;
  /**
   * Calls `go` once, now or when there is a place; not when it has left before. What comes back is called when the request has
   * what it came for, or its caller is gone; again does nothing.
   */
  settle(caller: string, go: Go): () => void;
};

/** Of one caller: ten times as many as there are connections to the database. */
const PLACES = 64;
/** Requests begun in one turn of the event loop: a few milliseconds' work. */
const TURN = 32;
/** As long as a statement waits for its connection. */
const WAIT_MS = 3_000;
/** One that waits takes some 10 KiB. Its body is counted elsewhere. */
const HEAP_FOR_EACH = 64 * 1024;
const WAITING_MOST = 16_000;
/** Of all that may wait, one caller's: a whole hospital's phones may stand behind one address. */
const CALLER_PART = 0.25;

type Waiter = { readonly since: number; readonly go: Go };
type Line = { taken: number; readonly waiting: Set<Waiter> };

/** An address, for each first segment of the path by itself: no balancer's probe waits behind phones, no phone behind the reference. */
export function callerOf(request: FastifyRequest): string {
  const segment = request.routeOptions.url?.split("/", 2)[1] ?? "";
  return `${segment} ${addressKey(request.ip)}`;
}

/** How many may wait in all, by the heap the process was given. */
export function waitingMax(heap: number = heapBytes()): number {
  return Math.min(WAITING_MOST, Math.floor(heap / HEAP_FOR_EACH));
}

/** @param max how many may wait in all, asked each time */
export function openAdmission(max: () => number): Admission {
  const turns = makeTurns({ costMax: TURN, everyMs: 0 });
  const lines = new Map<string, Line>();
  /** For places, of all callers. */
  let waiting = 0;

  /** Not for one of whom nobody waits: of many that crowd none keeps out a balancer's probe. */
  function full(caller: string): boolean {
    const own = turns.waiting(caller) + (lines.get(caller)?.waiting.size ?? 0);
    return own >= max() * CALLER_PART || (own > 0 && turns.waiting() + waiting >= max());
  }

  /** A place has become free. */
  function give(caller: string, line: Line): void {
    const [next] = line.waiting;
    if (next === undefined) {
      line.taken -= 1;
      if (line.taken === 0) lines.delete(caller);
      return;
    }
    line.waiting.delete(next);
    waiting -= 1;
    turns.enter(caller, () => {
      next.go(performance.now() - next.since > WAIT_MS ? new BatchFull() : undefined);
      return 1;
    });
  }

  return {
    enter(caller, go) {
      if (full(caller)) return go(new BatchFull());
      turns.take(caller, () => {
        go();
        return 1;
      });
    },

    settle(caller, go) {
      const line = lines.get(caller) ?? { taken: 0, waiting: new Set() };
      let waiter: Waiter | null = null;
      let left = false;
      if (line.taken < PLACES) {
        line.taken += 1;
        if (line.taken === 1) lines.set(caller, line);
        go();
      } else if (full(caller)) {
        left = true;
        go(new BatchFull());
      } else {
        waiter = { since: performance.now(), go: (refusal) => left || go(refusal) };
        line.waiting.add(waiter);
        waiting += 1;
      }
      return () => {
        if (left) return;
        left = true;
        if (waiter !== null && line.waiting.delete(waiter)) waiting -= 1;
        else give(caller, line);
      };
    },
  };
}
