/** What is stored of secrets that are random enough for a plain digest: device tokens, registration and security codes. */
import { createHash } from "node:crypto";

/** Only this is stored. */
export function hashSecret(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
