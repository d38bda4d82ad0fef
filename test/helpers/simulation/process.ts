/**
 * The process of a node and its network: two threads whose events wait while they cannot run, clocks of its own speed, and
 * calls to the database that may come late, or not at all, or be carried out without an answer.
 */
import type { Scheduler } from "./scheduler.ts";
import type { Store } from "./store.ts";

/** Which of the two threads an event belongs to. */
export type Thread = "main" | "renewal";

const ROUND_TRIP_FAILED_MS = 50;

export function openProcess(scheduler: Scheduler, store: Store, ordinaryMs: number) {
  const { random } = scheduler;
  const rate = 1 + (random.next() - 0.5) / 50;
  const begun = random.between(0, 1_000_000);
  let killed = false;
  let frozenUntil = 0;
  let stalledUntil = 0;
  const net = { cutUntil: 0, loss: 0, slowMs: ordinaryMs };

  const monotonic = () => begun + scheduler.now() * rate;
  const waits = (thread: Thread) => Math.max(frozenUntil, thread === "main" ? stalledUntil : 0);

  /** Runs the event in its thread as soon as that can run; never once the process is gone. */
  function runs(thread: Thread, event: () => void): void {
    if (killed) return;
    const until = waits(thread);
    if (until > scheduler.now()) scheduler.after(until - scheduler.now(), () => runs(thread, event));
    else event();
  }

  function later(thread: Thread, ms: number, event: () => void): void {
    scheduler.after(ms / rate, () => runs(thread, event));
  }

  const lost = () => scheduler.now() < net.cutUntil || scheduler.chance(net.loss);
  const wayMs = () => random.next() * net.slowMs + (scheduler.chance(net.loss) ? random.next() * 3_000 : 0);

  /** `done` is given null where the outcome is unknown. */
  function call<T>(thread: Thread, deadlineMs: number, statement: () => T, done: (answer: T | null) => void): void {
    let over = false;
    const end = (answer: T | null) => {
      if (over) return;
      over = true;
      done(answer);
    };
    later(thread, deadlineMs, () => end(null));
    if (lost()) return;
    scheduler.after(wayMs(), () => {
      if (store.isDown()) return later(thread, ROUND_TRIP_FAILED_MS, () => end(null));
      const answer = statement();
      if (!lost()) scheduler.after(wayMs(), () => runs(thread, () => end(answer)));
    });
  }

  return {
    net,
    monotonic,
    runs,
    later,
    call,
    isKilled: () => killed,
    turns: () => stalledUntil <= scheduler.now(),
    kill: () => {
      killed = true;
    },
    freeze: (ms: number) => {
      frozenUntil = Math.max(frozenUntil, scheduler.now() + ms);
    },
    stall: (ms: number) => {
      stalledUntil = Math.max(stalledUntil, scheduler.now() + ms);
    },
    heal() {
      net.cutUntil = 0;
      net.loss = 0;
      net.slowMs = ordinaryMs;
    },

    /** As `superviseLoop`: a round at a time, a pause between, woken out of it. A round that fails is tried again soon. */
    loop(thread: Thread, pauseMs: () => number, round: (over: (well: boolean) => void) => void) {
      let running = false;
      let woken = false;
      let pause = 0;
      function begin(): void {
        running = true;
        woken = false;
        round((well) => {
          running = false;
          if (woken) return begin();
          const mine = ++pause;
          later(thread, well ? pauseMs() : 100, () => {
            if (mine === pause && !running) begin();
          });
        });
      }
      runs(thread, begin);
      return {
        wake(): void {
          woken = true;
          if (running) return;
          pause += 1;
          runs(thread, () => {
            if (!running && woken) begin();
          });
        },
      };
    },
  };
}
