/** Groups of subscribers, who are paged together when a page is passed on to them. A group's members are of its site. */
import type { SiteId, SubscriberId, TenantId } from "../domain.ts";
import { BadData, type Database } from "./database.ts";

export type SubscriberGroup = {
  readonly id: string;
  readonly siteId: SiteId;
  readonly name: string;
  readonly members: readonly SubscriberId[];
};

export type GroupRefusal = "name-taken" | "unknown-member" | "not-found";

const UNIQUE_VIOLATION = "23505";

/** In order of id, those behind `after`. */
export async function listGroups(
  premise: Database,
  filter: {
    readonly id?: string;
    readonly siteId: string | null;
    readonly after: string | null;
    readonly limit: number;
  },
): Promise<SubscriberGroup[]> {
  return premise.run<SubscriberGroup>(
    (sql) => sql`
    select id, site_id as "siteId", name, array(
      select subscriber_id from premise_core.subscriber_group_members where group_id = subscriber_groups.id order by subscriber_id) as members
    from premise_core.subscriber_groups
    where (${filter.id ?? null}::uuid is null or id = ${filter.id ?? null}::uuid)
      and (${filter.siteId}::uuid is null or site_id = ${filter.siteId}::uuid) and (${filter.after}::uuid is null or id > ${filter.after}::uuid)
    order by id limit ${filter.limit}`,
  );
}

export async function createGroup(
  premise: Database,
  group: {
    readonly tenantId: TenantId;
    readonly siteId: SiteId;
    readonly name: string;
    readonly members: readonly string[];
  },
): Promise<string | GroupRefusal> {
  return namedOnce(async () => {
    const [row] = await premise.run<{ id: string | null }>(
      (sql) => sql`
      with known as (
        select id from premise_core.subscribers where id = any (${[...group.members]}::uuid[]) and site_id = ${group.siteId} and not synthetic
      ), created as (
        insert into premise_core.subscriber_groups (tenant_id, site_id, name)
        select ${group.tenantId}, ${group.siteId}, ${group.name}
        where (select count(*) from known) = cardinality(${[...group.members]}::uuid[])
        returning id
      ), joined as (
        insert into premise_core.subscriber_group_members (group_id, subscriber_id) select created.id, known.id from created cross join known
      )
      select (select id from created) as id`,
    );
    return row!.id ?? "unknown-member";
  });
}

/** Its name and its members, all anew. */
export async function replaceGroup(
  premise: Database,
  id: string,
  group: { readonly name: string; readonly members: readonly string[] },
): Promise<string | GroupRefusal> {
  return namedOnce(async () => {
    const [row] = await premise.run<{ there: boolean; id: string | null }>(
      (sql) => sql`
      with held as (
        select id, site_id from premise_core.subscriber_groups where id = ${id}::uuid for update
      ), known as (
        select subscribers.id from premise_core.subscribers join held using (site_id)
        where subscribers.id = any (${[...group.members]}::uuid[]) and not synthetic
      ), changed as (
        update premise_core.subscriber_groups as old set name = ${group.name}
        from held where old.id = held.id and (select count(*) from known) = cardinality(${[...group.members]}::uuid[])
        returning old.id
      ), left_it as (
        delete from premise_core.subscriber_group_members as member using changed
        where member.group_id = changed.id and member.subscriber_id not in (select id from known)
      ), joined as (
        insert into premise_core.subscriber_group_members (group_id, subscriber_id)
        select changed.id, known.id from changed cross join known on conflict do nothing
      )
      select exists (select from held) as there, (select id from changed) as id`,
    );
    if (row!.id !== null) return row!.id;
    return row!.there ? "unknown-member" : "not-found";
  });
}

/** Not while a rule's step names it. */
export async function deleteGroup(premise: Database, id: string): Promise<"deleted" | "in-use" | "not-found"> {
  const [row] = await premise.run<{ used: boolean; gone: boolean }>(
    (sql) => sql`
    with used as (
      select exists (
        select from premise_core.escalation_rules, jsonb_array_elements(steps) as step where step ->> 'groupId' = ${id}::uuid::text) as yes
    ), gone as (
      delete from premise_core.subscriber_groups where id = ${id}::uuid and not (select yes from used) returning id
    )
    select (select yes from used) as used, exists (select from gone) as gone`,
  );
  if (row!.gone) return "deleted";
  return row!.used ? "in-use" : "not-found";
}

async function namedOnce<T>(write: () => Promise<T>): Promise<T | "name-taken"> {
  try {
    return await write();
  } catch (error) {
    if (error instanceof BadData && error.code === UNIQUE_VIOLATION) return "name-taken";
    throw error;
  }
}
