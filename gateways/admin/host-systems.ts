/** `/api/v1/host-systems`. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import { PRIORITIES } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import {
  changeHostSystem,
  createHostSystem,
  findHostSystem,
  type HostConflict,
  type HostSystem,
  listHostSystems,
  removeHostSystem,
} from "../../persistence/host-systems.ts";
import { hashSecret } from "../../persistence/secrets.ts";
import { SYNTHETIC_ORIGIN } from "../../persistence/synthetic.ts";
import { isAddressRange } from "../address.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import {
  answers,
  cut,
  DEFAULT_LIMIT,
  Id,
  IdParams,
  Name,
  NoContent,
  nullable,
  oneOf,
  PageQuery,
  pageOf,
  strict,
  Time,
} from "./schemas.ts";
import { siteNamed } from "./sites.ts";

const Kind = oneOf(["MXPP", "WCTP"]);
const Encoding = oneOf(["utf-8", "utf-16", "utf-16-label"]);
const AllowedAddresses = Type.Array(Type.String({ maxLength: 64 }), {
  minItems: 1,
  maxItems: 100,
  description: "IP addresses and CIDR ranges",
});
const Fingerprint = Type.String({
  pattern: "^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$",
  description: "SHA-256 of the client certificate",
});
const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
const Priorities = Type.Record(Type.String({ pattern: "^[1-9][0-9]{0,2}$" }), oneOf(PRIORITIES), {
  additionalProperties: false,
  minProperties: 1,
  description: "The host's own scale, 1 to 999",
});
const SecurityCode = Type.String({ minLength: 1, maxLength: 200 });

const Settings = {
  certificateFingerprint: Type.Optional(nullable(Fingerprint)),
  port: Type.Optional(nullable(Port)),
  securityCode: Type.Optional(nullable(SecurityCode)),
  strict: Type.Optional(Type.Boolean({ description: "No status/statusReason in notifications" })),
  encoding: Type.Optional(Encoding),
  priorities: Type.Optional(nullable(Priorities)),
};
const NewHostSystem = strict({
  name: Name,
  siteId: Id,
  allowedAddresses: AllowedAddresses,
  kind: Type.Optional(Kind),
  ...Settings,
});
const Change = strict({ name: Type.Optional(Name), allowedAddresses: Type.Optional(AllowedAddresses), ...Settings });
const HostAnswer = Type.Object({
  id: Id,
  tenantId: Type.String(),
  siteId: Id,
  name: Name,
  kind: Kind,
  allowedAddresses: Type.Array(Type.String()),
  certificateFingerprint: nullable(Type.String()),
  port: nullable(Type.Integer()),
  strict: Type.Boolean(),
  encoding: Encoding,
  priorities: nullable(Type.Record(Type.String(), oneOf(PRIORITIES))),
  hasSecurityCode: Type.Boolean(),
  createdAt: Time,
});

export function hostSystemRoutes(app: App, premise: Database, meta: Database): void {
  const tags = ["host-systems"];
  app.get(
    "/host-systems",
    {
      schema: {
        tags,
        summary: "List host systems",
        querystring: PageQuery,
        response: answers({ 200: pageOf(HostAnswer) }),
      },
    },
    async (request) => {
      const limit = request.query.limit ?? DEFAULT_LIMIT;
      return cut(await listHostSystems(premise, request.query.cursor ?? null, limit + 1), limit, present);
    },
  );
  app.post(
    "/host-systems",
    {
      schema: {
        tags,
        summary: "Let a host system hand in pages",
        body: NewHostSystem,
        response: answers({ 201: HostAnswer }),
      },
    },
    async (request, reply) => {
      const { siteId, name, allowedAddresses, kind = "MXPP", securityCode = null, ...settings } = request.body;
      checkName(name);
      checkAddresses(allowedAddresses);
      const site = await siteNamed(meta, siteId);
      const created = await createHostSystem(
        premise,
        { siteId: site.id, tenantId: site.tenantId },
        {
          name,
          allowedAddresses,
          kind,
          certificateFingerprint: settings.certificateFingerprint?.toUpperCase() ?? null,
          port: settings.port ?? null,
          strict: settings.strict ?? false,
          encoding: settings.encoding ?? "utf-8",
          priorities: settings.priorities ?? null,
          securityCodeHash: securityCode === null ? null : hashSecret(securityCode),
        },
      );
      if (typeof created !== "string") throw conflict(created);
      return reply.code(201).send(await read(premise, created));
    },
  );
  app.get(
    "/host-systems/:id",
    { schema: { tags, summary: "One host system", params: IdParams, response: answers({ 200: HostAnswer }) } },
    async (request) => read(premise, request.params.id),
  );
  app.patch(
    "/host-systems/:id",
    {
      schema: {
        tags,
        summary: "Change what is given, leave the rest",
        params: IdParams,
        body: Change,
        response: answers({ 200: HostAnswer }),
      },
    },
    async (request) => {
      const { securityCode, certificateFingerprint, ...change } = request.body;
      if (change.name !== undefined) checkName(change.name);
      if (change.allowedAddresses !== undefined) checkAddresses(change.allowedAddresses);
      const changed = await changeHostSystem(premise, request.params.id, {
        ...change,
        ...(certificateFingerprint === undefined
          ? {}
          : { certificateFingerprint: certificateFingerprint?.toUpperCase() ?? null }),
        ...(securityCode === undefined
          ? {}
          : { securityCodeHash: securityCode === null ? null : hashSecret(securityCode) }),
      });
      if (typeof changed !== "boolean") throw conflict(changed);
      return read(premise, request.params.id);
    },
  );
  app.delete(
    "/host-systems/:id",
    {
      schema: {
        tags,
        summary: "Remove a host system that has no page out and nothing left to be told",
        params: IdParams,
        response: answers({ 204: NoContent }),
      },
    },
    async (request, reply) => {
      const removed = await removeHostSystem(premise, request.params.id);
      if (removed === null) throw new Problem("not-found", "There is no host system with this id.");
      if (removed !== "removed") {
        const { pages, untold } = removed;
        throw new Problem(
          "in-use",
          `${pages} ${pages === 1 ? "page" : "pages"} of this host system can still be fetched or answered, and it has yet to be told ` +
            `${untold} ${untold === 1 ? "status" : "statuses"}.`,
        );
      }
      return reply.code(204).send(null);
    },
  );
}

async function read(premise: Database, id: string): Promise<Static<typeof HostAnswer>> {
  const host = await findHostSystem(premise, id);
  if (host === null) throw new Problem("not-found", "There is no host system with this id.");
  return present(host);
}

function present(host: HostSystem): Static<typeof HostAnswer> {
  return {
    ...host,
    allowedAddresses: [...host.allowedAddresses],
    priorities: host.priorities === null ? null : { ...host.priorities },
    createdAt: host.createdAt.toISOString(),
  };
}

function checkName(name: string): void {
  if (!name.startsWith(SYNTHETIC_ORIGIN)) return;
  const fault = `must not begin with ${SYNTHETIC_ORIGIN}, which test pages do`;
  throw new Problem("invalid-field", `body.name ${fault}.`, { errors: [{ field: "body.name", fault }] });
}

function checkAddresses(addresses: readonly string[]): void {
  const errors = addresses.flatMap((text, index) =>
    isAddressRange(text)
      ? []
      : [{ field: `body.allowedAddresses.${index}`, fault: "must be an IP address or a CIDR range" }],
  );
  if (errors.length > 0) throw new Problem("invalid-field", `${errors[0]!.field} ${errors[0]!.fault}.`, { errors });
}

function conflict({ conflict: field }: HostConflict): Problem {
  const code = field === "name" ? "name-taken" : "certificate-taken";
  return new Problem(code, `Another host system has this ${field}.`, {
    errors: [{ field: `body.${field}`, fault: "is taken" }],
  });
}
