/**
 * When pages go out. A closed loop sends the next when one has come to its end; an open loop sends by the clock, whatever
 * the server does, and a page's time begins when it was to be sent: a server that stalls is charged for all it kept waiting.
 */
import type { Orders, Spread } from "./orders.ts";
import { spreadOf } from "./spread.ts";

export type Sender = {
  start(): void;
  /** A page has come to its end. */
  ended(): void;
  stop(): void;
  lateMs(): Spread;
};

const TICK_MS = 1;

/** @param send is given pages in order, all that are to go now, and when each was to */
export function openSender(
  { pages, pace }: Pick<Orders, "pages" | "pace">,
  send: (from: number, to: number, dueAt: (page: number) => number) => void,
): Sender {
  let next = 0;
  let flying = 0;
  let stopped = false;
  if ("window" in pace) {
    let scheduled = false;
    const fill = () => {
      scheduled = false;
      const to = Math.min(pages, next + pace.window - flying);
      if (stopped || to <= next) return;
      const now = performance.now();
      const from = next;
      flying += to - from;
      next = to;
      send(from, to, () => now);
    };
    return {
      start: fill,
      ended() {
        flying -= 1;
        if (scheduled || next >= pages) return;
        scheduled = true; // all that end in one turn are followed up together
        setImmediate(fill);
      },
      stop() {
        stopped = true;
      },
      lateMs: () => null,
    };
  }

  const late: number[] = [];
  let began = 0;
  const dueAt = (page: number) => began + (page / pace.perSecond) * 1_000;
  const tick = () => {
    if (stopped || next >= pages) return;
    const now = performance.now();
    const from = next;
    while (next < pages && dueAt(next) <= now) {
      late.push(now - dueAt(next));
      next += 1;
    }
    if (next > from) send(from, next, dueAt);
    setTimeout(tick, TICK_MS);
  };
  return {
    start() {
      began = performance.now();
      tick();
    },
    ended() {},
    stop() {
      stopped = true;
    },
    lateMs: () => spreadOf(late),
  };
}
