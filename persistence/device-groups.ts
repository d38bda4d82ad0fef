/**
 * Groups of devices that are set alike. A site's default group is made at its first need and cannot be removed; a device whose
 * `group_id` is null is in it. Each change of a group gives it a version that no state of any group had before.
 */
import type { DeviceId, GroupId, SiteId, TenantId } from "../domain.ts";
import { BadData, type Database, type Fragment, type Sql } from "./database.ts";

export type DeviceGroup = {
  readonly id: GroupId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly name: string;
  readonly isDefault: boolean;
  /** As an operator gave them; see gateways/device-settings.ts. */
  readonly settings: unknown;
  readonly locked: readonly string[];
  readonly version: number;
  readonly changedAt: Date;
};

type Owner = { readonly siteId: SiteId; readonly tenantId: TenantId };
type Given = { readonly name: string; readonly settings: unknown; readonly locked: readonly string[] };

/** By what the devices of a group are found (`coalesce(group_id, site_id)`), and the lane its nodes listen to for changes. */
export type SettingsLane = GroupId | SiteId;
export function laneOfGroup({ id, siteId, isDefault }: Pick<DeviceGroup, "id" | "siteId" | "isDefault">): SettingsLane {
  return isDefault ? siteId : id;
}

const DEFAULT_NAME = "Default";

function columns(sql: Sql): Fragment {
  return sql`id, tenant_id as "tenantId", site_id as "siteId", name, is_default as "isDefault", settings, locked,
    version::double precision as version, changed_at as "changedAt"`;
}

/** Makes the default group of each site that has none yet. */
export async function makeDefaultGroups(premise: Database, sites: readonly Owner[]): Promise<void> {
  await premise.run(
    (sql) => sql`
    insert into premise_core.device_groups (tenant_id, site_id, name, is_default, settings)
    select distinct on (site_id) tenant_id, site_id, ${DEFAULT_NAME}, true, '{}'::jsonb
    from unnest(${sites.map(({ tenantId }) => tenantId)}::text[], ${sites.map(({ siteId }) => siteId)}::uuid[]) as site (tenant_id, site_id)
    order by site_id
    on conflict do nothing`,
  );
}

/** null: the name is taken at this site. Its default group is there before any other, so that no other has its name. */
export async function createGroup(premise: Database, owner: Owner, given: Given): Promise<DeviceGroup | null> {
  await makeDefaultGroups(premise, [owner]);
  const rows = await premise.run<DeviceGroup>(
    (sql) => sql`
    insert into premise_core.device_groups (tenant_id, site_id, name, settings, locked)
    values (${owner.tenantId}, ${owner.siteId}, ${given.name}, ${JSON.stringify(given.settings)}::text::jsonb, ${[...given.locked]})
    on conflict (site_id, name) do nothing
    returning ${columns(sql)}`,
  );
  return rows[0] ?? null;
}

export async function findGroup(premise: Database, id: string): Promise<DeviceGroup | null> {
  const rows = await premise.run<DeviceGroup>(
    (sql) => sql`select ${columns(sql)} from premise_core.device_groups where id = ${id}`,
  );
  return rows[0] ?? null;
}

/** In order of id, those after `after`; of one site where named. */
export async function listGroups(
  premise: Database,
  filter: { readonly siteId: string | null; readonly after: string | null; readonly limit: number },
): Promise<DeviceGroup[]> {
  return premise.run<DeviceGroup>(
    (sql) => sql`
    select ${columns(sql)} from premise_core.device_groups
    where (${filter.siteId}::uuid is null or site_id = ${filter.siteId}::uuid) and (${filter.after}::uuid is null or id > ${filter.after}::uuid)
    order by id limit ${filter.limit}`,
  );
}

/** Of a group that still has the given version; null: it has another, or is no more. "taken": the name is. */
export async function changeGroup(
  premise: Database,
  id: string,
  version: number,
  given: Given,
): Promise<DeviceGroup | "taken" | null> {
  try {
    const rows = await premise.run<DeviceGroup>(
      (sql) => sql`
      update premise_core.device_groups set
        name = ${given.name}, settings = ${JSON.stringify(given.settings)}::text::jsonb, locked = ${[...given.locked]},
        version = nextval('premise_core.settings_versions'), changed_at = clock_timestamp()
      where id = ${id} and version = ${version}
      returning ${columns(sql)}`,
    );
    return rows[0] ?? null;
  } catch (error) {
    if (error instanceof BadData && error.code === "23505") return "taken";
    throw error;
  }
}

/** More would not be moved within a statement's deadline; an operator moves some first. */
export const REMOVED_WITH_MAX = 10_000;

/** Its devices, at most so many, fall to their site's default group. */
export async function removeGroup(premise: Database, id: string): Promise<"removed" | "default" | "too many" | null> {
  const [row] = await premise.run<{ is_default: boolean | null; removed: boolean }>(
    (sql) => sql`
    with known as (
      select id, is_default from premise_core.device_groups where id = ${id} for update
    ), few as (
      select count(*) <= ${REMOVED_WITH_MAX} as few from (
        select from premise_core.devices where group_id = ${id} limit ${REMOVED_WITH_MAX + 1}
      ) as device
    ), gone as (
      delete from premise_core.device_groups
      where id = any (array(select id from known where not is_default)) and (select few from few)
      returning id
    )
    select (select is_default from known) as is_default, exists (select from gone) as removed`,
  );
  if (row!.removed) return "removed";
  if (row!.is_default === null) return null;
  return row!.is_default ? "default" : "too many";
}

export type Move = {
  /** Devices that were in another group. */
  readonly moved: number;
  /** Of those given: registered phones of the group's site. */
  readonly known: ReadonlySet<DeviceId>;
  /** Where they were. */
  readonly left: readonly SettingsLane[];
};

/**
 * Puts devices of the group's site into it; null: there is no such group.
 * @param devices none twice, and in order, so that two who move the same lock them alike
 */
export async function moveDevices(
  premise: Database,
  group: string,
  devices: readonly DeviceId[],
): Promise<Move | null> {
  const rows = await premise.run<{ id: DeviceId | null; lane: SettingsLane | null; moves: boolean | null }>(
    (sql) => sql`
    with target as (
      select id, site_id, is_default from premise_core.device_groups where id = ${group} for key share
    ), known as (
      select device.id, device.lane, device.group_id is distinct from case when not target.is_default then target.id end as moves
      from target cross join unnest(${[...devices]}::uuid[]) as given (id)
      cross join lateral (
        select id, site_id, group_id, coalesce(group_id, site_id) as lane from premise_core.devices
        where id = given.id and state = 'ACTIVE' and not synthetic for no key update
      ) as device
      where device.site_id = target.site_id
    ), moved as (
      update premise_core.devices set group_id = (select case when not is_default then id end from target)
      where id = any (array(select id from known where moves))
    )
    select id, lane, moves from known
    union all select null, null, null from target`,
  );
  if (rows.length === 0) return null;
  const known = rows.filter((row): row is { id: DeviceId; lane: SettingsLane; moves: boolean } => row.id !== null);
  const moving = known.filter(({ moves }) => moves);
  return {
    moved: moving.length,
    known: new Set(known.map(({ id }) => id)),
    left: [...new Set(moving.map(({ lane }) => lane))],
  };
}
