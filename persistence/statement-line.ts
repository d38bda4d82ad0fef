/**
 * The line before a pool: as many statements are sent at once as it has connections, the others wait here and not in the
 * driver, so that a statement's deadline counts from when it is sent, and a flood of them never makes a healthy server look
 * lost.
 *
 *   enter ─► a place is free ───────────────► sent ─► settled, and its place goes to the next
 *        └─► waiting, urgent ones first ───────▲
 *                 └─ the line is full, the wait too long, or the pool is gone ─► rejected, never sent
 */
import { DatabaseBusy } from "./database-faults.ts";

export type StatementLine = {
  /** Sends when there is a place. Rejects with DatabaseBusy, with what `end` says, or with what `send` rejects with. */
  enter<T>(urgent: boolean, send: () => Promise<T>): Promise<T>;
  waiting(): number;
  /** The pool is gone: rejects what waits, and whatever comes. Those sent settle by themselves. */
  end(why: Error): void;
};

export type StatementLineSlice = {
  readonly places: number;
  /** Each of the two lanes. */
  readonly waitingMax: number;
  readonly waitMs: number;
};

/** The urgent pass the others, but for one in so many: phones must go on fetching however many pages come in. */
const URGENT_IN_A_ROW_MAX = 4;

type Waiting = { readonly start: () => void; readonly reject: (error: Error) => void; readonly timer: NodeJS.Timeout };

export function openStatementLine(slice: StatementLineSlice): StatementLine {
  const urgentLane = new Set<Waiting>();
  const normalLane = new Set<Waiting>();
  let places = slice.places;
  let urgentInARow = 0;
  let ended: Error | null = null;

  function next(): Waiting | undefined {
    const normalsTurn = urgentLane.size === 0 || (normalLane.size > 0 && urgentInARow >= URGENT_IN_A_ROW_MAX);
    urgentInARow = normalsTurn ? 0 : urgentInARow + 1;
    // A Set keeps the order of arrival.
    const [first] = normalsTurn ? normalLane : urgentLane;
    return first;
  }

  function free(): void {
    places += 1;
    const first = next();
    if (first === undefined) return;
    leave(first);
    first.start();
  }

  function leave(waiting: Waiting): void {
    clearTimeout(waiting.timer);
    urgentLane.delete(waiting);
    normalLane.delete(waiting);
  }

  return {
    waiting: () => urgentLane.size + normalLane.size,
    enter(urgent, send) {
      if (ended !== null) return Promise.reject(ended);
      return new Promise((resolve, reject) => {
        const start = () => {
          places -= 1;
          // An error thrown while the statement is built is the statement's.
          Promise.resolve().then(send).then(resolve, reject).finally(free);
        };
        if (places > 0) return start();
        const lane = urgent ? urgentLane : normalLane;
        if (lane.size >= slice.waitingMax) return reject(new DatabaseBusy());
        const timer = setTimeout(() => {
          leave(waiting);
          reject(new DatabaseBusy());
        }, slice.waitMs);
        const waiting: Waiting = { start, reject, timer };
        lane.add(waiting);
      });
    },
    end(why) {
      ended ??= why;
      for (const waiting of [...urgentLane, ...normalLane]) {
        leave(waiting);
        waiting.reject(ended);
      }
    },
  };
}
