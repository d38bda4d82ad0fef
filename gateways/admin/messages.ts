/** `/api/v1/messages`: where pages stand and why, and recalling one. Never their text. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { Paging } from "../../actors/paging.ts";
import type { UniqueId } from "../../domain.ts";
import { OUTCOMES, PRIORITIES, STATUS_TEXTS } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Database } from "../../persistence/database.ts";
import {
  findMessage,
  type ListedMessage,
  listMessages,
  messagesUnder,
  stuckMessages,
} from "../../persistence/message-list.ts";
import { type Trace, trace } from "../../persistence/trace.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { keyNameOf } from "./authentication.ts";
import { answers, DEFAULT_LIMIT, Id, Limit, Name, nullable, oneOf, pageOf, strict, Time } from "./schemas.ts";

const Status = oneOf(STATUS_TEXTS);
/** A filter left empty is no filter. */
const Query = strict({
  status: Type.Optional(oneOf(["", ...STATUS_TEXTS])),
  destination: Type.Optional(Type.String({ maxLength: 100 })),
  trackingId: Type.Optional(Type.String({ maxLength: 300 })),
  stuck: Type.Optional(Type.Boolean({ description: "Only pages something should have happened to, oldest first" })),
  synthetic: Type.Optional(Type.Boolean({ description: "Test pages of Tocsin's own, instead of everybody else's" })),
  cursor: Type.Optional(Type.String({ maxLength: 64 })),
  limit: Limit,
});
const MessageAnswer = Type.Object({
  uniqueId: Id,
  trackingId: Type.String(),
  origin: Type.String(),
  destination: Type.String(),
  priority: oneOf(PRIORITIES),
  status: Status,
  outcome: nullable(oneOf(OUTCOMES)),
  reason: nullable(Type.String()),
  acceptedAt: Time,
  deviceDeadline: nullable(Time),
  expiresAt: Time,
});
const TraceAnswer = Type.Object({
  uniqueId: nullable(Id),
  trackingId: Type.String(),
  origin: Type.String(),
  destination: Type.String(),
  status: Status,
  why: Type.String({ description: "Where the page is and why, in a sentence" }),
  events: Type.Array(
    Type.Object({ at: Time, event: Type.String(), node: Type.String(), detail: nullable(Type.String()) }),
  ),
  others: Type.Array(Id, { description: "Other pages under the same trackingId, newest first" }),
});
const TraceParams = strict({
  which: Type.String({ minLength: 1, maxLength: 300, description: "uniqueId, trackingId or `last`" }),
});

const RecallParams = strict({ uniqueId: Id });
const RecallBody = strict({
  reason: Type.Optional({
    ...Name,
    description:
      "For the page's history, which operators see; the host is not told. No patient's name, nothing of the text.",
  }),
});

export function messageRoutes(
  app: App,
  ports: { readonly premise: Database; readonly paging: Pick<Paging, "recall">; readonly log: Log },
): void {
  const { premise, paging, log } = ports;
  const tags = ["messages"];
  app.get(
    "/messages",
    {
      schema: {
        tags,
        summary: "List pages, newest first",
        querystring: Query,
        response: answers({ 200: pageOf(MessageAnswer) }),
      },
    },
    async (request) => {
      const { status, destination, trackingId, stuck = false, synthetic = false } = request.query;
      const { cursor = null, limit = DEFAULT_LIMIT } = request.query;
      const filter = { status: status || null, destination: destination || null, synthetic };
      try {
        if (trackingId && !stuck)
          return { items: (await messagesUnder(premise, trackingId, filter, limit)).map(present), next: null };
        const page = await (stuck ? stuckMessages : listMessages)(premise, filter, cursor, limit);
        const items = trackingId ? page.items.filter((item) => item.trackingId === trackingId) : page.items;
        return { items: items.map(present), next: page.next };
      } catch (error) {
        if (error instanceof RangeError)
          throw new Problem("invalid-cursor", "Take the cursor from `next` of this list's last answer.");
        throw error;
      }
    },
  );
  app.get(
    "/messages/:which/trace",
    {
      schema: {
        tags,
        summary: "Where a page is, and why",
        params: TraceParams,
        response: answers({ 200: TraceAnswer }),
      },
    },
    async (request) => {
      const found = await trace(premise, request.params.which);
      if (found === null) throw new Problem("not-found", "No page has this uniqueId or trackingId.");
      return presentTrace(found);
    },
  );
  app.post(
    "/messages/:uniqueId/recall",
    {
      schema: {
        tags,
        summary:
          "Withdraw a page, and all it was passed on as, from every phone; its host hears FAILED unless it has heard so before",
        params: RecallParams,
        body: nullable(RecallBody),
        response: answers({ 200: MessageAnswer }),
      },
    },
    async (request) => {
      const uniqueId = request.params.uniqueId.toLowerCase() as UniqueId;
      const by = keyNameOf(request);
      const recalled = await paging.recall({ uniqueId, by, reason: request.body?.reason ?? null });
      const message = recalled === null ? null : await findMessage(premise, uniqueId);
      if (recalled === null || message === null) throw new Problem("not-found", "No page has this uniqueId.");
      const pages = recalled.pages.map((page) => page.uniqueId);
      if (pages.length > 0)
        log.info(
          { part: "audit", uniqueId, pages: pages.length, key: by, peer: request.ip },
          "an operator recalled a page",
        );
      return present(message);
    },
  );
}

function present(message: ListedMessage): Static<typeof MessageAnswer> {
  return {
    ...message,
    acceptedAt: message.acceptedAt.toISOString(),
    deviceDeadline: message.deviceDeadline?.toISOString() ?? null,
    expiresAt: message.expiresAt.toISOString(),
  };
}

function presentTrace(found: Trace): Static<typeof TraceAnswer> {
  return {
    ...found,
    events: found.events.map((event) => ({ ...event, at: event.at.toISOString() })),
    others: [...found.others],
  };
}
