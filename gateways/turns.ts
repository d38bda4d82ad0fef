/**
 * Shares the event loop among the peers that send, so that one with a thousand connections gets no more of it than one with
 * one, and no crowd of them keeps it from others, from leases and the database's answers.
 *
 *   enter ─► the peer's queue ─► at the next turn: one of each peer's after the other's, until the turn is spent ─► run
 *                                                      └─ the rest: the turn after
 */

/** Does a share of what waits; answers what it cost, in documents. */
export type Work = () => number;

export type Turns = {
  /** Once: a work that goes on enters again. */
  enter(peer: string, work: Work): void;
  /** The same, but at once where nobody waits and this turn has not begun as much as it may. */
  take(peer: string, work: Work): void;
  leave(peer: string, work: Work): void;
  /** Works of this peer, or of all, that have not had their turn. */
  waiting(peer?: string): number;
};

export function makeTurns(slice: {
  /** What one turn may cost. */
  readonly costMax: number;
  /** Between two turns; 0: whatever else the process has to do. */
  readonly everyMs: number;
}): Turns {
  /** Both keep the order of arrival. */
  const queues = new Map<string, Set<Work>>();
  let scheduled = false;
  /** Done at once since the last turn. */
  let taken = 0;
  let waiting = 0;

  function schedule(): void {
    if (scheduled || (queues.size === 0 && taken === 0)) return;
    scheduled = true;
    if (slice.everyMs > 0) setTimeout(turn, slice.everyMs);
    else setImmediate(turn);
  }

  function turn(): void {
    scheduled = false;
    taken = 0;
    try {
      for (let cost = 0; cost < slice.costMax && queues.size > 0; ) {
        const [peer, queue] = queues.entries().next().value!;
        const work = queue.values().next().value!;
        leave(peer, work);
        // The others first, before this peer's next.
        if (queues.delete(peer)) queues.set(peer, queue);
        cost += Math.max(1, work());
      }
    } finally {
      schedule();
    }
  }

  function leave(peer: string, work: Work): void {
    const queue = queues.get(peer);
    if (queue?.delete(work)) waiting -= 1;
    if (queue?.size === 0) queues.delete(peer);
  }

  function enter(peer: string, work: Work): void {
    const queue = queues.get(peer) ?? new Set();
    if (!queue.has(work)) waiting += 1;
    queues.set(peer, queue.add(work));
    schedule();
  }

  return {
    enter,
    take(peer, work) {
      if (queues.size > 0 || taken >= slice.costMax) return enter(peer, work);
      // Counted before: what it does may end up here again.
      taken += 1;
      schedule();
      work();
    },
    leave,
    waiting: (peer) => (peer === undefined ? waiting : (queues.get(peer)?.size ?? 0)),
  };
}
