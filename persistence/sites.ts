/** Sites, the places a subscriber and a host system belong to, each under a tenant. */
import type { SiteId, TenantId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";

export type Site = {
  readonly id: SiteId;
  readonly tenantId: TenantId;
  readonly name: string;
  readonly createdAt: Date;
};

/** Whose sites are where no tenant is named. */
export const DEFAULT_TENANT = "default" as TenantId;

function columns(sql: Sql): Fragment {
  return sql`id, tenant_id as "tenantId", name, created_at as "createdAt"`;
}

/** null: the name is taken. */
export async function createSite(meta: Database, site: { tenantId: TenantId; name: string }): Promise<Site | null> {
  const rows = await meta.run<Site>(
    (sql) => sql`
    insert into meta.sites (tenant_id, name) values (${site.tenantId}, ${site.name})
    on conflict (name) do nothing
    returning ${columns(sql)}`,
  );
  return rows[0] ?? null;
}

export async function findSite(meta: Database, id: string): Promise<Site | null> {
  const rows = await meta.run<Site>((sql) => sql`select ${columns(sql)} from meta.sites where id = ${id}`);
  return rows[0] ?? null;
}

export async function findSiteByName(meta: Database, name: string): Promise<Site | null> {
  const rows = await meta.run<Site>((sql) => sql`select ${columns(sql)} from meta.sites where name = ${name}`);
  return rows[0] ?? null;
}

/** In order of id, those after `after`. */
export async function listSites(meta: Database, after: string | null, limit: number): Promise<Site[]> {
  return meta.run<Site>(
    (sql) => sql`
    select ${columns(sql)} from meta.sites
    where ${after}::uuid is null or id > ${after}::uuid
    order by id limit ${limit}`,
  );
}
