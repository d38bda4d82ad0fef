/** `/api/v1/subscriber-groups`: who is paged together when a page is passed on. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { Database } from "../../persistence/database.ts";
import { MEMBERS_MAX } from "../../persistence/escalations.ts";
import {
  createGroup,
  deleteGroup,
  type GroupRefusal,
  listGroups,
  replaceGroup,
  type SubscriberGroup,
} from "../../persistence/subscriber-groups.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { answers, cut, DEFAULT_LIMIT, Id, IdParams, Name, NoContent, pageOf, SiteQuery, strict } from "./schemas.ts";
import { siteNamed } from "./sites.ts";

const Members = Type.Array(Id, { maxItems: MEMBERS_MAX, uniqueItems: true, description: "Subscribers of the site" });
const GroupAnswer = Type.Object({ id: Id, siteId: Id, name: Type.String(), members: Type.Array(Id) });

export function subscriberGroupRoutes(app: App, premise: Database, meta: Database): void {
  const tags = ["subscriber-groups"];
  app.get(
    "/subscriber-groups",
    {
      schema: { tags, summary: "List groups", querystring: SiteQuery, response: answers({ 200: pageOf(GroupAnswer) }) },
    },
    async (request) => {
      const { siteId = null, cursor = null, limit = DEFAULT_LIMIT } = request.query;
      return cut(await listGroups(premise, { siteId, after: cursor, limit: limit + 1 }), limit, present);
    },
  );
  app.post(
    "/subscriber-groups",
    {
      schema: {
        tags,
        summary: "Make a group",
        body: strict({ siteId: Id, name: Name, members: Members }),
        response: answers({ 201: GroupAnswer }),
      },
    },
    async (request, reply) => {
      const { name, members } = request.body;
      const site = await siteNamed(meta, request.body.siteId);
      const made = await createGroup(premise, { tenantId: site.tenantId, siteId: site.id, name, members });
      return reply.code(201).send(await read(premise, idOf(made)));
    },
  );
  app.get(
    "/subscriber-groups/:id",
    { schema: { tags, summary: "One group", params: IdParams, response: answers({ 200: GroupAnswer }) } },
    async (request) => read(premise, request.params.id),
  );
  app.put(
    "/subscriber-groups/:id",
    {
      schema: {
        tags,
        summary: "Its name and members, anew",
        params: IdParams,
        body: strict({ name: Name, members: Members }),
        response: answers({ 200: GroupAnswer }),
      },
    },
    async (request) => read(premise, idOf(await replaceGroup(premise, request.params.id, request.body))),
  );
  app.delete(
    "/subscriber-groups/:id",
    { schema: { tags, summary: "Remove a group", params: IdParams, response: answers({ 204: NoContent }) } },
    async (request, reply) => {
      const done = await deleteGroup(premise, request.params.id);
      if (done === "in-use") throw new Problem("in-use", "A step of an escalation rule names this group.");
      if (done === "not-found") throw new Problem("not-found", "There is no group with this id.");
      return reply.code(204).send(null);
    },
  );
}

const REFUSALS: Readonly<Record<GroupRefusal, () => Problem>> = {
  "name-taken": () => new Problem("name-taken", "Another group of the site has this name."),
  "unknown-member": () =>
    new Problem("invalid-field", "body.members names somebody who is no subscriber of the site.", {
      errors: [{ field: "body.members", fault: "is unknown" }],
    }),
  "not-found": () => new Problem("not-found", "There is no group with this id."),
};

function idOf(made: string | GroupRefusal): string {
  if (made in REFUSALS) throw REFUSALS[made as GroupRefusal]();
  return made;
}

async function read(premise: Database, id: string): Promise<Static<typeof GroupAnswer>> {
  const [group] = await listGroups(premise, { id, siteId: null, after: null, limit: 1 });
  if (group === undefined) throw REFUSALS["not-found"]();
  return present(group);
}

function present(group: SubscriberGroup): Static<typeof GroupAnswer> {
  return { ...group, members: [...group.members] };
}
