/**
 * One timer for many: each is called so many seconds after it was set, and goes on for as long as it says when next. A turn of the wheel
 * is a second of the event loop's, not of the clock's: of a process that stood still one has passed, so that nobody is taken for silent
 * whose words had no chance to be read.
 */
export type Wheel<T> = {
  set(item: T, seconds: number): void;
  remove(item: T): void;
  close(): void;
};

/** Seconds ahead, at most. */
const SLOTS = 64;

/** @param due answers in how many seconds it is to be called again; null: no more */
export function openWheel<T extends { slot: number }>(due: (item: T) => number | null): Wheel<T> {
  const slots = Array.from({ length: SLOTS }, () => new Set<T>());
  let now = 0;

  function set(item: T, seconds: number): void {
    remove(item);
    item.slot = (now + Math.min(Math.max(1, Math.round(seconds)), SLOTS - 1)) % SLOTS;
    slots[item.slot]!.add(item);
  }
  function remove(item: T): void {
    slots[item.slot]?.delete(item);
  }

  const timer = setInterval(() => {
    now = (now + 1) % SLOTS;
    const called = slots[now]!;
    slots[now] = new Set();
    for (const item of called) {
      const seconds = due(item);
      if (seconds !== null) set(item, seconds);
    }
  }, 1_000);
  return { set, remove, close: () => clearInterval(timer) };
}
