/** Reads and proves a JSON Web Token (RFC 7519) in the two signatures the push services use. */
import { type KeyObject, verify } from "node:crypto";

export type Claims = Readonly<Record<string, unknown>>;
export type Jwt = { readonly header: Claims; readonly claims: Claims };

/** Null when it is no token, names another algorithm, or the signature is not `key`'s. */
export function proveJwt(token: string, algorithm: "RS256" | "ES256", key: KeyObject): Jwt | null {
  const [head, body, signature, ...more] = token.split(".");
  if (head === undefined || body === undefined || signature === undefined || more.length > 0) return null;
  const header = decode(head);
  const claims = decode(body);
  if (header === null || claims === null || header.alg !== algorithm) return null;
  const proof = Buffer.from(signature, "base64url");
  const how = algorithm === "ES256" ? ({ key, dsaEncoding: "ieee-p1363" } as const) : key;
  return verify("sha256", Buffer.from(`${head}.${body}`), how, proof) ? { header, claims } : null;
}

function decode(part: string): Claims | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Claims) : null;
  } catch {
    return null;
  }
}
