/** `/api/v1/messages/…/trace`: where one page is, why, and what happens next. Never its text. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import { OUTCOMES, STATUS_TEXTS } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import { type Trace, trace } from "../../persistence/trace.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { answers, Id, nullable, oneOf, strict, Time } from "./schemas.ts";

const Status = oneOf(STATUS_TEXTS);
const TraceAnswer = Type.Object({
  uniqueId: nullable(Id),
  trackingId: Type.String(),
  origin: Type.String(),
  destination: Type.String(),
  status: Status,
  why: Type.String({ description: "Where the page is and why, and what happens next, in a sentence or two" }),
  next: nullable(
    Type.Object(
      { what: Type.String(), at: Time },
      { description: "What happens next, and when, if nothing comes between" },
    ),
  ),
  finished: Type.Boolean({ description: "Nothing more is awaited of it" }),
  deadlines: nullable(
    Type.Object({
      due: nullable({ ...Time, description: "When a node looks at it again" }),
      device: nullable({ ...Time, description: "timeoutDevice" }),
      user: nullable({ ...Time, description: "timeoutUser, once it was delivered" }),
      step: nullable({ ...Time, description: "By when the last step of the rule must have led to an end" }),
      expires: Time,
    }),
  ),
  events: Type.Array(
    Type.Object({
      id: Type.String({ description: "The same whenever it is read" }),
      at: Time,
      event: Type.String(),
      node: Type.String(),
      detail: nullable(Type.String()),
    }),
    { description: "Oldest first" },
  ),
  earlier: Type.Integer({ description: "Older events that are left out" }),
  family: Type.Array(
    Type.Object({
      uniqueId: Id,
      relation: oneOf(["parent", "child", "sibling"]),
      destination: Type.String(),
      status: Status,
      outcome: nullable(oneOf(OUTCOMES)),
      acceptedAt: Time,
      why: Type.String(),
    }),
    { description: "Pages it was passed on from or to, or that went beside it" },
  ),
  notices: Type.Array(Type.Object({ deviceId: Id, kind: oneOf(["RECALLED", "EXPIRED", "ANSWERED"]), at: Time }), {
    description: "What phones have yet to hear of it",
  }),
  others: Type.Array(Id, { description: "Other pages under the same trackingId, newest first" }),
});
const TraceParams = strict({
  which: Type.String({ minLength: 1, maxLength: 300, description: "uniqueId, trackingId or `last`" }),
});

export function traceRoutes(app: App, premise: Database): void {
  app.get(
    "/messages/:which/trace",
    {
      schema: {
        tags: ["messages"],
        summary: "Where a page is, and why",
        params: TraceParams,
        response: answers({ 200: TraceAnswer }),
      },
    },
    async (request) => {
      const found = await trace(premise, request.params.which);
      if (found === null) throw new Problem("not-found", "No page has this uniqueId or trackingId.");
      return present(found);
    },
  );
}

function present(found: Trace): Static<typeof TraceAnswer> {
  const { next, deadlines } = found;
  return {
    ...found,
    next: next === null ? null : { ...next, at: next.at.toISOString() },
    deadlines:
      deadlines === null
        ? null
        : {
            due: iso(deadlines.due),
            device: iso(deadlines.device),
            user: iso(deadlines.user),
            step: iso(deadlines.step),
            expires: deadlines.expires.toISOString(),
          },
    events: found.events.map((event) => ({ ...event, at: event.at.toISOString() })),
    family: found.family.map((kin) => ({ ...kin, acceptedAt: kin.acceptedAt.toISOString() })),
    notices: found.notices.map((notice) => ({ ...notice, at: notice.at.toISOString() })),
    others: [...found.others],
  };
}

function iso(at: Date | null): string | null {
  return at?.toISOString() ?? null;
}
