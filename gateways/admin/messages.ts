/** `/api/v1/messages`: where pages stand, how they change, and recalling one. Never their text. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { Paging } from "../../actors/paging.ts";
import type { UniqueId } from "../../domain.ts";
import { OUTCOMES, PRIORITIES, STATUS_TEXTS } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import {
  findMessage,
  type ListedMessage,
  listMessages,
  type MessageFilter,
  messagesUnder,
  stuckMessages,
} from "../../persistence/message-list.ts";
import { changesSince } from "../../persistence/page-changes.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { keyNameOf } from "./authentication.ts";
import { answers, DEFAULT_LIMIT, Id, Limit, Name, nullable, oneOf, pageOf, strict, Time } from "./schemas.ts";

const Status = oneOf(STATUS_TEXTS);
const Instant = Type.String({
  pattern: "^(\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}(:\\d{2}(\\.\\d{1,9})?)?(Z|[+-]\\d{2}:\\d{2}))?$",
  description: "RFC 3339",
});
/** A filter left empty is no filter. */
const filters = {
  host: Type.Optional(Type.String({ maxLength: 200, description: "Name of a host system" })),
  destination: Type.Optional(Type.String({ maxLength: 100 })),
  status: Type.Optional(oneOf(["", ...STATUS_TEXTS])),
  priority: Type.Optional(oneOf(["", ...PRIORITIES])),
};
const Query = strict({
  ...filters,
  outcome: Type.Optional(oneOf(["", ...OUTCOMES])),
  trackingId: Type.Optional(Type.String({ maxLength: 300 })),
  since: Type.Optional({ ...Instant, description: "Accepted then or later, RFC 3339" }),
  until: Type.Optional({ ...Instant, description: "Accepted then or before, RFC 3339" }),
  stuck: Type.Optional(Type.Boolean({ description: "Only pages something should have happened to, oldest first" })),
  synthetic: Type.Optional(Type.Boolean({ description: "Test pages of Tocsin's own, instead of everybody else's" })),
  cursor: Type.Optional(Type.String({ maxLength: 64 })),
  limit: Limit,
});
const ChangesQuery = strict({
  ...filters,
  status: Type.Optional(oneOf(["", ...STATUS_TEXTS, "REPLY"])),
  after: Type.Optional(
    Type.String({ maxLength: 80, description: "`next` of the last answer; without it, changes from now on" }),
  ),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, description: "Rows looked at; default 500" })),
});
const page = { uniqueId: Id, trackingId: Type.String(), origin: Type.String(), destination: Type.String() };
const MessageAnswer = Type.Object({
  ...page,
  parentId: nullable({ ...Id, description: "The page it was passed on from" }),
  priority: oneOf(PRIORITIES),
  status: Status,
  outcome: nullable(oneOf(OUTCOMES)),
  reason: nullable(Type.String()),
  acceptedAt: Time,
  dueAt: nullable({ ...Time, description: "When something is to happen next" }),
  deviceDeadline: nullable(Time),
  expiresAt: Time,
});
const ChangesAnswer = Type.Object({
  items: Type.Array(
    Type.Object({
      id: Type.String({ description: "The same where a change comes again" }),
      at: Time,
      status: Type.String(),
      reason: nullable(Type.String()),
      ...page,
      priority: oneOf(PRIORITIES),
    }),
    { description: "What hosts are told of their pages, in the order of its writing" },
  ),
  next: Type.String(),
  more: Type.Boolean({ description: "There is more already" }),
  gap: Type.Boolean({ description: "The database's primary is another than before: changes may be missing" }),
});

const RecallParams = strict({ uniqueId: Id });
const RecallBody = strict({
  reason: Type.Optional({
    ...Name,
    description:
      "For the page's history, which operators see; the host is not told. No patient's name, nothing of the text.",
  }),
});

const CHANGES_LIMIT = 500;

export function messageRoutes(
  app: App,
  ports: { readonly premise: Database; readonly paging: Pick<Paging, "recall"> },
): void {
  const { premise, paging } = ports;
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
      const { trackingId, stuck = false, cursor = null, limit = DEFAULT_LIMIT } = request.query;
      const filter = filterOf(request.query);
      if (trackingId && !stuck)
        return { items: (await messagesUnder(premise, trackingId, filter, limit)).map(present), next: null };
      const list = stuck ? stuckMessages : listMessages;
      const page = await known(list(premise, filter, cursor, limit));
      const items = trackingId ? page.items.filter((item) => item.trackingId === trackingId) : page.items;
      return { items: items.map(present), next: page.next };
    },
  );
  app.get(
    "/messages/changes",
    {
      schema: {
        tags,
        summary: "How pages change, to be asked again and again",
        querystring: ChangesQuery,
        response: answers({ 200: ChangesAnswer }),
      },
    },
    async (request) => {
      const { host, destination, status, priority, after = null, limit = CHANGES_LIMIT } = request.query;
      const filter = {
        host: host || null,
        destination: destination || null,
        status: status || null,
        priority: priority || null,
      };
      const changes = await known(changesSince(premise, filter, after, limit));
      return { ...changes, items: changes.items.map((item) => ({ ...item, at: item.at.toISOString() })) };
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
      return present(message);
    },
  );
}

function filterOf(query: Static<typeof Query>): MessageFilter {
  const { status, destination, host, priority, outcome, synthetic = false } = query;
  return {
    status: status || null,
    destination: destination || null,
    host: host || null,
    priority: priority || null,
    outcome: outcome || null,
    since: instantOf("since", query.since),
    until: instantOf("until", query.until),
    sent: false,
    synthetic,
  };
}

function instantOf(name: string, text: string | undefined): Date | null {
  if (!text) return null;
  const at = new Date(text);
  if (!Number.isNaN(at.getTime())) return at;
  throw new Problem("invalid-field", `${name} is no time there is.`);
}

/** What a list says of a cursor of its own making, as a problem. */
async function known<T>(list: Promise<T>): Promise<T> {
  try {
    return await list;
  } catch (error) {
    if (error instanceof RangeError)
      throw new Problem("invalid-cursor", "Take the cursor from `next` of this list's last answer.");
    throw error;
  }
}

function present(message: ListedMessage): Static<typeof MessageAnswer> {
  return {
    ...message,
    acceptedAt: message.acceptedAt.toISOString(),
    dueAt: message.dueAt?.toISOString() ?? null,
    deviceDeadline: message.deviceDeadline?.toISOString() ?? null,
    expiresAt: message.expiresAt.toISOString(),
  };
}
