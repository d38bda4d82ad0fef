/** The primary as another thread of this process follows it: one look at each server is enough for all threads. */
import { confirmedBy, type PrimaryState, type PrimaryWatch } from "./primary.ts";

/** @param search asks the thread that follows to look at once */
export function openToldPrimary(search: () => void): PrimaryWatch & { tell(state: PrimaryState): void } {
  const listeners = new Set<() => void>();
  let state: PrimaryState = { primary: null, servers: [], refused: [] };
  return {
    state: () => state,
    onLook: (listener) => void listeners.add(listener),
    confirmed: (after, stalledToo) => confirmedBy(state, after, stalledToo),
    search,
    close: () => listeners.clear(),
    tell(told) {
      state = told;
      for (const listener of listeners) listener();
    },
  };
}
