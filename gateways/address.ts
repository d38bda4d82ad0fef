/**
 * Network addresses an operator allows: single IPs and CIDR ranges. Node's BlockList takes an IPv4 address carried in IPv6
 * (RFC 4291 section 2.5.5.2) for the IPv4 address, in either place.
 */
import { BlockList, isIPv4, isIPv6 } from "node:net";

type Range = { readonly base: string; readonly family: "ipv4" | "ipv6"; readonly bits: number };

/** Whether `text` is an IP address or a CIDR range. */
export function isAddressRange(text: string): boolean {
  return rangeOf(text) !== null;
}

const compiled = new WeakMap<readonly string[], BlockList>();

/** Whether `address` is in one of the ranges; an entry that is no range allows nothing. */
export function addressAllowed(ranges: readonly string[], address: string): boolean {
  const single = rangeOf(address);
  if (single === null || address.includes("/")) return false;
  let list = compiled.get(ranges);
  if (list === undefined) {
    list = new BlockList();
    for (const text of ranges) {
      const range = rangeOf(text);
      if (range !== null) list.addSubnet(range.base, range.bits, range.family);
    }
    compiled.set(ranges, list);
  }
  return list.check(single.base, single.family);
}

function rangeOf(text: string): Range | null {
  const match = /^([0-9a-fA-F:.]+)(?:%[\w.-]+)?(?:\/(\d{1,3}))?$/.exec(text);
  if (match === null) return null;
  const base = match[1]!;
  const bits = match[2] === undefined ? null : Number(match[2]);
  if (isIPv4(base)) return bits === null || bits <= 32 ? { base, family: "ipv4", bits: bits ?? 32 } : null;
  if (!isIPv6(base) || (bits ?? 0) > 128) return null;
  return { base, family: "ipv6", bits: bits ?? 128 };
}
