/**
 * Access tokens for FCM from a Google service account: a signed assertion is exchanged for a bearer token (RFC 7523).
 * firebase-admin takes any credential; its own `cert()` is not used because it remembers one account and one agent per
 * file path for the life of the process, retries inside the call, and cannot be told that a token was revoked.
 *
 *   none ─fetch─► fresh ─5 min before the end─► ageing (served still, fetched in the background) ─► none
 *                   └──────────── disowned by the service (401) ───────────────────────────────────►┘
 */
import { createPrivateKey, type KeyObject, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { type Agent, request } from "node:https";
import type { Clock } from "../../domain.ts";

export type ServiceAccount = {
  readonly projectId: string;
  readonly clientEmail: string;
  readonly privateKey: KeyObject;
  readonly tokenUri: string;
};

/** Why no token could be had; `transient` when asking again may help. */
export class TokenFault extends Error {
  readonly code: string;
  readonly transient: boolean;
  constructor(code: string, transient: boolean) {
    super(`no access token: ${code}`);
    this.name = "TokenFault";
    this.code = code;
    this.transient = transient;
  }
}

export type TokenSource = {
  /** A bearer token; @throws {TokenFault} */
  get(): Promise<string>;
  /** Drops the token in use and gets another. @throws {TokenFault} */
  renew(): Promise<string>;
};

const SCOPE = "https://www.googleapis.com/auth/firebase.messaging";
const ASSERTION_LIFE_S = 3600;
const RENEW_BEFORE_MS = 300_000;
const MAX_ANSWER_BYTES = 65_536;

/** @throws when the file is missing or is no service account key; the message names the file and the field only. */
export function readServiceAccount(file: string): ServiceAccount {
  const parsed: unknown = parseJson(readFileSync(file, "utf8"));
  const text = (name: string): string => {
    const value = typeof parsed === "object" && parsed !== null ? Reflect.get(parsed, name) : undefined;
    if (typeof value !== "string" || value === "") throw new Error(`service account file ${file} has no ${name}`);
    return value;
  };
  const tokenUri = text("token_uri");
  if (!URL.canParse(tokenUri)) throw new Error(`service account file ${file} has no valid token_uri`);
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(text("private_key"));
  } catch {
    throw new Error(`service account file ${file} has no readable private_key`);
  }
  return { projectId: text("project_id"), clientEmail: text("client_email"), privateKey, tokenUri };
}

/** `deadlineMs` bounds each request for a token. Requests are shared by all who wait. */
export function openTokenSource(account: ServiceAccount, agent: Agent, clock: Clock, deadlineMs: number): TokenSource {
  let current: { readonly token: string; readonly until: number } | null = null;
  let pending: Promise<string> | null = null;

  function fetchOnce(): Promise<string> {
    pending ??= fetchToken(account, agent, clock, deadlineMs)
      .then((granted) => {
        current = { token: granted.token, until: clock.monotonic() + granted.lifeMs };
        return granted.token;
      })
      .finally(() => {
        pending = null;
      });
    return pending;
  }

  return {
    get() {
      const leftMs = current === null ? 0 : current.until - clock.monotonic();
      if (current === null || leftMs <= 0) return fetchOnce();
      if (leftMs < RENEW_BEFORE_MS) fetchOnce().catch(() => {}); // who needs it next hears of the failure
      return Promise.resolve(current.token);
    },
    renew() {
      current = null;
      return fetchOnce();
    },
  };
}

type Granted = { readonly token: string; readonly lifeMs: number };

function fetchToken(account: ServiceAccount, agent: Agent, clock: Clock, deadlineMs: number): Promise<Granted> {
  const form = new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
    assertion: assertion(account, Math.floor(clock.wall() / 1000)),
  });
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const call = request(account.tokenUri, { method: "POST", agent, headers });
    // The whole exchange is timed, not only its silences.
    const timer = setTimeout(() => call.destroy(), deadlineMs);
    const fail = () => reject(new TokenFault("oauth-unreachable", true));
    call.once("error", fail);
    call.once("close", () => {
      clearTimeout(timer);
      fail();
    });
    call.once("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("error", fail);
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > MAX_ANSWER_BYTES) call.destroy();
      });
      response.once("end", () => {
        try {
          resolve(readGrant(response.statusCode ?? 0, text));
        } catch (fault) {
          reject(fault);
        }
      });
    });
    call.end(form.toString());
  });
}

function readGrant(status: number, text: string): Granted {
  const body: unknown = parseJson(text);
  const get = (name: string): unknown => (typeof body === "object" && body !== null ? Reflect.get(body, name) : null);
  if (status === 200) {
    const token = get("access_token");
    const life = get("expires_in");
    if (typeof token === "string" && token !== "" && typeof life === "number") return { token, lifeMs: life * 1000 };
    throw new TokenFault("oauth-malformed", true);
  }
  const error = get("error");
  const code = typeof error === "string" && /^[a-z_]{1,48}$/.test(error) ? `oauth-${error}` : `oauth-http-${status}`;
  throw new TokenFault(code, status >= 500 || status === 429 || status === 408);
}

function assertion(account: ServiceAccount, now_s: number): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    iss: account.clientEmail,
    aud: account.tokenUri,
    scope: SCOPE,
    iat: now_s,
    exp: now_s + ASSERTION_LIFE_S,
  };
  const signed = `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${sign("sha256", Buffer.from(signed), account.privateKey).toString("base64url")}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
