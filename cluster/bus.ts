/**
 * Hints between rooms and, once there are several, between nodes: "look at your rows". A hint points at what is durable
 * already, so a lost one costs a sweep interval and a repeated one a look. In-process here; between nodes it will
 * travel over Redis.
 */
import type { HostSystemId } from "../domain.ts";
import type { Lane } from "../persistence/outbox.ts";

/** There is news for a host in this lane. */
export type NewsHint = { readonly hostSystemId: HostSystemId; readonly lane: Lane };

export type Bus = {
  publish(hint: NewsHint): void;
  /** Returns the end of the subscription. */
  subscribe(listener: (hint: NewsHint) => void): () => void;
};

export function openBus(): Bus {
  const listeners = new Set<(hint: NewsHint) => void>();
  return {
    publish(hint) {
      for (const listener of listeners) listener(hint);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
