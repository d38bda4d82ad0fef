/**
 * The code that lets a phone become a subscriber's: 80 random bits in Crockford's base 32, in groups of four for reading
 * aloud. Only its digest is stored. Letters and digits that are taken for one another are one.
 */
import { createHmac, randomBytes } from "node:crypto";
import { hashSecret } from "./secrets.ts";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_LENGTH = 16;

export function makeRegistrationCode(): string {
  return spell(randomBytes(CODE_LENGTH));
}

/** The same code for the same key and purpose, for demo data that must be told again at every start. */
export function deriveRegistrationCode(key: string, purpose: string): string {
  return spell(createHmac("sha256", key).update(purpose).digest().subarray(0, CODE_LENGTH));
}

/** Digest of a code as a person typed it, to be compared with the stored one. */
export function hashRegistrationCode(typed: string): Buffer {
  const letters = typed.toUpperCase().replace(/[\s-]/g, "").replaceAll("O", "0").replace(/[IL]/g, "1");
  return hashSecret(letters);
}

/** Five bits of each byte, so that every letter is as likely as any other. */
function spell(bytes: Buffer): string {
  const letters = [...bytes].map((byte) => ALPHABET[byte & 31]!).join("");
  return letters.match(/.{4}/g)!.join("-");
}
