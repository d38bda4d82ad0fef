/**
 * Devices: registering, proving who calls, changing and losing an address, listing. A registration is written to `meta`
 * first and to `premise_core` by the same id after; a phone that heard nothing registers again and both halves meet.
 */
import { timingSafeEqual } from "node:crypto";
import type { DeviceId, GatewayType, GroupId, SiteId, SubscriberId, TenantId } from "../domain.ts";
import { BadData, Conflict, type Database } from "./database.ts";
import type { SettingsLane } from "./device-groups.ts";
import { settingsVersion } from "./device-settings.ts";
import { hashSecret } from "./secrets.ts";

export type DeviceType = "ANDROID" | "IOS" | "WEB" | "SIMULATOR";

/** Who a request comes from, as its token says. */
export type Device = {
  readonly id: DeviceId;
  readonly subscriberId: SubscriberId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly confirms: boolean;
  readonly gatewayType: GatewayType;
  /** Where it hears that they change, the version it is to have, and the one it says it has; see device-settings.ts. */
  readonly settings: { readonly lane: SettingsLane; readonly version: number; readonly had: number | null };
};

export type Registrant = {
  readonly subscriberId: SubscriberId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly registrationCodeHash: Buffer;
};

export type Registration = {
  readonly registrant: Registrant;
  readonly deviceType: DeviceType;
  readonly deviceOS: string;
  readonly clientVersion: string;
  readonly gatewayType: GatewayType;
  readonly notificationAddress: string;
  readonly confirms: boolean;
  readonly token: string;
};

export async function findRegistrant(premise: Database, siteId: string, address: string): Promise<Registrant | null> {
  const [row] = await premise.run<{
    id: SubscriberId;
    tenant_id: TenantId;
    site_id: SiteId;
    registration_code_hash: Buffer;
  }>(
    (sql) => sql`
    select subscriber.id, subscriber.tenant_id, subscriber.site_id, subscriber.registration_code_hash
    from premise_core.subscriber_addresses as address
    join premise_core.subscribers as subscriber on subscriber.id = address.subscriber_id
    where address.site_id = ${siteId} and address.address = ${address}`,
  );
  if (row === undefined) return null;
  return {
    subscriberId: row.id,
    tenantId: row.tenant_id,
    siteId: row.site_id,
    registrationCodeHash: row.registration_code_hash,
  };
}

const TAKING_TRIES = 3;
const UNIQUE_VIOLATION = "23505";

/**
 * Two who take one address at the same time, or one twice, can each find it free and then taken; the next try finds who has
 * it. @throws Conflict where that goes on and on
 */
async function taking<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof BadData && error.code === UNIQUE_VIOLATION)) throw error;
      if (tries === TAKING_TRIES) throw new Conflict(error.code);
    }
  }
}

/** Binds the phone to the subscriber and takes its address from whoever had it. The same phone again keeps its id. */
export function register(premise: Database, meta: Database, registration: Registration): Promise<DeviceId> {
  return taking(() => bind(premise, meta, registration));
}

