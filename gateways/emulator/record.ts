/** The pushes the emulator took, newest 100,000, each with a number that only rises; and who listens for more. */

export type PushRecord = {
  readonly id: number;
  readonly provider: "FCM" | "APNS";
  readonly token: string;
  /** APNs: the apns-* request headers. FCM: the android options (priority, ttl, collapse_key). */
  readonly headers: Readonly<Record<string, string>>;
  /** APNs: the body. FCM: the message without its target and android options, so `payload.data.message`. */
  readonly payload: Readonly<Record<string, unknown>>;
  /** ISO 8601. */
  readonly at: string;
};
/** A push as kept and passed on: its JSON is made once. */
export type RecordedPush = { readonly id: number; readonly token: string; readonly json: string };
export type RecordQuery = { readonly token: string | null; readonly after: number; readonly limit: number };

export type Recorder = {
  add(push: Omit<PushRecord, "id">): void;
  /** The newest `limit` of those numbered above `after`, oldest first. */
  list(query: RecordQuery): RecordedPush[];
  clear(): void;
  /** Returns what ends it. */
  listen(listener: (push: RecordedPush) => void): () => void;
};

const CAPACITY = 100_000;

export function openRecorder(capacity: number = CAPACITY): Recorder {
  /** Push n lies at n modulo the capacity. */
  let ring: RecordedPush[] = [];
  let next = 1;
  let oldest = 1;
  const listeners = new Set<(push: RecordedPush) => void>();
  return {
    add(push) {
      const id = next++;
      const kept = { id, token: push.token, json: JSON.stringify({ id, ...push } satisfies PushRecord) };
      ring[id % capacity] = kept;
      oldest = Math.max(oldest, next - capacity);
      for (const listener of listeners) listener(kept);
    },
    list({ token, after, limit }) {
      const found: RecordedPush[] = [];
      for (let id = next - 1; id >= oldest && id > after && found.length < limit; id--) {
        const push = ring[id % capacity];
        if (push !== undefined && (token === null || push.token === token)) found.push(push);
      }
      return found.reverse();
    },
    clear() {
      ring = [];
      oldest = next;
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
