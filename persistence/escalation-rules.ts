/**
 * What a site does with a page of one type that nobody fetched, or answered, in time: its rule, a list of steps taken one
 * after the other, each when the time given to the one before is over. A type without a rule of its own, or a page without a type, goes
 * by the site's rule for ANY_TYPE; where there is none either, the page just fails.
 */
import type { SiteId, SubscriberId, TenantId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";

/** `waitSeconds`: how long the step has to lead to an end; null: the page's own timeouts together. */
export type RuleStep = { readonly waitSeconds: number | null } & (
  | /** The recipient's other devices, where the host named one of them. */ { readonly kind: "DEVICES" }
  | { readonly kind: "SUBSCRIBER"; readonly subscriberId: SubscriberId }
  | { readonly kind: "GROUP"; readonly groupId: string }
  /** `address`: `{destination}` in it stands for the page's. */
  | { readonly kind: "GATEWAY"; readonly gatewayId: string; readonly address: string }
);

export type Rule = {
  /** Whether a page that was declined goes its next step at once; else the host decides what follows. */
  readonly onIgnored: boolean;
  readonly steps: readonly RuleStep[];
};

export type SiteRule = Rule & {
  readonly siteId: SiteId;
  /** In lower case, as it is compared. */
  readonly messageType: string;
  readonly changedAt: Date;
};

export const STEPS_MAX = 10;

/** A type as it is compared: by the database, as its pages' are, since by the C locale it knows no other small letters than ASCII's. */
function ruleType(sql: Sql, messageType: Fragment): Fragment {
  return sql`lower(btrim(${messageType}))`;
}

/** The type of a rule for every type that has none. */
const ANY_TYPE = "*";
/** It is between two people, and never passed on. */
const CHAT = "chat";

/**
 * The rule of a page's site for its type: (on_ignored, steps), or no row. None is for a test page of our own: people would be woken by one
 * that does not come back. `page`: the statement's name for the message's row.
 */
export function ruleFor(sql: Sql, page: string): Fragment {
  const type = ruleType(sql, sql`${sql(page)}.message_type`);
  return sql`(
    select rule.on_ignored, rule.steps from premise_core.escalation_rules as rule
    where rule.site_id = ${sql(page)}.site_id and rule.message_type = any (array[${type}, ${ANY_TYPE}::text]) and ${type} <> ${CHAT}::text
      and not ${sql(page)}.synthetic
    order by rule.message_type = ${ANY_TYPE}::text limit 1)`;
}

export function canHaveRule(messageType: string): boolean {
  return messageType.trim().toLowerCase() !== CHAT;
}

type Row = { siteId: SiteId; messageType: string; onIgnored: boolean; steps: readonly RuleStep[]; changedAt: Date };

/** In order of type. `siteId` null: of all sites. */
export async function listRules(premise: Database, siteId: string | null): Promise<SiteRule[]> {
  return premise.run<Row>(
    (sql) => sql`
    select site_id as "siteId", message_type as "messageType", on_ignored as "onIgnored", steps, changed_at as "changedAt"
    from premise_core.escalation_rules
    where ${siteId}::uuid is null or site_id = ${siteId}::uuid
    order by site_id, message_type limit 1000`,
  );
}

export async function putRule(
  premise: Database,
  of: { readonly siteId: SiteId; readonly tenantId: TenantId; readonly messageType: string },
  rule: Rule,
): Promise<SiteRule> {
  const [row] = await premise.run<Row>(
    (sql) => sql`
    insert into premise_core.escalation_rules (site_id, message_type, tenant_id, on_ignored, steps)
    values (${of.siteId}, ${ruleType(sql, sql`${of.messageType}::text`)}, ${of.tenantId}, ${Number(rule.onIgnored)}::integer = 1, ${JSON.stringify(rule.steps)}::text::jsonb)
    on conflict (site_id, message_type) do update set
      on_ignored = excluded.on_ignored, steps = excluded.steps, changed_at = clock_timestamp()
    returning site_id as "siteId", message_type as "messageType", on_ignored as "onIgnored", steps, changed_at as "changedAt"`,
  );
  return row!;
}

/** Whether there was one. */
export async function deleteRule(premise: Database, siteId: string, messageType: string): Promise<boolean> {
  const rows = await premise.run(
    (sql) => sql`
    delete from premise_core.escalation_rules where site_id = ${siteId}::uuid and message_type = ${ruleType(sql, sql`${messageType}::text`)}
    returning 1`,
  );
  return rows.length > 0;
}

/** Which of the steps' targets are none of this site's: ids of subscribers, groups, gateways. */
export async function strangersIn(premise: Database, siteId: SiteId, steps: readonly RuleStep[]): Promise<string[]> {
  const ids = (kind: RuleStep["kind"]) =>
    steps.flatMap((step) => {
      if (step.kind !== kind) return [];
      if (step.kind === "SUBSCRIBER") return [step.subscriberId];
      if (step.kind === "GROUP") return [step.groupId];
      return step.kind === "GATEWAY" ? [step.gatewayId] : [];
    });
  const rows = await premise.run<{ id: string }>(
    (sql) => sql`
    select id from unnest(${ids("SUBSCRIBER")}::uuid[]) as named (id)
    where not exists (select from premise_core.subscribers where subscribers.id = named.id and site_id = ${siteId} and not synthetic)
    union
    select id from unnest(${ids("GROUP")}::uuid[]) as named (id)
    where not exists (select from premise_core.subscriber_groups where subscriber_groups.id = named.id and site_id = ${siteId})
    union
    select id from unnest(${ids("GATEWAY")}::uuid[]) as named (id)
    where not exists (select from premise_core.output_gateways where output_gateways.id = named.id and site_id = ${siteId})`,
  );
  return rows.map(({ id }) => id);
}
