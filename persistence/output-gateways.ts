/**
 * Other ways out than to a phone: what an operator has set up, by site. A step of a site's rule names one by its id. No secret is
 * in a row: settings name the file that holds it.
 */
import type { SiteId, TenantId } from "../domain.ts";
import { BadData, type Database, type Fragment, type Sql } from "./database.ts";

export const OUTPUT_KINDS = ["SMTP"] as const;
export type OutputKind = (typeof OUTPUT_KINDS)[number];

/** A mail server that takes mail for others. Files are named within the folder of secrets. */
export type SmtpSettings = {
  readonly host: string;
  readonly port: number;
  /** How the connection is encrypted: from its beginning, by STARTTLS or not at all. Never "if the server offers it". */
  readonly security: "tls" | "starttls" | "none";
  /** The only authorities its certificate may come from (PEM); null: the usual ones. */
  readonly caFile: string | null;
  readonly user: string | null;
  readonly passwordFile: string | null;
  /** Sender of what is sent, in the envelope too. */
  readonly from: string;
};

export type OutputGateway = {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly name: string;
  readonly kind: OutputKind;
  readonly settings: SmtpSettings;
};

function columns(sql: Sql): Fragment {
  return sql`id, tenant_id as "tenantId", site_id as "siteId", name, kind, settings`;
}

/** Of those there are. */
export async function outputKinds(premise: Database): Promise<OutputKind[]> {
  const rows = await premise.run<{ readonly kind: OutputKind }>(
    (sql) => sql`select distinct kind from premise_core.output_gateways`,
  );
  return rows.map(({ kind }) => kind);
}

/** In order of id, those after `after`; of one site where it is named. */
export async function listOutputGateways(
  premise: Database,
  siteId: string | null,
  after: string | null,
  limit: number,
): Promise<OutputGateway[]> {
  return premise.run<OutputGateway>(
    (sql) => sql`
    select ${columns(sql)} from premise_core.output_gateways
    where (${after}::uuid is null or id > ${after}::uuid) and (${siteId}::uuid is null or site_id = ${siteId}::uuid)
    order by id limit ${limit}`,
  );
}

export async function findOutputGateway(premise: Database, id: string): Promise<OutputGateway | null> {
  const rows = await premise.run<OutputGateway>(
    (sql) => sql`select ${columns(sql)} from premise_core.output_gateways where id = ${id}`,
  );
  return rows[0] ?? null;
}

/** "name-taken": another of the site has it. */
export async function createOutputGateway(
  premise: Database,
  gateway: Omit<OutputGateway, "id">,
): Promise<OutputGateway | "name-taken"> {
  return named(async () => {
    const [row] = await premise.run<OutputGateway>(
      (sql) => sql`
      insert into premise_core.output_gateways (tenant_id, site_id, name, kind, settings)
      values (${gateway.tenantId}, ${gateway.siteId}, ${gateway.name}, ${gateway.kind},
        ${JSON.stringify(gateway.settings)}::text::jsonb)
      returning ${columns(sql)}`,
    );
    return row!;
  });
}

/** What has yet to leave by it leaves by the new settings. null: there is none with this id. */
export async function replaceOutputGateway(
  premise: Database,
  id: string,
  to: Pick<OutputGateway, "name" | "settings">,
): Promise<OutputGateway | "name-taken" | null> {
  return named(async () => {
    const rows = await premise.run<OutputGateway>(
      (sql) => sql`
      update premise_core.output_gateways set name = ${to.name}, settings = ${JSON.stringify(to.settings)}::text::jsonb
      where id = ${id}
      returning ${columns(sql)}`,
    );
    return rows[0] ?? null;
  });
}

/** What keeps a gateway: rules by the type of page they are for, and what has yet to leave by it. */
export type OutputUse = { readonly rules: readonly string[]; readonly waiting: number };

/** Removes one that no rule's step names and by which nothing has yet to leave; null: there is none with this id. */
export async function removeOutputGateway(premise: Database, id: string): Promise<"removed" | OutputUse | null> {
  const [row] = await premise.run<OutputUse & { known: boolean; removed: boolean }>(
    (sql) => sql`
    with known as (
      select id, site_id from premise_core.output_gateways where id = ${id} for update
    ), rules as (
      select message_type from premise_core.escalation_rules
      where site_id in (select site_id from known) and steps @> jsonb_build_array(jsonb_build_object('gatewayId', (select id::text from known)))
    ), waiting as (
      select id from premise_core.dispatches where state = 'STORED' and gateway_id in (select id from known)
    ), gone as (
      delete from premise_core.output_gateways
      where id in (select id from known) and not exists (select from rules) and not exists (select from waiting)
      returning id
    )
    select exists (select from known) as known, exists (select from gone) as removed,
      array(select message_type from rules order by message_type) as rules, (select count(*)::integer from waiting) as waiting`,
  );
  const { known, removed, rules, waiting } = row!;
  if (removed) return "removed";
  return known ? { rules, waiting } : null;
}

async function named<T>(write: () => Promise<T>): Promise<T | "name-taken"> {
  try {
    return await write();
  } catch (error) {
    if (error instanceof BadData && error.code === "23505") return "name-taken";
    throw error;
  }
}
