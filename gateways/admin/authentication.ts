/**
 * Who may use the admin API: whoever shows a key that the database knows. An address that has failed too often is turned
 * away for a while before its keys are looked at, so that guessing is slow and costs the database nothing; a key that was
 * good a moment ago still passes, so that a guesser behind the same address locks nobody out.
 */
import { createHash } from "node:crypto";
import type { FastifyRequest } from "fastify";
import type { Clock } from "../../domain.ts";
import type { Meter } from "../../meter.ts";
import { findApiKey } from "../../persistence/api-keys.ts";
import type { Database } from "../../persistence/database.ts";
import { addressKey, openAllowance } from "../allowance.ts";
import { Problem } from "../problems.ts";

/** By address. */
const FAILURES = { burst: 20, perMinute: 20, callersMax: 10_000 };
/** For so long a key that was good is not asked for again; also how long a withdrawn key may still work. */
const GOOD_MS = 5_000;
const GOOD_MAX = 1_000;

/** Runs an attempt to prove who one is, counting those that come to nothing. */
export type Attempts = <T>(request: FastifyRequest, attempt: () => Promise<T | null>, refusal: Problem) => Promise<T>;

export function openAttempts(ports: { readonly meter: Meter; readonly clock: Clock }): Attempts {
  const failures = openAllowance(FAILURES, ports);
  return async (request, attempt, refusal) => {
    const address = addressKey(request.ip);
    const waitMs = failures.waitMs(address);
    if (waitMs > 0) {
      const retryAfterSeconds = Math.ceil(waitMs / 1_000);
      throw new Problem("too-many-failures", "Wait before the next attempt.", { retryAfterSeconds });
    }
    const proven = await attempt();
    if (proven !== null) return proven;
    ports.meter.count("auth_failures", { gateway: "admin" });
    failures.charge(address);
    throw refusal;
  };
}

/** Whose key each request shows that was let through. */
const names = new WeakMap<FastifyRequest, string>();
export function keyNameOf(request: FastifyRequest): string {
  return names.get(request) ?? "nobody";
}

/** A hook that lets through requests with a good key. */
export function requireKey(
  ports: { readonly meta: Database; readonly clock: Clock },
  attempts: Attempts,
): (request: FastifyRequest) => Promise<void> {
  const { meta, clock } = ports;
  const good = new Map<string, { readonly until: number; readonly name: string }>();
  return async (request) => {
    const key = /^Bearer ([\x21-\x7e]{1,200})$/i.exec(request.headers.authorization ?? "")?.[1] ?? null;
    const mark = key === null ? "" : createHash("sha256").update(key).digest("base64");
    const known = good.get(mark);
    if (known !== undefined && known.until > clock.monotonic()) {
      names.set(request, known.name);
      return;
    }
    const { name } = await attempts(
      request,
      async () => (key === null ? null : findApiKey(meta, key)),
      new Problem("unauthorized", "Send Authorization: Bearer with a valid API key."),
    );
    good.delete(mark);
    if (good.size >= GOOD_MAX) good.delete(good.keys().next().value!);
    good.set(mark, { until: clock.monotonic() + GOOD_MS, name });
    names.set(request, name);
  };
}
