/** Time that passes only from one event to the next, and chance that can be had again. */
import { type Random, randomFrom } from "../random.ts";

export type Scheduler = {
  /** ms since the beginning. */
  now(): number;
  readonly random: Random;
  chance(share: number): boolean;
  after(ms: number, event: () => void): void;
  /** Runs what is due until then. */
  runUntil(ms: number): void;
};

type Entry = { readonly at: number; readonly order: number; readonly event: () => void };

export function openScheduler(seed: number): Scheduler {
  // Seeds that follow each other begin alike otherwise.
  const random = randomFrom(Math.imul(seed + 1, 0x9e3779b1));
  for (let n = 0; n < 4; n += 1) random.next();
  const heap: Entry[] = [];
  let now = 0;
  let order = 0;
  const before = (a: Entry, b: Entry) => a.at < b.at || (a.at === b.at && a.order < b.order);

  function push(entry: Entry): void {
    let place = heap.length;
    heap.push(entry);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[place] = heap[parent]!;
      place = parent;
    }
    heap[place] = entry;
  }

  function pop(): Entry {
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
      if (!before(heap[child]!, last)) break;
      heap[place] = heap[child]!;
      place = child;
    }
    heap[place] = last;
    return first;
  }

  return {
    now: () => now,
    random,
    chance: (share) => random.next() < share,
    after(ms, event) {
      push({ at: now + Math.max(0, ms), order: order++, event });
    },
    runUntil(ms) {
      while (heap.length > 0 && heap[0]!.at <= ms) {
        const { at, event } = pop();
        now = at;
        event();
      }
      now = ms;
    },
  };
}
