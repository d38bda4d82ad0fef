/** The primary as another thread of this process follows it: one look at each server is enough for all threads. */
import { systemClock } from "../domain.ts";
import type { PrimaryState, PrimaryWatch } from "./primary.ts";

/** What is told. `at` of a server counts from the start of the thread that looked; `clock` is the difference to the process's. */
export type Told = { readonly state: PrimaryState; readonly clock: number };

/** From the clock of this thread's looks to the one all threads share, ms. */
const toShared = () => systemClock.monotonic() - performance.now();

export function tellPrimary(watch: PrimaryWatch): Told {
  return { state: watch.state(), clock: toShared() };
}

/** @param search asks the thread that follows to look at once */
export function openToldPrimary(search: () => void): PrimaryWatch & { tell(told: Told): void } {
  const listeners = new Set<() => void>();
  let state: PrimaryState = { primary: null, servers: [], refused: [] };
  return {
    state: () => state,
    onLook: (listener) => void listeners.add(listener),
    confirmed(after, stalledToo) {
      const { primary } = state;
      if (primary === null || primary.at < after) return null;
      return primary.state === "writable" || stalledToo ? primary : null;
    },
    search,
    close: () => listeners.clear(),
    tell(told) {
      const { primary } = told.state;
      const at = (primary?.at ?? 0) + told.clock - toShared();
      state = { ...told.state, primary: primary && { ...primary, at } };
      for (const listener of listeners) listener();
    },
  };
}
