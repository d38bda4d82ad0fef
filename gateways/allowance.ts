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

export function openAllowance(
  slice: { readonly burst: number; readonly perMinute: number; readonly callersMax: number },
  ports: { readonly clock: Clock },
): Allowance {
  const { burst, callersMax } = slice;
  const perMs = slice.perMinute / 60_000;
  /** In the order in which they were last charged. */
  const buckets = new Map<string, { readonly left: number; readonly at: number }>();

  function leftOf(caller: string, now: number): number {
    const last = buckets.get(caller);
    return last === undefined ? burst : Math.min(burst, last.left + (now - last.at) * perMs);
  }

  return {
    charge(caller) {
      const now = ports.clock.monotonic();
      const left = Math.max(leftOf(caller, now) - 1, -perMs * DEBT_MS);
      buckets.delete(caller);
      if (buckets.size >= callersMax) buckets.delete(buckets.keys().next().value!);
      buckets.set(caller, { left, at: now });
    },
    waitMs(caller) {
      const left = leftOf(caller, ports.clock.monotonic());
      return left >= 1 ? 0 : Math.ceil((1 - left) / perMs);
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
