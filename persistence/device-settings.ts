/**
 * What devices are set to, and which version of it each says it has. The version of a device's settings is its group's, and one
 * more for each change of its user's own: two that are the same are of the same settings.
 */
import type { DeviceId, GroupId, SiteId, TenantId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";
import { makeDefaultGroups, type SettingsLane } from "./device-groups.ts";

/** The group of a row of `devices`; null where its site has no default group yet. */
function groupOf(sql: Sql, device: string): Fragment {
  return sql`coalesce(${sql(device)}.group_id,
    (select id from premise_core.device_groups where site_id = ${sql(device)}.site_id and is_default))`;
}

/** The steps of `settings_versions` leave room for a user's changes. */
function changesOf(sql: Sql, device: string): Fragment {
  return sql`${sql(device)}.settings_changes % 1000`;
}

/** The version of the settings that a row of `devices` is to have; 0 where its site has no default group yet, as a number. */
export function settingsVersion(sql: Sql, device: string): Fragment {
  return sql`(coalesce((select version from premise_core.device_groups where id = ${groupOf(sql, device)}), 0)
    + ${changesOf(sql, device)})::double precision`;
}

/** What a phone asks, and says of itself; undefined: nothing. */
export type SettingsCall = {
  readonly deviceId: DeviceId;
  /** The version it has. */
  readonly have?: number | undefined;
  /** Its user's own values, all of them. */
  readonly userSettings?: object | undefined;
  readonly clientVersion?: string | undefined;
};
export type DeviceSettings = {
  readonly lane: SettingsLane;
  readonly version: number;
  readonly group: { readonly name: string; readonly settings: unknown; readonly locked: readonly string[] };
  readonly userSettings: unknown;
  readonly clientVersion: string;
};
type Row = {
  id: DeviceId;
  tenant_id: TenantId;
  site_id: SiteId;
  lane: SettingsLane;
  user_settings: unknown;
  client_version: string;
  version: number;
  group_id: GroupId | null;
  name: string;
  settings: unknown;
  locked: string[];
};

/** Writes what is said and not known yet, and answers in the order of `calls`; null: no such device. One call a device. */
export async function settingsOf(
  premise: Database,
  calls: readonly SettingsCall[],
): Promise<(DeviceSettings | null)[]> {
  const found = await readSettings(premise, calls);
  const without = [...found.values()].filter(({ group_id }) => group_id === null);
  if (without.length > 0) {
    await makeDefaultGroups(
      premise,
      without.map(({ site_id, tenant_id }) => ({ siteId: site_id, tenantId: tenant_id })),
    );
    const again = await readSettings(
      premise,
      without.map(({ id }) => ({ deviceId: id })),
    );
    for (const [id, row] of again) found.set(id, row);
  }
  return calls.map(({ deviceId }) => {
    const row = found.get(deviceId);
    if (row === undefined) return null;
    const { lane, version, name, settings, locked, user_settings, client_version } = row;
    const group = { name, settings, locked };
    return { lane, version, group, userSettings: user_settings, clientVersion: client_version };
  });
}

async function readSettings(premise: Database, calls: readonly SettingsCall[]): Promise<Map<DeviceId, Row>> {
  const rows = await premise.run<Row>(
    (sql) => sql`
    with input as (
      select device_id, have, user_settings::jsonb as user_settings, client_version
      from unnest(${calls.map((c) => c.deviceId)}::uuid[], ${calls.map((c) => c.have ?? null)}::bigint[],
        ${calls.map((c) => (c.userSettings === undefined ? null : JSON.stringify(c.userSettings)))}::text[],
        ${calls.map((c) => c.clientVersion ?? null)}::text[]) as call (device_id, have, user_settings, client_version)
    ), changed as (
      update premise_core.devices as device set
        settings_version = coalesce(input.have, device.settings_version),
        client_version = coalesce(input.client_version, device.client_version),
        user_settings = coalesce(input.user_settings, device.user_settings),
        settings_changes = device.settings_changes
          + case when coalesce(input.user_settings, device.user_settings) is distinct from device.user_settings then 1 else 0 end
      from input
      where device.id = any (array[input.device_id]) and (
        coalesce(input.have, device.settings_version) is distinct from device.settings_version
        or coalesce(input.client_version, device.client_version) <> device.client_version
        or coalesce(input.user_settings, device.user_settings) is distinct from device.user_settings)
      returning device.id, device.tenant_id, device.site_id, device.group_id, device.user_settings, device.client_version, device.settings_changes
    ), device as (
      select row.*, 0 as place from input cross join lateral (
        select id, tenant_id, site_id, group_id, user_settings, client_version, settings_changes
        from premise_core.devices where id = input.device_id limit 1
      ) as row
      union all
      select *, 1 from changed
    )
    select device.id, device.tenant_id, device.site_id, coalesce(device.group_id, device.site_id) as lane, device.user_settings, device.client_version,
      (coalesce(its.version, 0) + ${changesOf(sql, "device")})::double precision as version, its.id as group_id, its.name, its.settings, its.locked
    from device left join lateral (
      select * from premise_core.device_groups where id = ${groupOf(sql, "device")} limit 1
    ) as its on true
    order by place`,
  );
  // What was changed comes last.
  return new Map(rows.map((row) => [row.id, row]));
}

/** Which version of its settings each of these devices has, as it says. */
export async function recordVersions(
  premise: Database,
  entries: readonly { readonly deviceId: DeviceId; readonly version: number }[],
): Promise<void> {
  await premise.run(
    (sql) => sql`
    update premise_core.devices as device set settings_version = input.version
    from unnest(${entries.map((e) => e.deviceId)}::uuid[], ${entries.map((e) => e.version)}::bigint[]) as input (device_id, version)
    where device.id = any (array[input.device_id]) and device.settings_version is distinct from input.version`,
  );
}

/** Where a device is set, the version it is to have, and the one it says it has. */
export type Versions = {
  readonly id: DeviceId;
  readonly lane: SettingsLane;
  readonly version: number;
  readonly has: number | null;
};

/** Of those of these devices that are registered. */
export async function versionsOf(premise: Database, devices: readonly DeviceId[]): Promise<Versions[]> {
  return premise.run<Versions>(
    (sql) => sql`
    select device.id, coalesce(group_id, site_id) as lane, ${settingsVersion(sql, "device")} as version, settings_version::double precision as has
    from unnest(${[...devices]}::uuid[]) as asked (id)
    cross join lateral (select * from premise_core.devices where id = asked.id limit 1) as device
    where device.state = 'ACTIVE'`,
  );
}

/** How far a change of a group has come. */
export type Progress = { readonly devices: number; readonly have: number };
export type Waiting = { readonly id: DeviceId; readonly has: number | null; readonly lastSeenAt: Date | null };

function waits(sql: Sql, version: number): Fragment {
  return sql`settings_version is distinct from ${version}::bigint + ${changesOf(sql, "device")}`;
}

/** Of the registered devices in this lane, which has a group of this version. */
export async function progressOf(premise: Database, lane: SettingsLane, version: number): Promise<Progress> {
  const [row] = await premise.run<Progress>(
    (sql) => sql`
    select count(*)::integer as devices, count(*) filter (where not (${waits(sql, version)}))::integer as have
    from premise_core.devices as device where coalesce(group_id, site_id) = ${lane} and state = 'ACTIVE' and not synthetic`,
  );
  return row!;
}

/** Those of them that do not have it yet, in order of id, those after `after`. */
export async function waitingFor(
  premise: Database,
  lane: SettingsLane,
  version: number,
  after: string | null,
  limit: number,
): Promise<Waiting[]> {
  return premise.run<Waiting>(
    (sql) => sql`
    select id, settings_version::double precision as has, last_seen_at as "lastSeenAt"
    from premise_core.devices as device
    where coalesce(group_id, site_id) = ${lane} and state = 'ACTIVE' and not synthetic and ${waits(sql, version)}
      and (${after}::uuid is null or id > ${after}::uuid)
    order by id limit ${limit}`,
  );
}
