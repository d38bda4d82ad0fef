/**
 * Bytes of what hosts and phones sent that are under way in the whole node at once. A bound on each connection is none on
 * their number: so many of them, each within its own, would fill the memory, and a node that dies of it loses everybody's.
 *
 *   under way < 3/4      all may take more
 *   3/4 … all            only a connection that has nothing under way, and short requests: a flood does not shut them out
 *   all                  nobody: connections wait in line, those with nothing under way first; requests are refused
 */
import { heapBytes } from "../cluster/heap.ts";

export type Budget = {
  /** For a connection that can wait. */
  share(roomAgain: () => void): Share;
  /** For a request that cannot: what gives its bytes back, once; null when there is no room. */
  admit(bytes: number): (() => void) | null;
  used(): number;
};

export type Share = {
  /** No more may be taken now; where others hold the room, `roomAgain` is called once, in its turn. */
  full(): boolean;
  /** What is taken past the limit counts all the same. */
  take(bytes: number): void;
  /** As many as were taken at once. */
  give(bytes: number): void;
  /** Waits no more. */
  leave(): void;
};

/** Of the heap: a page is held some five times over on its way to the database, a phone's report eight times. */
const HEAP_PART = 1 / 32;
const MIN_BYTES = 1024 * 1024;
/** Several seconds of what a database writes; more would only wait longer. */
const MAX_BYTES = 64 * 1024 * 1024;
/** What the shortest takes: its promises, its place in a batch. */
const LEAST_BYTES = 4 * 1024;
const SHORT_BYTES = 16 * 1024;
/** One connection's: two thousand short pages, so that one of high priority behind them is read. */
const SHARE_PART = 1 / 8;
const SHARE_MIN_BYTES = 1024 * 1024;

/** What one listener of this process may have under way, by the heap the process was given. */
export function budgetBytes(heap: number = heapBytes()): number {
  return Math.min(MAX_BYTES, Math.max(MIN_BYTES, Math.floor(heap * HEAP_PART)));
}

type Account = { own: number; roomAgain(): void };

export function openBudget(limitBytes: number): Budget {
  const shareBytes = Math.max(SHARE_MIN_BYTES, limitBytes * SHARE_PART);
  let used = 0;
  const calm = new Set<Account>();
  const busy = new Set<Account>();
  const full = (first: boolean) => used >= (first ? limitBytes : (limitBytes * 3) / 4);
  const worth = (bytes: number) => Math.max(bytes, LEAST_BYTES);

  /** Ends: whoever is called leaves the line, and comes back to it only where it is full. */
  function callNext(): void {
    for (const line of [calm, busy]) {
      for (const account of line) {
        if (full(line === calm)) break;
        line.delete(account);
        account.roomAgain();
      }
    }
  }

  return {
    used: () => used,
    admit(bytes) {
      if (full(bytes <= SHORT_BYTES)) return null;
      let counted = worth(bytes);
      used += counted;
      return () => {
        used -= counted;
        counted = 0;
        callNext();
      };
    },
    share(roomAgain) {
      const account: Account = { own: 0, roomAgain };
      return {
        full() {
          // Its own giving back is what it waits for, and nobody else's.
          if (account.own >= shareBytes) return true;
          if (!full(account.own === 0)) return false;
          (account.own === 0 ? busy : calm).delete(account);
          (account.own === 0 ? calm : busy).add(account);
          return true;
        },
        take(bytes) {
          account.own += worth(bytes);
          used += worth(bytes);
        },
        give(bytes) {
          account.own -= worth(bytes);
          used -= worth(bytes);
          if (account.own === 0 && busy.delete(account)) calm.add(account);
          callNext();
        },
        leave() {
          calm.delete(account);
          busy.delete(account);
        },
      };
    },
  };
}
