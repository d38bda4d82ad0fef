/**
 * Failed attempts by address: after so many within a minute the address waits until the minute is over. Bounded: the
 * address longest without a failure makes way.
 */
import type { Clock } from "../domain.ts";

export type Failures = {
  failed(address: string): void;
  /** 0: may try. */
  blockedForMs(address: string): number;
};

const WINDOW_MS = 60_000;
const ADDRESSES_MAX = 50_000;

export function openFailures(slice: { readonly perMinute: number }, ports: { readonly clock: Clock }): Failures {
  const { clock } = ports;
  const windows = new Map<string, { count: number; until: number }>();
  return {
    failed(address) {
      const now = clock.monotonic();
      const last = windows.get(address);
      const window = last !== undefined && last.until > now ? last : { count: 0, until: now + WINDOW_MS };
      window.count += 1;
      windows.delete(address);
      if (windows.size >= ADDRESSES_MAX) windows.delete(windows.keys().next().value!);
      windows.set(address, window);
    },
    blockedForMs(address) {
      const window = windows.get(address);
      if (window === undefined || window.count < slice.perMinute) return 0;
      return Math.max(0, window.until - clock.monotonic());
    },
  };
}
