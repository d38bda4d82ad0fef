/** A batch whose statements wait until the test answers them. */
import { type BatchOptions, makeBatch } from "../../persistence/batch.ts";

export type Entry = { readonly key: string; readonly id: number; readonly urgent: boolean; readonly poison: boolean };

let ids = 0;
export function entry(key: string, more: Partial<Entry> = {}): Entry {
  ids += 1;
  return { key, id: ids, urgent: false, poison: false, ...more };
}

export type Call = {
  readonly entries: readonly Entry[];
  answer(): void;
  answerWith(results: readonly string[]): void;
  fail(error: unknown): void;
};

/** A batch whose writes wait until the test answers them. */
export function heldBatch(
  limits: Partial<Pick<BatchOptions<Entry, string>, "entriesMax" | "waitingMax" | "paceMs">> = {},
) {
  const calls: Call[] = [];
  const batch = makeBatch<Entry, string>({
    entriesMax: 10,
    waitingMax: 100,
    ...limits,
    key: (one) => one.key,
    urgent: (one) => one.urgent,
    write: (entries) =>
      new Promise((resolve, reject) => {
        calls.push({
          entries,
          answer: () => resolve(entries.map((one) => `done ${one.id}`)),
          answerWith: resolve,
          fail: reject,
        });
      }),
  });
  return { batch, calls };
}

export function keysOf(call: Call | undefined): string[] {
  return call === undefined ? [] : call.entries.map((one) => one.key);
}
