/** `/api/v1/sites/{id}/escalation-rules`: what a site does with pages that nobody fetches or answers in time. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { SubscriberId } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import {
  canHaveRule,
  deleteRule,
  listRules,
  putRule,
  type RuleStep,
  type SiteRule,
  STEPS_MAX,
  strangersIn,
} from "../../persistence/escalation-rules.ts";
import type { App } from "../http.ts";
import { isAddressTemplate } from "../mail-address.ts";
import { Problem } from "../problems.ts";
import { answers, Id, IdParams, NoContent, nullable, pageOf, strict, Time } from "./schemas.ts";
import { siteNamed } from "./sites.ts";

const Wait = Type.Optional(
  nullable(
    Type.Integer({
      minimum: 10,
      maximum: 86_400,
      description: "How long the step has to lead to an end; unless given, as long as the page's own timeouts together",
    }),
  ),
);
const Step = Type.Union([
  strict({ kind: Type.Literal("DEVICES"), waitSeconds: Wait }),
  strict({ kind: Type.Literal("SUBSCRIBER"), subscriberId: Id, waitSeconds: Wait }),
  strict({ kind: Type.Literal("GROUP"), groupId: Id, waitSeconds: Wait }),
  strict({
    kind: Type.Literal("GATEWAY"),
    gatewayId: Id,
    address: Type.String({ minLength: 3, maxLength: 254, description: "{destination} in it stands for the page's" }),
    waitSeconds: Wait,
  }),
]);
const RuleBody = strict({
  onIgnored: Type.Optional(Type.Boolean({ description: "Whether a page that was declined is passed on at once" })),
  steps: Type.Array(Step, { minItems: 1, maxItems: STEPS_MAX, description: "Taken one after the other" }),
});
const RuleAnswer = Type.Object({
  siteId: Id,
  messageType: Type.String(),
  onIgnored: Type.Boolean(),
  steps: Type.Array(Step),
  changedAt: Time,
});
const TypeParams = strict({
  id: Id,
  messageType: Type.String({
    minLength: 1,
    maxLength: 100,
    description:
      "As hosts send it; compared without case. `*`: every type that has no rule of its own, and pages without a type, but for chats",
  }),
});

export function escalationRuleRoutes(app: App, premise: Database, meta: Database): void {
  const tags = ["escalation-rules"];
  app.get(
    "/sites/:id/escalation-rules",
    { schema: { tags, summary: "A site's rules", params: IdParams, response: answers({ 200: pageOf(RuleAnswer) }) } },
    async (request) => ({ items: (await listRules(premise, request.params.id)).map(present), next: null }),
  );
  app.put(
    "/sites/:id/escalation-rules/:messageType",
    {
      schema: {
        tags,
        summary: "What becomes of pages of this type that nobody fetches or answers in time",
        params: TypeParams,
        body: RuleBody,
        response: answers({ 200: RuleAnswer }),
      },
    },
    async (request) => {
      const { id, messageType } = request.params;
      const { onIgnored = false, steps } = request.body;
      const site = await siteNamed(meta, id);
      if (!canHaveRule(messageType))
        throw new Problem("invalid-field", "A chat is between two people, and is not passed on.");
      const given = steps.map(stepOf);
      const strangers = new Set(await strangersIn(premise, site.id, given));
      const errors = given.flatMap((step, n) => {
        if (Object.values(step).some((value) => strangers.has(String(value))))
          return [{ field: `body.steps.${n}`, fault: "names nobody and nothing of this site" }];
        if (step.kind !== "GATEWAY" || isAddressTemplate(step.address)) return [];
        return [
          { field: `body.steps.${n}.address`, fault: "must be a plain mail address, or {destination} before its @" },
        ];
      });
      if (errors.length > 0) throw new Problem("invalid-field", `${errors[0]!.field} ${errors[0]!.fault}.`, { errors });
      const of = { siteId: site.id, tenantId: site.tenantId, messageType };
      return present(await putRule(premise, of, { onIgnored, steps: given }));
    },
  );
  app.delete(
    "/sites/:id/escalation-rules/:messageType",
    { schema: { tags, summary: "Remove a rule", params: TypeParams, response: answers({ 204: NoContent }) } },
    async (request, reply) => {
      const { id, messageType } = request.params;
      if (!(await deleteRule(premise, id, messageType)))
        throw new Problem("not-found", "The site has no rule for this type.");
      return reply.code(204).send(null);
    },
  );
}

function stepOf(step: Static<typeof Step>): RuleStep {
  const { waitSeconds = null } = step;
  switch (step.kind) {
    case "DEVICES":
      return { kind: step.kind, waitSeconds };
    case "SUBSCRIBER":
      return { kind: step.kind, subscriberId: step.subscriberId.toLowerCase() as SubscriberId, waitSeconds };
    case "GROUP":
      return { kind: step.kind, groupId: step.groupId.toLowerCase(), waitSeconds };
    case "GATEWAY":
      return { kind: step.kind, gatewayId: step.gatewayId.toLowerCase(), address: step.address, waitSeconds };
  }
}

function present(rule: SiteRule): Static<typeof RuleAnswer> {
  return { ...rule, steps: [...rule.steps], changedAt: rule.changedAt.toISOString() };
}
