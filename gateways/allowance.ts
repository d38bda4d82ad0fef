/**
 * So many at once and so many a minute, for each of many callers: a bucket that holds `burst` and fills up again at an even
 * pace. Who has nothing left waits until there is one again. What is already under way is charged when it is known, and may
 * leave a debt of a few seconds. Bounded: of too many callers the one longest uncharged is forgotten, and has all again.
 */
import { isIPv6 } from "node:net";
import type { Clock } from "../domain.ts";

export type Allowance = {
  /** Takes one, also where there is none. */
  charge(caller: string): void;
  /** Until there is one; 0: there is. */
  waitMs(caller: string): number;
};

const DEBT_MS = 10_000;
/** So far sums of fractions may be off. */
const ROUNDING_MS = 0.01;

export function openAllowance(
  slice: { readonly burst: number; readonly perMinute: number; readonly callersMax: number },
  ports: { readonly clock: Clock },
): Allowance {
  const { burst, callersMax } = slice;
  const paceMs = 60_000 / slice.perMinute;
  /** When each would have its whole burst again, in the order in which they were last charged. */
  const fullAt = new Map<string, number>();

  return {
    charge(caller) {
      const now = ports.clock.monotonic();
      const full = Math.max(fullAt.get(caller) ?? 0, now) + paceMs;
      fullAt.delete(caller);
      if (fullAt.size >= callersMax) fullAt.delete(fullAt.keys().next().value!);
      fullAt.set(caller, Math.min(full, now + burst * paceMs + DEBT_MS));
    },
    waitMs(caller) {
      const missing = (fullAt.get(caller) ?? 0) - ports.clock.monotonic() - (burst - 1) * paceMs;
      return missing <= ROUNDING_MS ? 0 : Math.ceil(missing - ROUNDING_MS / 2);
    },
  };
}

/** Who counts as one caller by address: of IPv6 a /64, of which anybody has more addresses than could be counted. */
export function addressKey(ip: string): string {
  if (!isIPv6(ip) || ip.includes(".")) return ip;
  const [head = "", tail] = ip.split("%")[0]!.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const rest = tail === "" ? [] : tail.split(":");
    while (groups.length + rest.length < 8) groups.push("0");
    groups.push(...rest);
  }
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