async function bind(premise: Database, meta: Database, registration: Registration): Promise<DeviceId> {
  const { registrant: who, gatewayType, notificationAddress: address } = registration;
  await meta.run(
    (sql) => sql`
    update meta.registrations set status = 'REMOVED', removed_at = now()
    where gateway_type = ${gatewayType} and notification_address = ${address} and status = 'ACTIVE'
      and subscriber_id <> ${who.subscriberId}`,
  );
  const [row] = await meta.run<{ id: DeviceId }>(
    (sql) => sql`
    insert into meta.registrations (
      id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type, notification_address)
    values (gen_random_uuid(), ${who.tenantId}, ${who.siteId}, ${who.subscriberId}, ${registration.deviceType},
      ${registration.deviceOS}, ${registration.clientVersion}, ${gatewayType}, ${address})
    on conflict (gateway_type, notification_address) where status = 'ACTIVE' do update set
      device_type = excluded.device_type, device_os = excluded.device_os, client_version = excluded.client_version
    returning id`,
  );
  const id = row!.id;
  await premise.run(
    (sql) => sql`
    update premise_core.devices set state = 'REMOVED'
    where gateway_type = ${gatewayType} and notification_address = ${address} and state = 'ACTIVE' and id <> ${id}`,
  );
  await premise.run(
    (sql) => sql`
    insert into premise_core.devices (
      id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type, notification_address, confirms, token_hash)
    values (${id}, ${who.tenantId}, ${who.siteId}, ${who.subscriberId}, ${registration.deviceType}, ${registration.deviceOS},
      ${registration.clientVersion}, ${gatewayType}, ${address}, ${registration.confirms}, ${hashSecret(registration.token)})
    on conflict (id) do update set
      subscriber_id = excluded.subscriber_id, device_type = excluded.device_type, device_os = excluded.device_os,
      client_version = excluded.client_version, gateway_type = excluded.gateway_type,
      notification_address = excluded.notification_address, address_set_at = now(),
      confirms = excluded.confirms, token_hash = excluded.token_hash, state = 'ACTIVE',
      -- One opened with the token before finds that it has none any more.
      stream_boot = null, stream_opened_at = null`,
  );
  return id;
}

type DeviceRow = {
  id: DeviceId;
  token_hash: Buffer;
  subscriber_id: SubscriberId;
  tenant_id: TenantId;
  site_id: SiteId;
  confirms: boolean;
  gateway_type: GatewayType;
  lane: SettingsLane;
  due: number;
  had: number | null;
};

/** The device each token belongs to, noted as seen (to the minute); null where there is none. In the order of `tokens`. */
export async function authenticate(premise: Database, tokens: readonly string[]): Promise<(Device | null)[]> {
  const hashes = tokens.map(hashSecret);
  const rows = await premise.run<DeviceRow>(
    (sql) => sql`
    with caller as (
      select device.* from unnest(${hashes.map((hash) => hash.toString("hex"))}::text[]) as shown (hash)
      cross join lateral (
        select * from premise_core.devices where token_hash = decode(shown.hash, 'hex') limit 1
      ) as device
      where device.state = 'ACTIVE'
    ), unseen as (
      select caller.id from caller cross join lateral (
        select from premise_core.devices where id = caller.id for no key update skip locked
      ) as device
      where last_seen_at is null or last_seen_at < now() - interval '1 minute'
    ), seen as (
      update premise_core.devices set last_seen_at = now() where id = any (array(select id from unseen))
    )
    select id, token_hash, subscriber_id, tenant_id, site_id, confirms, gateway_type,
      coalesce(group_id, site_id) as lane, ${settingsVersion(sql, "caller")} as due, settings_version::double precision as had
    from caller`,
  );
  const found = new Map(rows.map((row) => [row.token_hash.toString("hex"), row]));
  return hashes.map((hash) => {
    const row = found.get(hash.toString("hex"));
    // The index has compared digests, which say nothing of how near a guess was; this holds should the lookup ever change.
    if (row === undefined || !timingSafeEqual(row.token_hash, hash)) return null;
    return {
      id: row.id,
      subscriberId: row.subscriber_id,
      tenantId: row.tenant_id,
      siteId: row.site_id,
      confirms: row.confirms,
      gatewayType: row.gateway_type,
      settings: { lane: row.lane, version: row.due, had: row.had },
    };
  });
}

/** Gives the device another address, taking it from any other device. */
export function updateAddress(
  premise: Database,
  meta: Database,
  device: DeviceId,
  type: GatewayType,
  address: string,
): Promise<void> {
  return taking(() => readdress(premise, meta, device, type, address));
}

