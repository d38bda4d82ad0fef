/**
 * What a site's test pages go by: a host system, a subscriber and a device that are ours. All of it follows from the site and the
 * installation's secret, so that every node knows it and nobody else can: neither the device's token nor its address can be
 * guessed, and the subscriber's address has capitals, which no address has that anybody else pages or registers for
 * (`canonicalDestination`). Who may speak as the host system is judged by the connection (gateways/own-connections.ts).
 */
import { createHmac } from "node:crypto";
import type { DeviceId, GatewayType, HostSystemId, Shard, SiteId, SubscriberId } from "../domain.ts";
import type { Database } from "./database.ts";
import { hashSecret } from "./secrets.ts";
import type { Site } from "./sites.ts";

export const SYNTHETIC_ADDRESS = "SYNTHETIC";
/** No host system of an operator's has a name that begins so. */
export const SYNTHETIC_ORIGIN = "tocsin-synthetic-";
/** How long a test page stays fetchable. */
export const SYNTHETIC_EXPIRY_SECONDS = 600;

/** Nodes of the version before judge by the address alone. */
const NOBODYS_ADDRESS = "0.0.0.0";

const ADDRESS = /^tocsin:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):/;

export type SyntheticPhone = { readonly deviceId: DeviceId; readonly token: string };

/** @param key the installation's, see install.ts */
export function syntheticPhone(siteId: SiteId, key: string): SyntheticPhone {
  return { deviceId: idOf(key, "device", siteId) as DeviceId, token: secretOf(key, "token", siteId) };
}

/** Where a wake-up of this site's test device goes. */
function addressOf(siteId: SiteId, key: string): string {
  return `tocsin:${siteId}:${secretOf(key, "address", siteId)}`;
}

/** Whose test device a push is for; null: no site's. */
export function syntheticSiteOf(notificationAddress: string, key: string): SiteId | null {
  const siteId = ADDRESS.exec(notificationAddress)?.[1] as SiteId | undefined;
  return siteId !== undefined && addressOf(siteId, key) === notificationAddress ? siteId : null;
}

export function syntheticOrigin(siteId: SiteId): string {
  return SYNTHETIC_ORIGIN + siteId;
}

/** Whose node sends the site's test pages. */
export function shardOfSite(siteId: SiteId): Shard {
  return Number.parseInt(siteId.slice(0, 2), 16) as Shard;
}

/** Makes what is missing, and mends what has changed: again and again, from any node. */
export async function prepareSynthetic(
  premise: Database,
  site: Pick<Site, "id" | "tenantId">,
  by: { readonly key: string; readonly gatewayType: GatewayType; readonly clientVersion: string },
): Promise<void> {
  const { id: siteId, tenantId } = site;
  const { key, gatewayType } = by;
  const { deviceId, token } = syntheticPhone(siteId, key);
  const hostSystemId = idOf(key, "host system", siteId) as HostSystemId;
  const subscriberId = idOf(key, "subscriber", siteId) as SubscriberId;
  await premise.run(
    (sql) => sql`
    with host as (
      insert into premise_core.host_systems (id, tenant_id, site_id, name, allowed_addresses, synthetic)
      values (${hostSystemId}, ${tenantId}, ${siteId}, ${syntheticOrigin(siteId)}, array[${NOBODYS_ADDRESS}::text], true)
      on conflict (id) do nothing
    ), subscriber as (
      insert into premise_core.subscribers (id, tenant_id, site_id, name, destination, registration_code_hash, synthetic)
      values (${subscriberId}, ${tenantId}, ${siteId}, 'Test pages', ${SYNTHETIC_ADDRESS}, ${hashSecret(secretOf(key, "code", siteId))}, true)
      on conflict (id) do nothing
    ), address as (
      insert into premise_core.subscriber_addresses (site_id, address, subscriber_id, kind)
      values (${siteId}, ${SYNTHETIC_ADDRESS}, ${subscriberId}, 'destination')
      on conflict (site_id, address) do nothing
    )
    insert into premise_core.devices as device (
      id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type, notification_address, confirms,
      token_hash, synthetic)
    values (${deviceId}, ${tenantId}, ${siteId}, ${subscriberId}, 'SIMULATOR', 'Tocsin', ${by.clientVersion}, ${gatewayType},
      ${addressOf(siteId, key)}, true, ${hashSecret(token)}, true)
    on conflict (id) do update set
      client_version = excluded.client_version, gateway_type = excluded.gateway_type,
      notification_address = excluded.notification_address, state = 'ACTIVE'
    where (device.client_version, device.gateway_type, device.notification_address, device.state)
      is distinct from (excluded.client_version, excluded.gateway_type, excluded.notification_address, 'ACTIVE')`,
  );
}

function digestOf(key: string, what: string, siteId: SiteId): Buffer {
  return createHmac("sha256", key).update(`synthetic ${what} of ${siteId}`).digest();
}

function secretOf(key: string, what: string, siteId: SiteId): string {
  return digestOf(key, what, siteId).toString("base64url");
}

/** Version 8 (RFC 9562 section 5.8), as in unique-id.ts. */
function idOf(key: string, what: string, siteId: SiteId): string {
  const hex = digestOf(key, what, siteId).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
