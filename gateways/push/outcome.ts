/**
 * What each answer of a push service means for the push: the error tables of APNs ("Handling notification responses")
 * and of FCM HTTP v1 ("ErrorCode"), as data. Codes are the service's own words, or one of ours in lower case where the
 * service said nothing.
 */
import type { PushOutcome } from "./provider.ts";

/** No answer within the deadline: the service may have taken the push, so it is sent again under the same id. */
export const NO_ANSWER: PushOutcome = { kind: "retry", afterMs: null, code: "no-answer" };
/** The connection failed or broke before the answer was whole. */
export const CONNECTION_BROKEN: PushOutcome = { kind: "retry", afterMs: null, code: "connection-broken" };
export const CLOSED: PushOutcome = { kind: "retry", afterMs: null, code: "provider-closed" };

/** A service may not put a page off for longer than this, whatever it asks. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** FCM's rule for a 429 that names no time. */
const QUOTA_RETRY_AFTER_MS = 60_000;

/** `Retry-After` as ms from `now`, from seconds or an HTTP date (RFC 9110 section 10.2.3); null if absent or unreadable. */
export function retryAfterMs(header: unknown, now: number): number | null {
  if (typeof header !== "string" || header.trim() === "") return null;
  const wait = /^\s*\d+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(wait) ? null : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, wait));
}

export type ApnsAnswer = {
  readonly status: number;
  readonly reason: string | null;
  /** ms since 1970, with 410 only. */
  readonly timestamp: number | null;
  readonly afterMs: number | null;
  readonly apnsId: string | null;
};

/**
 * `proven`: this connection's environment and key have delivered before. Until then BadDeviceToken more likely means that
 * every token meets the wrong environment (sandbox or production), and must not cost any device its address.
 */
export function apnsOutcome(answer: ApnsAnswer, proven: boolean): PushOutcome {
  const { status, afterMs } = answer;
  const code = codeOf(answer.reason, status);
  if (status === 200) return { kind: "accepted", providerId: answer.apnsId };
  if (status === 410) return { kind: "token-dead", since: answer.timestamp, code };
  if (code === "BadDeviceToken" && proven) return { kind: "token-dead", since: null, code };
  // IdleTimeout is listed among the faults of a request, but tells of a stalled connection; the push itself is sound.
  if (isTransient(status) || code === "IdleTimeout") return { kind: "retry", afterMs, code };
  return { kind: "refused", code, alarm: true };
}

export type FcmAnswer = {
  readonly status: number;
  /** errorCode of the FcmError detail; null when the answer came from in front of FCM and has none. */
  readonly errorCode: string | null;
  /** The canonical status, e.g. UNAUTHENTICATED. */
  readonly canonical: string | null;
  /** The request's field the service names as the bad one is the device token. */
  readonly tokenAtFault: boolean;
  readonly afterMs: number | null;
};

export function fcmOutcome(answer: FcmAnswer): PushOutcome {
  const { status, errorCode, afterMs } = answer;
  const code = codeOf(errorCode ?? answer.canonical, status);
  if (errorCode === "UNREGISTERED") return { kind: "token-dead", since: null, code };
  if (errorCode === "INVALID_ARGUMENT" && answer.tokenAtFault) return { kind: "token-dead", since: null, code };
  if (status === 429) return { kind: "retry", afterMs: afterMs ?? QUOTA_RETRY_AFTER_MS, code };
  // 2xx arrives here only when the body was no answer of FCM's, so nothing says that the push was taken.
  if (isTransient(status) || errorCode === "UNSPECIFIED_ERROR" || status < 300) return { kind: "retry", afterMs, code };
  return { kind: "refused", code, alarm: true };
}

/** FCM's error body: `{error: {code, message, status, details: [{"@type", errorCode} | {"@type", fieldViolations}]}}`. */
export function readFcmAnswer(status: number, body: unknown, retryAfter: unknown, now: number): FcmAnswer {
  const error = field(body, "error");
  const details = field(error, "details");
  const list: readonly unknown[] = Array.isArray(details) ? details : [];
  const errorCode = list.map((detail) => field(detail, "errorCode")).find((code) => typeof code === "string");
  const violations = list.flatMap((detail) => field(detail, "fieldViolations") ?? []);
  const canonical = field(error, "status");
  return {
    status,
    errorCode: typeof errorCode === "string" ? errorCode : null,
    canonical: typeof canonical === "string" ? canonical : null,
    tokenAtFault: violations.some((violation) => field(violation, "field") === "message.token"),
    afterMs: retryAfterMs(retryAfter, now),
  };
}

function isTransient(status: number): boolean {
  return status >= 500 || status === 429 || status === 408;
}

/** A service's word as it may stand in a log, a metric or a host's notice: short, letters only. */
function codeOf(word: string | null, status: number): string {
  return word !== null && /^[A-Za-z_]{1,48}$/.test(word) ? word : `http-${status}`;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}
