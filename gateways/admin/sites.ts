/** `/api/v1/sites`. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { Database } from "../../persistence/database.ts";
import { makeDefaultGroups } from "../../persistence/device-groups.ts";
import { createSite, DEFAULT_TENANT, findSite, listSites, type Site } from "../../persistence/sites.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { answers, cut, DEFAULT_LIMIT, Id, IdParams, Name, PageQuery, pageOf, strict, Time } from "./schemas.ts";

const SiteAnswer = Type.Object({ id: Id, tenantId: Type.String(), name: Name, createdAt: Time });

export function siteRoutes(app: App, premise: Database, meta: Database): void {
  app.get(
    "/sites",
    {
      schema: {
        tags: ["sites"],
        summary: "List sites",
        querystring: PageQuery,
        response: answers({ 200: pageOf(SiteAnswer) }),
      },
    },
    async (request) => {
      const limit = request.query.limit ?? DEFAULT_LIMIT;
      return cut(await listSites(meta, request.query.cursor ?? null, limit + 1), limit, present);
    },
  );
  app.post(
    "/sites",
    {
      schema: {
        tags: ["sites"],
        summary: "Make a site",
        body: strict({ name: Name }),
        response: answers({ 201: SiteAnswer }),
      },
    },
    async (request, reply) => {
      const site = await createSite(meta, { tenantId: DEFAULT_TENANT, name: request.body.name });
      if (site === null) throw new Problem("name-taken", "Another site has this name.");
      // Where this fails the group is made at its first need: the site is there.
      await makeDefaultGroups(premise, [{ siteId: site.id, tenantId: site.tenantId }]).catch(() => {});
      return reply.code(201).send(present(site));
    },
  );
  app.get(
    "/sites/:id",
    { schema: { tags: ["sites"], summary: "One site", params: IdParams, response: answers({ 200: SiteAnswer }) } },
    async (request) => {
      const site = await findSite(meta, request.params.id);
      if (site === null) throw new Problem("not-found", "There is no site with this id.");
      return present(site);
    },
  );
}

/** The site a request names. @throws Problem */
export async function siteNamed(meta: Database, id: string, field = "body.siteId"): Promise<Site> {
  const site = await findSite(meta, id);
  if (site === null)
    throw new Problem("unknown-site", "siteId names no site.", {
      errors: [{ field, fault: "is unknown" }],
    });
  return site;
}

function present(site: Site): Static<typeof SiteAnswer> {
  return { ...site, createdAt: site.createdAt.toISOString() };
}
