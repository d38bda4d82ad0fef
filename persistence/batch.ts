/**
 * Gathers the calls that arrive while the last batch is in flight and writes them together: throughput rises under
 * load, and an idle system adds no wait. Two lanes, so that urgent entries never queue behind the rest. A statement costs ten times
 * what one more row in it does, so that a lane may have a pace: what comes soon after a batch began waits for the next stroke. Only
 * what comes alone, or behind a batch that took longer, goes at once.
 *
 *   submit ─► waiting (bounded) ─► in flight (one batch a lane, one entry a key) ─► settled
 *                └─ withdrawn: its taker writes it, and settles it
 *
 * No two entries of one key are in flight in a lane at once: a set-based update that names a row twice loses one of
 * them. Entries go sorted by key, so that two batches lock rows in the same order. A batch refused for bad data is
 * split until the poison is alone and fails by itself. What is long goes in fewer to a statement, so that the longest
 * batch takes neither much memory nor more of the statement's deadline than any.
 */
import { BadData, Conflict, DatabaseDown } from "./database.ts";

/** The lane holds as many entries as it may; the caller must slow its source. */
export class BatchFull extends Error {
  override readonly name = "BatchFull";
}

/** What goes by itself: the database is away, busy with the same rows, or has enough to do. */
export function isPassing(error: unknown): boolean {
  return error instanceof DatabaseDown || error instanceof Conflict || error instanceof BatchFull;
}

/** Out of the batch: whoever took it says what became of it. */
export type Withdrawn<In, Out> = { readonly entry: In; settle(out: Out | Promise<Out>): void };

export type Batch<In, Out> = {
  submit(entry: In): Promise<Out>;
  /** The first of this key that waits and is meant; null: there is none, or it is in flight. */
  withdraw(key: string, meant: (entry: In) => boolean): Withdrawn<In, Out> | null;
  /** Entries waiting or in flight. */
  depth(): number;
  /** How long the oldest of them has been here, ms; 0 when there is none. */
  waitedMs(): number;
};

export type BatchOptions<In, Out> = {
  readonly key: (entry: In) => string;
  /** None is where this is left out. */
  readonly urgent?: (entry: In) => boolean;
  /** Writes all entries, urgent ones or others, as one statement; answers in the same order. */
  readonly write: (entries: readonly In[], urgent: boolean) => Promise<readonly Out[]>;
  readonly entriesMax: number;
  readonly waitingMax: number;
  /** From the beginning of one batch of a lane to that of the next, at least, ms; as soon as the last one is over where this is left out. */
  readonly paceMs?: number;
  /** How long an entry is, in characters, and how long those of one statement may be together; a single one may always go. */
  readonly length?: { readonly of: (entry: In) => number; readonly max: number };
};

type Pending<In, Out> = {
  readonly key: string;
  readonly entry: In;
  readonly since: number;
  resolve(out: Out | Promise<Out>): void;
  reject(error: unknown): void;
};
type Lane<In, Out> = {
  /** In the order they came. */
  waiting: Pending<In, Out>[];
  flying: number;
  /** When the oldest in flight came; null: none is. */
  flyingSince: number | null;
  /** When the last batch began (monotonic ms). */
  beganAt: number;
  scheduled: boolean;
};

const CONFLICT_TRIES = 5;
/** Paces: of what a page, a phone or a host waits for; of what nobody does. */
export const PACE_MS = 5;
export const EASY_PACE_MS = 50;

function makeLane<In, Out>(): Lane<In, Out> {
  return { waiting: [], flying: 0, flyingSince: null, beganAt: Number.NEGATIVE_INFINITY, scheduled: false };
}

export function makeBatch<In, Out>(options: BatchOptions<In, Out>): Batch<In, Out> {
  const urgent = makeLane<In, Out>();
  const normal = makeLane<In, Out>();
  const { paceMs = 0 } = options;

  function schedule(lane: Lane<In, Out>): void {
    if (lane.scheduled || lane.flying > 0 || lane.waiting.length === 0) return;
    lane.scheduled = true;
    const begin = () => {
      lane.scheduled = false;
      void fly(lane);
    };
    const waitMs = lane.beganAt + paceMs - performance.now();
    if (waitMs > 0) setTimeout(begin, waitMs);
    // After the current turn, so that entries of one turn share a statement.
    else queueMicrotask(begin);
  }

  async function fly(lane: Lane<In, Out>): Promise<void> {
    const batch = take(lane);
    if (batch.length === 0) return;
    lane.flying = batch.length;
    lane.beganAt = performance.now();
    lane.flyingSince = Math.min(...batch.map(({ since }) => since));
    await write(batch, lane === urgent, CONFLICT_TRIES);
    lane.flying = 0;
    lane.flyingSince = null;
    schedule(lane);
  }

  function take(lane: Lane<In, Out>): Pending<In, Out>[] {
    const batch = new Map<string, Pending<In, Out>>();
    const left: Pending<In, Out>[] = [];
    let room = options.length?.max ?? 0;
    let full = false;
    for (const pending of lane.waiting) {
      if (!full && !batch.has(pending.key)) {
        room -= options.length?.of(pending.entry) ?? 0;
        // In the order they came: a long one does not wait for ever behind short ones.
        full = batch.size >= options.entriesMax || (batch.size > 0 && room < 0);
        if (!full) {
          batch.set(pending.key, pending);
          continue;
        }
      }
      left.push(pending);
    }
    lane.waiting = left;
    return [...batch.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Settles every entry of the batch; never throws. */
  async function write(batch: readonly Pending<In, Out>[], isUrgent: boolean, tries: number): Promise<void> {
    let results: readonly Out[];
    try {
      results = await options.write(
        batch.map((pending) => pending.entry),
        isUrgent,
      );
      if (results.length !== batch.length)
        throw new Error(`a batch of ${batch.length} was answered ${results.length} times`);
    } catch (error) {
      if (error instanceof Conflict && tries > 1) return write(batch, isUrgent, tries - 1);
      if (error instanceof BadData && batch.length > 1) {
        const half = batch.length >> 1;
        await write(batch.slice(0, half), isUrgent, tries);
        await write(batch.slice(half), isUrgent, tries);
        return;
      }
      for (const pending of batch) pending.reject(error);
      return;
    }
    for (const [index, pending] of batch.entries()) pending.resolve(results[index]!);
  }

  return {
    submit(entry) {
      const lane = options.urgent?.(entry) === true ? urgent : normal;
      if (lane.waiting.length >= options.waitingMax) return Promise.reject(new BatchFull());
      return new Promise<Out>((resolve, reject) => {
        lane.waiting.push({ key: options.key(entry), entry, since: performance.now(), resolve, reject });
        schedule(lane);
      });
    },
    withdraw(key, meant) {
      for (const { waiting } of [urgent, normal]) {
        const place = waiting.findIndex((pending) => pending.key === key && meant(pending.entry));
        if (place < 0) continue;
        const [{ entry, resolve }] = waiting.splice(place, 1) as [Pending<In, Out>];
        return { entry, settle: resolve };
      }
      return null;
    },
    depth: () => urgent.waiting.length + urgent.flying + normal.waiting.length + normal.flying,
    waitedMs() {
      const since = [urgent, normal].flatMap(({ flyingSince, waiting }) => flyingSince ?? waiting[0]?.since ?? []);
      return since.length === 0 ? 0 : performance.now() - Math.min(...since);
    },
  };
}
