/**
 * Keys of the admin API. A key is 256 random bits, known here by its digest alone. A sign-in token is worth one key and
 * then nothing; the two are digested apart, so that neither passes for the other.
 *
 *   token made ─► exchanged once, within 30 minutes ─► key, 12 hours
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Database } from "./database.ts";

export type ApiKey = { readonly name: string; readonly expiresAt: Date | null };

const BOOTSTRAP = "bootstrap";
const SIGN_IN = "sign-in token";
const TOKEN_LIFE = "30 minutes";
const KEY_LIFE = "12 hours";

export function makeApiKey(): string {
  return `tocsin_${randomBytes(32).toString("base64url")}`;
}

/** Makes this the one bootstrap key (TOCSIN_ADMIN_KEY); an earlier one stops working. null: there is to be none. */
export async function setBootstrapKey(meta: Database, key: string | null): Promise<void> {
  const hash = key === null ? null : digest("api-key", key);
  await meta.run(
    (sql) => sql`
    with gone as (
      delete from meta.api_keys where name = ${BOOTSTRAP} and hash is distinct from ${hash}::bytea
    )
    insert into meta.api_keys (hash, name) select hash, ${BOOTSTRAP} from (select ${hash}::bytea as hash) as given where hash is not null
    on conflict (hash) do nothing`,
  );
}

/** The key as it stands, null when it is not known or has expired. */
export async function findApiKey(meta: Database, key: string): Promise<ApiKey | null> {
  const hash = digest("api-key", key);
  const [row] = await meta.run<{ hash: Buffer; name: string; expiresAt: Date | null }>(
    (sql) => sql`
    select hash, name, expires_at as "expiresAt" from meta.api_keys
    where hash = ${hash} and name <> ${SIGN_IN} and (expires_at is null or expires_at > now())`,
  );
  // The index has compared digests, which say nothing of how near a guess was; this holds should the lookup ever change.
  if (row === undefined || !timingSafeEqual(row.hash, hash)) return null;
  return { name: row.name, expiresAt: row.expiresAt };
}

/** A new one-time token. Takes what has expired out of the table on the way. */
export async function makeSignInToken(meta: Database): Promise<string> {
  const token = randomBytes(32).toString("base64url");
  await meta.run(
    (sql) => sql`
    with gone as (delete from meta.api_keys where expires_at < now())
    insert into meta.api_keys (hash, name, expires_at)
    values (${digest("sign-in", token)}, ${SIGN_IN}, now() + ${TOKEN_LIFE}::text::interval)
    -- Asked again by a start that met the loss of the database.
    on conflict (hash) do nothing`,
  );
  return token;
}

/** Spends the token for a key; null when it was never one, is spent, or has expired. */
export async function exchangeSignInToken(
  meta: Database,
  token: string,
): Promise<{ apiKey: string; expiresAt: Date } | null> {
  const apiKey = makeApiKey();
  const [row] = await meta.run<{ expiresAt: Date }>(
    (sql) => sql`
    with spent as (
      delete from meta.api_keys where hash = ${digest("sign-in", token)} and name = ${SIGN_IN} and expires_at > now() returning hash
    )
    insert into meta.api_keys (hash, name, expires_at)
    select ${digest("api-key", apiKey)}::bytea, 'signed in', now() + ${KEY_LIFE}::text::interval from spent
    returning expires_at as "expiresAt"`,
  );
  return row === undefined ? null : { apiKey, expiresAt: row.expiresAt };
}

function digest(purpose: "api-key" | "sign-in", secret: string): Buffer {
  return createHash("sha256").update(`${purpose}:${secret}`).digest();
}
