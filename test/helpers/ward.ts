/** A site with people, phones and host systems, written straight into a migrated database: the ground for tests of single parts. */
import { randomBytes, randomUUID } from "node:crypto";
import postgres from "postgres";
import type { DeviceId, HostSystemId, LinkId, SiteId, SubscriberId, TenantId } from "../../domain.ts";
import { silentLog } from "../../log.ts";
import type { PageToAccept } from "../../persistence/acceptance.ts";
import { type Database, openDatabase } from "../../persistence/database.ts";
import { migrate } from "../../persistence/migrate.ts";
import { hashSecret } from "../../persistence/secrets.ts";
import { digestOf } from "../../persistence/unique-id.ts";
import { openTestDatabase } from "./database.ts";

export type Ward = {
  readonly url: string;
  readonly database: Database;
  /** For looking, and for causing faults; not for what is under test. */
  readonly sql: postgres.Sql;
  readonly siteId: SiteId;
  host(name: string): Promise<HostSystemId>;
  subscriber(destination: string): Promise<SubscriberId>;
  device(
    subscriber: SubscriberId,
    options?: { address?: string | null; confirms?: boolean; token?: string },
  ): Promise<DeviceId>;
  close(): Promise<void>;
};

export const MESSAGE_KEY = "11111111-2222-4333-8444-555555555555";
const TENANT = "default" as TenantId;

export async function openWard(): Promise<Ward> {
  const place = await openTestDatabase();
  for (const schema of ["premise_core", "meta", "core"] as const) await migrate(place.url, schema, { log: silentLog });
  const sql = postgres(place.url, { max: 2, onnotice: () => {} });
  const database = openDatabase(
    { name: "premise_core", urls: [place.url], node: "test", connectionsMax: 6 },
    { log: silentLog },
  );
  await database.untilUp(5_000);
  const siteId = randomUUID() as SiteId;
  return {
    url: place.url,
    database,
    sql,
    siteId,
    async host(name) {
      const [row] = await sql<{ id: HostSystemId }[]>`
        insert into premise_core.host_systems (tenant_id, site_id, name, allowed_addresses)
        values (${TENANT}, ${siteId}, ${name}, ${["127.0.0.1"]}) returning id`;
      return row!.id;
    },
    async subscriber(destination) {
      const [row] = await sql<{ id: SubscriberId }[]>`
        insert into premise_core.subscribers (tenant_id, site_id, name, destination, registration_code_hash)
        values (${TENANT}, ${siteId}, 'Dr Test', ${destination}, ${randomBytes(32)}) returning id`;
      await sql`insert into premise_core.subscriber_addresses (site_id, address, subscriber_id, kind)
        values (${siteId}, ${destination}, ${row!.id}, 'destination')`;
      return row!.id;
    },
    async device(subscriber, { address = randomUUID(), confirms = true, token = randomUUID() } = {}) {
      const id = randomUUID() as DeviceId;
      await sql`insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
          notification_address, confirms, token_hash)
        values (${id}, ${TENANT}, ${siteId}, ${subscriber}, 'ANDROID', '15', '1.0', 'GCM', ${address}, ${confirms}, ${hashSecret(token)})`;
      return id;
    },
    async close() {
      await database.close();
      await sql.end({ timeout: 1 });
      await place.close();
    },
  };
}

/** A page fit to be accepted; everything but who, from whom and what is as a host would send it. */
export function pageFor(
  ward: Ward,
  hostSystemId: HostSystemId,
  destination: string,
  more: Partial<PageToAccept> & { readonly sentAtText?: string } = {},
): PageToAccept {
  const trackingId = more.trackingId ?? randomUUID();
  const text = more.text ?? "Bed 12: potassium 6.8, call the ward";
  const responseChoices = more.responseChoices ?? [];
  const sentAtText = more.sentAtText ?? "";
  return {
    ...digestOf({ hostSystemId, trackingId, destination, sentAtText, text, responseChoices }, MESSAGE_KEY),
    hostSystemId,
    tenantId: TENANT,
    siteId: ward.siteId,
    linkId: null as LinkId | null,
    arrivedAt: 0,
    retry: false,
    origin: "lab",
    trackingId,
    systemId: "lab",
    destination,
    address: destination,
    deviceId: null,
    conversationId: "",
    hostSiteId: "",
    fromId: "-17",
    fromName: "Lab",
    messageType: "Alert",
    priority: "high",
    sentAt: null,
    text,
    responseChoices,
    controls: {},
    timeoutDeviceSeconds: 120,
    timeoutUserSeconds: 300,
    expirySeconds: 259_200,
    synthetic: false,
    ...more,
  };
}
