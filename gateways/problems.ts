/**
 * The catalogue of what the HTTP API can object to (RFC 9457). `code` and `type` stay the same for ever; `detail` is one
 * sentence for a person and repeats nothing of what was sent but the names of fields.
 */
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { BatchFull } from "../persistence/batch.ts";
import { BadData, Conflict, DatabaseDown } from "../persistence/database.ts";

const CATALOGUE = {
  "bad-request": { status: 400, title: "The request cannot be understood" },
  "invalid-field": { status: 400, title: "A field is missing, unknown or not as it should be" },
  "invalid-cursor": { status: 400, title: "The cursor is none of this list" },
  unauthorized: { status: 401, title: "A valid API key is needed" },
  "invalid-token": { status: 401, title: "The sign-in link is spent, expired or unknown" },
  "not-found": { status: 404, title: "There is no such thing" },
  "name-taken": { status: 409, title: "The name is another's already" },
  "address-taken": { status: 409, title: "The address is another subscriber's already" },
  "certificate-taken": { status: 409, title: "The certificate is another host system's already" },
  "changed-meanwhile": { status: 409, title: "It was changed meanwhile" },
  "default-group": { status: 409, title: "A site's default group stays" },
  "in-use": { status: 409, title: "It is still in use" },
  "too-large": { status: 413, title: "The request is too large" },
  "unsupported-media-type": { status: 415, title: "The body must be JSON" },
  "unknown-site": { status: 422, title: "There is no such site" },
  "too-many-failures": { status: 429, title: "Too many failed attempts from this address" },
  internal: { status: 500, title: "The server failed" },
  unavailable: { status: 503, title: "The database or this node is not available now" },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof CATALOGUE;
export type FieldFault = { readonly field: string; readonly fault: string };
export type ProblemBody = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
  readonly errors?: readonly FieldFault[];
};

/** Thrown by a route to answer with one entry of the catalogue. */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly errors: readonly FieldFault[];
  readonly retryAfterSeconds: number | null;
  constructor(
    code: ProblemCode,
    detail: string,
    more: { errors?: readonly FieldFault[]; retryAfterSeconds?: number } = {},
  ) {
    super(detail);
    this.name = "Problem";
    this.code = code;
    this.errors = more.errors ?? [];
    this.retryAfterSeconds = more.retryAfterSeconds ?? null;
  }
}

const ERRORS_MAX = 10;

/** Whatever a route threw, as an entry of the catalogue; nothing of an unforeseen error's text is passed on. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof DatabaseDown)
    return new Problem("unavailable", "The database cannot be reached; try again shortly.", { retryAfterSeconds: 1 });
  if (error instanceof Conflict)
    return new Problem("unavailable", "The database was busy with the same rows; try again.", { retryAfterSeconds: 1 });
  if (error instanceof BatchFull)
    return new Problem("unavailable", "This node has enough to do; try again shortly.", { retryAfterSeconds: 1 });
  if (error instanceof BadData) return new Problem("invalid-field", "The database refused one of the values.");
  const { validation, validationContext, statusCode } = error as Partial<FastifyError>;
  if (validation !== undefined) {
    const errors = validation
      .filter(isOwnFault)
      .slice(0, ERRORS_MAX)
      .map((fault) => faultOf(validationContext ?? "request", fault));
    return new Problem(
      "invalid-field",
      `${errors[0]?.field ?? "The request"} ${errors[0]?.fault ?? "has an unknown field"}.`,
      { errors },
    );
  }
  if (statusCode === 413) return new Problem("too-large", "The body is larger than this API takes.");
  if (statusCode === 415) return new Problem("unsupported-media-type", "Send the body as application/json.");
  if (statusCode === 503)
    return new Problem("unavailable", "This node is stopping; another takes the request.", { retryAfterSeconds: 1 });
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new Problem("bad-request", "The request is not well-formed.");
  return new Problem("internal", "The server failed; its log says more under the time of this answer.");
}

export function bodyOf(problem: Problem): ProblemBody {
  const { status, title } = CATALOGUE[problem.code];
  const body = {
    type: `urn:tocsin:problem:${problem.code}`,
    title,
    status,
    detail: problem.message,
    code: problem.code,
  };
  return problem.errors.length === 0 ? body : { ...body, errors: problem.errors };
}

export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  const body = bodyOf(problem);
  if (problem.retryAfterSeconds !== null) reply.header("retry-after", String(Math.max(1, problem.retryAfterSeconds)));
  if (body.status === 401) reply.header("www-authenticate", "Bearer");
  // Said here too, since no hook runs for an address that cannot even be decoded.
  reply.header("x-content-type-options", "nosniff");
  // As text: the route's own schemas describe its other answers and must not strip this one.
  return reply.code(body.status).type("application/problem+json").serializer(String).send(JSON.stringify(body));
}

export function notFound(_request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return sendProblem(reply, new Problem("not-found", "Nothing answers at this address."));
}

type ValidationFault = NonNullable<FastifyError["validation"]>[number];

/** An unknown field is reported once for itself and once for its parent. */
function isOwnFault(fault: ValidationFault): boolean {
  return fault.keyword !== "additionalProperties";
}

/**
 * A missing field stands in the parameters of its parent's fault; the schema of an unknown one is `false`. Only names that
 * the schema itself has are said, and places in a list: anything else is somebody's text.
 */
function faultOf(context: string, fault: ValidationFault): FieldFault {
  const ours = new Set(fault.schemaPath.split("/"));
  const path = (fault.instancePath ?? "").split("/").slice(1);
  const known = path.filter((name) => ours.has(name) || /^\d{1,3}$/.test(name));
  const missing = fault.params.requiredProperties;
  const field = [context, ...known, ...(Array.isArray(missing) ? [String(missing[0])] : [])].join(".");
  if (fault.keyword === "boolean") return { field, fault: "has a field that is unknown here" };
  return { field, fault: Array.isArray(missing) ? "is missing" : (fault.message ?? "is invalid") };
}