async function readdress(
  premise: Database,
  meta: Database,
  device: DeviceId,
  type: GatewayType,
  address: string,
): Promise<void> {
  await meta.run(
    (sql) => sql`
    update meta.registrations set status = 'REMOVED', removed_at = now()
    where gateway_type = ${type} and notification_address = ${address} and status = 'ACTIVE' and id <> ${device}`,
  );
  await meta.run(
    (sql) =>
      sql`update meta.registrations set gateway_type = ${type}, notification_address = ${address} where id = ${device}`,
  );
  await premise.run(
    (sql) => sql`
    update premise_core.devices set state = 'REMOVED'
    where gateway_type = ${type} and notification_address = ${address} and state = 'ACTIVE' and id <> ${device}`,
  );
  await premise.run(
    (sql) => sql`
    update premise_core.devices set gateway_type = ${type}, notification_address = ${address}, address_set_at = now()
    where id = ${device} and state = 'ACTIVE'`,
  );
}

/** Ends the registration: the token stops working, pages no longer go to the device. */
export async function unregister(premise: Database, meta: Database, device: DeviceId): Promise<boolean> {
  const gone = await premise.run<{ id: DeviceId }>(
    (sql) => sql`
    update premise_core.devices set state = 'REMOVED' where id = ${device} and state = 'ACTIVE' and not synthetic returning id`,
  );
  await meta.run(
    (sql) => sql`
    update meta.registrations set status = 'REMOVED', removed_at = now() where id = ${device} and status = 'ACTIVE'`,
  );
  return gone.length > 0;
}

export type DeadAddress = {
  readonly deviceId: DeviceId;
  readonly notificationAddress: string;
  /** ms since 1970: when the push service says it died, else when the push was asked for. */
  readonly since: number;
};

/** Clears addresses reported dead, each only if it is unchanged and older than the report. Number cleared. */
export async function clearDeadAddresses(premise: Database, reports: readonly DeadAddress[]): Promise<number> {
  const rows = await premise.run<{ id: DeviceId }>(
    (sql) => sql`
    update premise_core.devices as device set notification_address = null
    from unnest(
      ${reports.map((r) => r.deviceId)}::uuid[], ${reports.map((r) => r.notificationAddress)}::text[],
      ${reports.map((r) => new Date(r.since).toISOString())}::timestamptz[]) as report (id, address, since)
    where device.id = any (array[report.id]) and device.notification_address = report.address and device.address_set_at < report.since
    returning device.id`,
  );
  return rows.length;
}

/** A subscriber's phone as an operator may see it: never its address or token. */
export type RegisteredDevice = {
  readonly id: string;
  readonly subscriberId: SubscriberId;
  readonly siteId: SiteId;
  readonly deviceType: string;
  readonly deviceOS: string;
  readonly clientVersion: string;
  readonly gatewayType: string;
  /** It has a notification address that was not reported dead. */
  readonly reachable: boolean;
  readonly confirms: boolean;
  readonly registeredAt: Date;
  readonly lastSeenAt: Date | null;
  /** null: its site's default group. */
  readonly groupId: GroupId | null;
  /** Of its settings, the one it says it has. */
  readonly settingsVersion: number | null;
};

/** Registered devices in order of id, those after `after`; of one subscriber where named. */
export async function listDevices(
  premise: Database,
  filter: { readonly subscriberId: string | null; readonly after: string | null; readonly limit: number },
): Promise<RegisteredDevice[]> {
  return premise.run<RegisteredDevice>(
    (sql) => sql`
    select id, subscriber_id as "subscriberId", site_id as "siteId", device_type as "deviceType", device_os as "deviceOS",
      client_version as "clientVersion", gateway_type as "gatewayType", notification_address is not null as reachable, confirms,
      registered_at as "registeredAt", last_seen_at as "lastSeenAt", group_id as "groupId", settings_version::double precision as "settingsVersion"
    from premise_core.devices
    where state = 'ACTIVE' and not synthetic and (${filter.subscriberId}::uuid is null or subscriber_id = ${filter.subscriberId}::uuid)
      and (${filter.after}::uuid is null or id > ${filter.after}::uuid)
    order by id limit ${filter.limit}`,
  );
}
