/** Apple's provider token by a clock that is put right; at a running node: test/node-afflictions.test.ts. */
import { generateKeyPairSync, verify } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Provider } from "apn";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { signByClock } from "../gateways/push/provider-token.ts";

const HOUR_MS = 3_600_000;
const VALID_S = 3_300;
const folder = mkdtempSync(join(tmpdir(), "tocsin-token-"));
const keyFile = join(folder, "key.p8");
const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
writeFileSync(keyFile, privateKey.export({ type: "pkcs8", format: "pem" }));
const key = { keyFile, keyId: "KEY0000001", teamId: "TEAM000001" };
test.after(() => rmSync(folder, { recursive: true, force: true }));

type Token = {
  current: string;
  generation: number;
  isExpired(seconds: number): boolean;
  regenerate(generation: number): void;
};

/** The library's own way to a token, before each push. */
function used(token: Token): { header: object; claims: { iss: string; iat: number } } {
  if (token.isExpired(VALID_S)) token.regenerate(token.generation);
  const [header, claims, signature] = token.current.split(".") as [string, string, string];
  const signed = Buffer.from(`${header}.${claims}`);
  const how = { key: publicKey, dsaEncoding: "ieee-p1363" } as const;
  assert.ok(verify("sha256", signed, how, Buffer.from(signature, "base64url")));
  const parse = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString());
  return { header: parse(header), claims: parse(claims) };
}

function tokenBy(clock: { wall(): number; monotonic(): number }): Token {
  const provider = new Provider({ token: { key: keyFile, keyId: key.keyId, teamId: key.teamId }, production: true });
  signByClock(provider, key, clock);
  return Reflect.get(Reflect.get(Reflect.get(provider, "client"), "config"), "token") as Token;
}

test("it names key and team and the time of the clock given, not the machine's", () => {
  const { header, claims } = used(tokenBy({ wall: () => 1_000_000_000_000, monotonic: () => 0 }));
  assert.equal(header, { alg: "ES256", typ: "JWT", kid: key.keyId });
  assert.equal(claims, { iss: key.teamId, iat: 1_000_000_000 });
});

test("it is kept for 55 minutes, and signed anew at once when the clock turns out to have been ahead", () => {
  let wall = 10 * HOUR_MS;
  const token = tokenBy({ wall: () => wall, monotonic: () => 0 });
  const first = used(token).claims.iat;
  wall += VALID_S * 1_000 - 1_000;
  assert.is(used(token).claims.iat, first);
  wall += 1_000;
  assert.is(used(token).claims.iat, wall / 1_000);
  wall -= HOUR_MS;
  assert.is(used(token).claims.iat, wall / 1_000);
});

test("one called expired is replaced once, however many pushes heard so", () => {
  let wall = HOUR_MS;
  const token = tokenBy({ wall: () => wall, monotonic: () => 0 });
  used(token);
  const { generation, current } = token;
  wall += 5_000;
  token.regenerate(generation);
  const renewed = token.current;
  token.regenerate(generation);
  assert.is(token.current, renewed);
  assert.is.not(renewed, current);
});

test("a library that keeps its token elsewhere is objected to at the start", () => {
  assert.throws(() => signByClock({ client: {} } as never, key, { wall: () => 0, monotonic: () => 0 }), /elsewhere/);
});

test.run();
