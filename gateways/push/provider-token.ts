/**
 * Apple's provider token (a JWT, ES256; RFC 7519) in the place of the library's own, which signs and ages it by the machine's
 * clock: one signed while that clock was an hour ahead is refused, and was kept for two hours after the clock was right again.
 *
 *   none ─► signed ── 55 min old, from the future, or called expired ──► signed anew
 */
import { createPrivateKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Provider } from "apn";
import type { Clock } from "../../domain.ts";

/** What the library asks of a token, before each push and when one was called expired. */
type ProviderToken = {
  current: string;
  generation: number;
  isExpired(validSeconds: number): boolean;
  regenerate(generation: number): void;
};

const AHEAD_S = 60;

/** @throws when the key cannot be read, or the library keeps its token elsewhere than expected */
export function signByClock(
  provider: Provider,
  key: { readonly keyFile: string; readonly keyId: string; readonly teamId: string },
  clock: Clock,
): void {
  const privateKey = createPrivateKey(readFileSync(key.keyFile));
  const now_s = () => Math.floor(clock.wall() / 1_000);
  let signedAt_s = Number.NEGATIVE_INFINITY;
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

  const token: ProviderToken = {
    current: "",
    generation: 0,
    isExpired(validSeconds) {
      const age_s = now_s() - signedAt_s;
      return age_s >= validSeconds || age_s < -AHEAD_S;
    },
    regenerate(generation) {
      if (generation !== token.generation) return;
      token.generation += 1;
      signedAt_s = now_s();
      const claims = { iss: key.teamId, iat: signedAt_s };
      const text = `${part({ alg: "ES256", typ: "JWT", kid: key.keyId })}.${part(claims)}`;
      const signature = sign("sha256", Buffer.from(text), { key: privateKey, dsaEncoding: "ieee-p1363" });
      token.current = `${text}.${signature.toString("base64url")}`;
    },
  };
  const config: unknown = Reflect.get(Object(Reflect.get(provider, "client")), "config");
  if (typeof config !== "object" || config === null || typeof Reflect.get(config, "token")?.isExpired !== "function")
    throw new Error("apn keeps its provider token elsewhere than expected; see gateways/push/provider-token.ts");
  Reflect.set(config, "token", token);
}
