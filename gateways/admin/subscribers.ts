/** `/api/v1/subscribers`. A registration code is in the answer that made it and nowhere else. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import { canonicalDestination } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import { hashRegistrationCode, makeRegistrationCode } from "../../persistence/registration-codes.ts";
import {
  createSubscriber,
  findSubscriber,
  listSubscribers,
  replaceRegistrationCode,
  type Subscriber,
} from "../../persistence/subscribers.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import {
  Address,
  answers,
  cut,
  DEFAULT_LIMIT,
  Id,
  IdParams,
  Limit,
  Name,
  nullable,
  pageOf,
  strict,
  Time,
} from "./schemas.ts";
import { siteNamed } from "./sites.ts";

const NewSubscriber = strict({
  siteId: Id,
  name: Name,
  destination: Address,
  userName: Type.Optional(nullable(Address)),
  pagerNumber: Type.Optional(nullable(Address)),
});
const SubscriberAnswer = Type.Object({
  id: Id,
  tenantId: Type.String(),
  siteId: Id,
  name: Type.String(),
  destination: Type.String(),
  userName: nullable(Type.String()),
  pagerNumber: nullable(Type.String()),
  devices: Type.Integer({ description: "Registered phones" }),
  createdAt: Time,
});
const Code = Type.String({ description: "Given out this once; typed into the phone with the destination" });
const Created = Type.Object({ ...SubscriberAnswer.properties, registrationCode: Code });
const Query = strict({
  siteId: Type.Optional(Id),
  destination: Type.Optional(Address),
  cursor: Type.Optional(Id),
  limit: Limit,
});

export function subscriberRoutes(app: App, premise: Database, meta: Database): void {
  const tags = ["subscribers"];
  app.get(
    "/subscribers",
    {
      schema: {
        tags,
        summary: "List subscribers",
        querystring: Query,
        response: answers({ 200: pageOf(SubscriberAnswer) }),
      },
    },
    async (request) => {
      const { siteId = null, destination = null, cursor = null, limit = DEFAULT_LIMIT } = request.query;
      return cut(
        await listSubscribers(premise, { siteId, destination, after: cursor, limit: limit + 1 }),
        limit,
        present,
      );
    },
  );
  app.post(
    "/subscribers",
    {
      schema: {
        tags,
        summary: "Add somebody who can be paged",
        body: NewSubscriber,
        response: answers({ 201: Created }),
      },
    },
    async (request, reply) => {
      const { siteId, name, destination, userName = null, pagerNumber = null } = request.body;
      checkAddresses({ destination, userName, pagerNumber });
      const site = await siteNamed(meta, siteId);
      const registrationCode = makeRegistrationCode();
      const created = await createSubscriber(premise, {
        tenantId: site.tenantId,
        siteId: site.id,
        name,
        destination,
        userName,
        pagerNumber,
        registrationCodeHash: hashRegistrationCode(registrationCode),
      });
      if (typeof created !== "string") {
        const errors = [{ field: `body.${created.conflict}`, fault: "is taken" }];
        throw new Problem("address-taken", `${created.conflict} is another subscriber's at this site.`, { errors });
      }
      reply.header("cache-control", "no-store");
      return reply.code(201).send({ ...(await read(premise, created)), registrationCode });
    },
  );
  app.get(
    "/subscribers/:id",
    { schema: { tags, summary: "One subscriber", params: IdParams, response: answers({ 200: SubscriberAnswer }) } },
    async (request) => read(premise, request.params.id),
  );
  app.post(
    "/subscribers/:id/registration-code",
    {
      schema: {
        tags,
        summary: "Make a new registration code; the old one is void, registered phones stay",
        params: IdParams,
        response: answers({ 201: Type.Object({ registrationCode: Code }) }),
      },
    },
    async (request, reply) => {
      const registrationCode = makeRegistrationCode();
      const known = await replaceRegistrationCode(premise, request.params.id, hashRegistrationCode(registrationCode));
      if (!known) throw new Problem("not-found", "There is no subscriber with this id.");
      reply.header("cache-control", "no-store");
      return reply.code(201).send({ registrationCode });
    },
  );
}

async function read(premise: Database, id: string): Promise<Static<typeof SubscriberAnswer>> {
  const subscriber = await findSubscriber(premise, id);
  if (subscriber === null) throw new Problem("not-found", "There is no subscriber with this id.");
  return present(subscriber);
}

function present(subscriber: Subscriber): Static<typeof SubscriberAnswer> {
  return { ...subscriber, createdAt: subscriber.createdAt.toISOString() };
}

/** Punctuation alone is no address: nothing of it is left in the canonical spelling. */
function checkAddresses(addresses: { readonly [field: string]: string | null }): void {
  for (const [field, text] of Object.entries(addresses)) {
    if (text === null || /[\p{L}\p{N}]/u.test(canonicalDestination(text))) continue;
    const errors = [{ field: `body.${field}`, fault: "must hold a letter or a digit" }];
    throw new Problem("invalid-field", `body.${field} must hold a letter or a digit.`, { errors });
  }
}
