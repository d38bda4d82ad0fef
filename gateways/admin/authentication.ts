/**
 * Who may use the admin API: whoever shows a key that the database knows. An address that has failed too often is turned
 * away for a while before its keys are looked at, so that guessing is slow and costs the database nothing; a key that was
 * good a moment ago still passes, so that a guesser behind the same address locks nobody out.
 */
import { createHash } from "node:crypto";
import rateLimit from "@fastify/rate-limit";
import type { FastifyRequest } from "fastify";
import type { Meter } from "../../meter.ts";
import { findApiKey } from "../../persistence/api-keys.ts";
import type { Database } from "../../persistence/database.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";

/** How many failures an address has free in a window. */
const FAILURES_MAX = 20;
const WINDOW_MS = 60_000;
const ADDRESSES_MAX = 10_000;
/** For so long a key that was good is not asked for again; also how long a withdrawn key may still work. */
const GOOD_MS = 5_000;
const GOOD_MAX = 1_000;

/** Runs an attempt to prove who one is, counting those that come to nothing. */
export type Attempts = <T>(request: FastifyRequest, attempt: () => Promise<T | null>, refusal: Problem) => Promise<T>;

/** Call once in the scope of the admin API, before its routes. */
export async function limitAttempts(app: App, meter: Meter): Promise<Attempts> {
  await app.register(rateLimit, { global: false, max: FAILURES_MAX, timeWindow: WINDOW_MS, cache: ADDRESSES_MAX });
  const failures = app.createRateLimit();
  return async (request, attempt, refusal) => {
    const seen = await failures(request, { increment: false });
    if (!seen.isAllowed && seen.isExceeded) {
      throw new Problem("too-many-failures", "Wait before the next attempt.", { retryAfterSeconds: seen.ttlInSeconds });
    }
    const proven = await attempt();
    if (proven !== null) return proven;
    meter.count("auth_failures", { gateway: "admin" });
    await failures(request);
    throw refusal;
  };
}

/** A hook that lets through requests with a good key. */
export function requireKey(meta: Database, attempts: Attempts): (request: FastifyRequest) => Promise<void> {
  const good = new Map<string, number>();
  return async (request) => {
    const key = /^Bearer ([\x21-\x7e]{1,200})$/i.exec(request.headers.authorization ?? "")?.[1] ?? null;
    const mark = key === null ? "" : createHash("sha256").update(key).digest("base64");
    const until = good.get(mark);
    if (until !== undefined && until > performance.now()) return;
    await attempts(
      request,
      async () => (key === null ? null : findApiKey(meta, key)),
      new Problem("unauthorized", "Send Authorization: Bearer with a valid API key."),
    );
    good.delete(mark);
    if (good.size >= GOOD_MAX) good.delete(good.keys().next().value!);
    good.set(mark, performance.now() + GOOD_MS);
  };
}
