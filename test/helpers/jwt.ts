/** JSON web tokens made by hand, so that a test can make wrong ones (RFC 7515). */
import { type KeyObject, sign } from "node:crypto";

export const now_s = () => Math.floor(Date.now() / 1000);

/** Signed as the key's kind asks, ES256 or RS256, whatever the header says. */
export function jwt(header: object, claims: object, key: KeyObject): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part(header)}.${part(claims)}`;
  const how = key.asymmetricKeyType === "ec" ? ({ key, dsaEncoding: "ieee-p1363" } as const) : key;
  return `${text}.${sign("sha256", Buffer.from(text), how).toString("base64url")}`;
}
