/** Who the bench's phones are: everything about phone n (counted from 0) follows from n, here and in the database alike. */
import { createHash } from "node:crypto";

export type BenchPhone = { readonly destination: string; readonly vendorId: string; readonly token: string };

export const TOKEN_PREFIX = "bench-token-of-phone-";
export const VENDOR_PREFIX = "bench device ";
export const SUBSCRIBER_PREFIX = "bench subscriber ";
export const DESTINATION_PREFIX = "7";
/** As long as Google's tokens are. */
export const ADDRESS_PREFIX = `bench:APA91b${"x".repeat(132)}`;
export const DIGITS = 8;

export function numbered(prefix: string, n: number): string {
  return prefix + String(n).padStart(DIGITS, "0");
}

export function benchPhone(n: number): BenchPhone {
  const hex = createHash("md5").update(numbered(VENDOR_PREFIX, n)).digest("hex");
  return {
    destination: numbered(DESTINATION_PREFIX, n),
    vendorId: hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
    token: numbered(TOKEN_PREFIX, n),
  };
}
