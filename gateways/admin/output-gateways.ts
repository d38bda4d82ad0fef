/** `/api/v1/output-gateways`: other ways out than to a phone. Passwords are in files of the nodes; none passes here. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { Database } from "../../persistence/database.ts";
import {
  createOutputGateway,
  findOutputGateway,
  listOutputGateways,
  OUTPUT_KINDS,
  type OutputGateway,
  removeOutputGateway,
  replaceOutputGateway,
  type SmtpSettings,
} from "../../persistence/output-gateways.ts";
import type { App } from "../http.ts";
import { isMailAddress } from "../mail-address.ts";
import type { Outputs } from "../output/outputs.ts";
import { Problem } from "../problems.ts";
import { SECRET_NAME } from "../secret-files.ts";
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
  pageOf,
  SiteQuery,
  strict,
} from "./schemas.ts";
import { siteNamed } from "./sites.ts";

const FileName = Type.String({
  pattern: SECRET_NAME,
  description: "A file in each node's TOCSIN_SECRETS_DIR",
});
const MailAddress = Type.String({ minLength: 3, maxLength: 254 });
const Settings = strict({
  host: Type.String({ minLength: 1, maxLength: 253, pattern: "^[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?$" }),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  security: oneOf(["tls", "starttls", "none"]),
  caFile: Type.Optional(nullable(FileName)),
  user: Type.Optional(nullable(Type.String({ minLength: 1, maxLength: 200, pattern: "^[^\\u0000-\\u001f\\u007f]+$" }))),
  passwordFile: Type.Optional(nullable(FileName)),
  from: MailAddress,
});
const Kind = oneOf(OUTPUT_KINDS);
const GatewayAnswer = Type.Object({
  id: Id,
  tenantId: Type.String(),
  siteId: Id,
  name: Name,
  kind: Kind,
  settings: Type.Object({
    host: Type.String(),
    port: Type.Integer(),
    security: Type.String(),
    caFile: nullable(Type.String()),
    user: nullable(Type.String()),
    passwordFile: nullable(Type.String()),
    from: Type.String(),
  }),
});
const TestAnswer = Type.Object({
  outcome: oneOf(["accepted", "retry", "refused"]),
  code: Type.String({ description: "The server's reply code, or what went wrong before it gave one" }),
  queuedAs: nullable(Type.String({ description: "The id its own log has it under" })),
});

export function outputGatewayRoutes(app: App, premise: Database, meta: Database, outputs: Pick<Outputs, "test">): void {
  const tags = ["output-gateways"];
  app.get(
    "/output-gateways",
    {
      schema: {
        tags,
        summary: "List output gateways",
        querystring: SiteQuery,
        response: answers({ 200: pageOf(GatewayAnswer) }),
      },
    },
    async (request) => {
      const { siteId = null, cursor = null, limit = DEFAULT_LIMIT } = request.query;
      return cut(await listOutputGateways(premise, siteId, cursor, limit + 1), limit, present);
    },
  );
  app.post(
    "/output-gateways",
    {
      schema: {
        tags,
        summary: "Set up a way out by which a site's rules may pass pages on",
        body: strict({ siteId: Id, name: Name, kind: Type.Optional(Kind), settings: Settings }),
        response: answers({ 201: GatewayAnswer }),
      },
    },
    async (request, reply) => {
      const { siteId, name, kind = "SMTP" } = request.body;
      const settings = settingsOf(request.body.settings);
      const site = await siteNamed(meta, siteId);
      const made = await createOutputGateway(premise, {
        siteId: site.id,
        tenantId: site.tenantId,
        name,
        kind,
        settings,
      });
      if (made === "name-taken") throw nameTaken();
      return reply.code(201).send(present(made));
    },
  );
  app.get(
    "/output-gateways/:id",
    { schema: { tags, summary: "One output gateway", params: IdParams, response: answers({ 200: GatewayAnswer }) } },
    async (request) => present(await read(premise, request.params.id)),
  );
  app.put(
    "/output-gateways/:id",
    {
      schema: {
        tags,
        summary: "Replace its name and settings; what has yet to leave by it leaves by the new ones",
        params: IdParams,
        body: strict({ name: Name, settings: Settings }),
        response: answers({ 200: GatewayAnswer }),
      },
    },
    async (request) => {
      const { name, settings } = request.body;
      const replaced = await replaceOutputGateway(premise, request.params.id, { name, settings: settingsOf(settings) });
      if (replaced === "name-taken") throw nameTaken();
      if (replaced === null) throw unknown();
      return present(replaced);
    },
  );
  app.delete(
    "/output-gateways/:id",
    {
      schema: {
        tags,
        summary: "Remove one that no rule names and by which nothing has yet to leave",
        params: IdParams,
        response: answers({ 204: NoContent }),
      },
    },
    async (request, reply) => {
      const removed = await removeOutputGateway(premise, request.params.id);
      if (removed === null) throw unknown();
      if (removed !== "removed") {
        const { rules, waiting } = removed;
        const named =
          rules.length === 0 ? [] : [`The rule for ${rules.map((type) => `"${type}"`).join(", ")} names it.`];
        const left =
          waiting === 0 ? [] : [`${waiting} of its pages ${waiting === 1 ? "has" : "have"} yet to leave by it.`];
        throw new Problem("in-use", [...named, ...left].join(" "));
      }
      return reply.code(204).send(null);
    },
  );
  app.post(
    "/output-gateways/:id/test",
    {
      schema: {
        tags,
        summary: "Send a test and hear what the server says of it",
        params: IdParams,
        body: strict({ address: MailAddress }),
        response: answers({ 200: TestAnswer }),
      },
    },
    async (request) => {
      const { address } = request.body;
      if (!isMailAddress(address)) throw invalid("body.address", "must be a plain mail address");
      const outcome = await outputs.test(await read(premise, request.params.id), address);
      if (outcome === null)
        throw new Problem("unavailable", "Other gateways are being tested; try again.", { retryAfterSeconds: 5 });
      const { kind, code } = outcome;
      return { outcome: kind, code, queuedAs: kind === "accepted" ? outcome.providerId : null };
    },
  );
}

function settingsOf(given: Static<typeof Settings>): SmtpSettings {
  const { host, port, security, caFile = null, user = null, passwordFile = null, from } = given;
  if (!isMailAddress(from)) throw invalid("body.settings.from", "must be a plain mail address");
  if ((user === null) !== (passwordFile === null))
    throw invalid("body.settings.passwordFile", "goes with a user, and a user with it");
  if (security === "none" && (user !== null || caFile !== null))
    throw invalid("body.settings.security", "must be tls or starttls with a user or an authority");
  return { host, port, security, caFile, user, passwordFile, from };
}

async function read(premise: Database, id: string): Promise<OutputGateway> {
  const gateway = await findOutputGateway(premise, id);
  if (gateway === null) throw unknown();
  return gateway;
}

function present(gateway: OutputGateway): Static<typeof GatewayAnswer> {
  return { ...gateway, settings: { ...gateway.settings } };
}

function invalid(field: string, fault: string): Problem {
  return new Problem("invalid-field", `${field} ${fault}.`, { errors: [{ field, fault }] });
}

function unknown(): Problem {
  return new Problem("not-found", "There is no output gateway with this id.");
}

function nameTaken(): Problem {
  return new Problem("name-taken", "Another output gateway of the site has this name.", {
    errors: [{ field: "body.name", fault: "is taken" }],
  });
}
