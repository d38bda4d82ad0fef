/**
 * The form of every answer to a phone (seed 3.4): ResponseType, ResponseCode (0: success), ResponseDescription. Codes are
 * fixed; descriptions may change and repeat nothing of what was sent.
 */
import type { FastifyError, FastifyReply } from "fastify";
import { faultFields, type Log } from "../../log.ts";
import { BatchFull } from "../../persistence/batch.ts";
import { BadData, Conflict, DatabaseDown } from "../../persistence/database.ts";

export const REFUSALS = {
  "bad-request": { status: 400, code: 1, description: "The request is not well-formed" },
  "wrong-registration": { status: 401, code: 2, description: "The destination or registration code is wrong" },
  "no-such-push-network": { status: 400, code: 3, description: "This server does not send to that push network" },
  unauthorized: { status: 401, code: 4, description: "The device token is missing or not valid" },
  "other-device": { status: 403, code: 5, description: "The vendorId is not this device's" },
  "too-large": { status: 413, code: 6, description: "The request is too large" },
  "too-many-failures": { status: 429, code: 7, description: "Too many failed attempts; wait" },
  unavailable: { status: 503, code: 8, description: "The server cannot answer now; try again" },
  "not-found": { status: 404, code: 9, description: "There is no such operation" },
  "not-available": { status: 404, code: 11, description: "This server does not offer this operation" },
  "too-many-calls": { status: 429, code: 12, description: "Too many calls from this device; wait" },
  "no-such-page": { status: 404, code: 13, description: "There is no such page of this device" },
  "no-such-choice": { status: 400, code: 14, description: "The choice is none of the page's" },
  "no-such-text": { status: 400, code: 15, description: "The text is blank, too long, or holds what XML cannot" },
  "too-many-replies": { status: 409, code: 16, description: "This device has replied to this page too often" },
  "no-upgrade": { status: 426, code: 17, description: "This operation is a WebSocket" },
  "foreign-page": { status: 403, code: 18, description: "Web pages of this origin may not listen here" },
  internal: { status: 500, code: 10, description: "The server failed" },
} as const;

export type RefusalKind = keyof typeof REFUSALS;

/** Thrown by an operation to refuse the request. */
export class Refused extends Error {
  readonly kind: RefusalKind;
  readonly retryAfterSeconds: number | null;
  constructor(kind: RefusalKind, retryAfterSeconds: number | null = null) {
    super(REFUSALS[kind].description);
    this.name = "Refused";
    this.kind = kind;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export function success<Body extends object>(operation: string, body: Body): Body & Success {
  return { ResponseType: operation, ResponseCode: 0, ResponseDescription: "Success", ...body };
}
export type Success = {
  readonly ResponseType: string;
  readonly ResponseCode: 0;
  readonly ResponseDescription: "Success";
};

/** What a fault of any kind means to a phone; ours are logged by their type only. */
export function refusalOf(error: unknown, log: Log): Refused {
  if (error instanceof Refused) return error;
  if (error instanceof DatabaseDown || error instanceof Conflict || error instanceof BatchFull)
    return new Refused("unavailable", 1);
  if (error instanceof BadData) return new Refused("bad-request");
  const { statusCode, validation } = error as Partial<FastifyError>;
  if (statusCode === 413) return new Refused("too-large");
  if (validation !== undefined || (statusCode !== undefined && statusCode >= 400 && statusCode < 500))
    return new Refused("bad-request");
  if (statusCode === 503) return new Refused("unavailable", 1);
  log.error(faultFields(error), "client request failed");
  return new Refused("internal");
}

export function sendRefusal(reply: FastifyReply, operation: string, refused: Refused): FastifyReply {
  const { status, code, description } = REFUSALS[refused.kind];
  if (refused.retryAfterSeconds !== null) reply.header("retry-after", String(refused.retryAfterSeconds));
  if (status === 401) reply.header("www-authenticate", "Bearer");
  const body = { ResponseType: operation, ResponseCode: code, ResponseDescription: description };
  return reply.code(status).type("application/json; charset=utf-8").serializer(String).send(JSON.stringify(body));
}
