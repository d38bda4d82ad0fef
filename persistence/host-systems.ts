/** Host systems: who may hand in pages, from where, and how it wants to be spoken to. */
import type { HostSystemId, Priority, SiteId, TenantId } from "../domain.ts";
import { BadData, type Database, type Fragment, type Sql } from "./database.ts";

export type HostKind = "MXPP" | "WCTP";
/**
 * How its notifications are written. `utf-16`: declared and real, little-endian with its byte-order mark. `utf-16-label`:
 * declared UTF-16 as in the seed, the bytes UTF-8, for hosts that read them so.
 */
export type NotificationEncoding = "utf-8" | "utf-16" | "utf-16-label";

export type HostSystem = {
  readonly id: HostSystemId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  /** header/origin of what it sends, and the systemId of its pages. */
  readonly name: string;
  readonly kind: HostKind;
  /** IP addresses and CIDR ranges it may come from; see gateways/address.ts. */
  readonly allowedAddresses: readonly string[];
  /** SHA-256 of its client certificate, upper-case hex with colons. */
  readonly certificateFingerprint: string | null;
  /** The listener that names it. */
  readonly port: number | null;
  /** No status/statusReason in its notifications. */
  readonly strict: boolean;
  readonly encoding: NotificationEncoding;
  /** Its own scale, by the number as text; null: words and 1 to 3. */
  readonly priorities: Readonly<Record<string, Priority>> | null;
  readonly hasSecurityCode: boolean;
  readonly createdAt: Date;
  /** Its pages are test pages of our own: nobody else may speak as it, and nobody's list shows it. */
  readonly synthetic: boolean;
};

/** What an operator decides of a host system. The security code is stored as its digest. */
export type HostSettings = {
  readonly name: string;
  readonly kind: HostKind;
  readonly allowedAddresses: readonly string[];
  readonly certificateFingerprint: string | null;
  readonly port: number | null;
  readonly strict: boolean;
  readonly encoding: NotificationEncoding;
  readonly priorities: Readonly<Record<string, Priority>> | null;
  readonly securityCodeHash: Buffer | null;
};

/** Which setting another host system has already. */
export type HostConflict = { readonly conflict: "name" | "certificateFingerprint" };

function columns(sql: Sql): Fragment {
  return sql`id, tenant_id as "tenantId", site_id as "siteId", name, kind, allowed_addresses as "allowedAddresses",
    certificate_fingerprint as "certificateFingerprint", port, strict, encoding, priorities,
    security_code_hash is not null as "hasSecurityCode", created_at as "createdAt", synthetic`;
}

const HOSTS_MAX = 10_000;

/** Everyone who may send pages, our own test pages' included. */
export async function hostSystems(premise: Database): Promise<HostSystem[]> {
  return premise.run<HostSystem>(
    (sql) => sql`select ${columns(sql)} from premise_core.host_systems order by id limit ${HOSTS_MAX}`,
  );
}

/** Those an operator sees and may change, in order of id from `after` on. */
export async function listHostSystems(premise: Database, after: string | null, limit: number): Promise<HostSystem[]> {
  return premise.run<HostSystem>(
    (sql) => sql`
    select ${columns(sql)} from premise_core.host_systems
    where (${after}::uuid is null or id > ${after}::uuid) and not synthetic
    order by id limit ${limit}`,
  );
}

export async function findHostSystem(premise: Database, id: string): Promise<HostSystem | null> {
  const rows = await premise.run<HostSystem>(
    (sql) => sql`
    select ${columns(sql)} from premise_core.host_systems where id = ${id} and not synthetic`,
  );
  return rows[0] ?? null;
}

export async function createHostSystem(
  premise: Database,
  owner: { readonly tenantId: TenantId; readonly siteId: SiteId },
  settings: HostSettings,
): Promise<HostSystemId | HostConflict> {
  try {
    const [row] = await premise.run<{ id: HostSystemId }>(
      (sql) => sql`
      insert into premise_core.host_systems (
        tenant_id, site_id, name, kind, allowed_addresses, certificate_fingerprint, port, security_code_hash, strict, encoding, priorities)
      values (${owner.tenantId}, ${owner.siteId}, ${settings.name}, ${settings.kind}, ${[...settings.allowedAddresses]},
        ${settings.certificateFingerprint}, ${settings.port}, ${settings.securityCodeHash}, ${settings.strict}, ${settings.encoding},
        ${settings.priorities === null ? null : JSON.stringify(settings.priorities)}::text::jsonb)
      returning id`,
    );
    return row!.id;
  } catch (error) {
    return conflictOf(error);
  }
}

/** Changes what is given and leaves the rest. false: there is no such host system. */
export async function changeHostSystem(
  premise: Database,
  id: string,
  change: Partial<Omit<HostSettings, "kind">>,
): Promise<boolean | HostConflict> {
  const given = (field: keyof typeof change) => change[field] !== undefined;
  const priorities = change.priorities == null ? null : JSON.stringify(change.priorities);
  try {
    const rows = await premise.run<{ id: HostSystemId }>(
      (sql) => sql`
      update premise_core.host_systems set
        name = coalesce(${change.name ?? null}, name),
        allowed_addresses = coalesce(${change.allowedAddresses ? [...change.allowedAddresses] : null}::text[], allowed_addresses),
        certificate_fingerprint = case when ${given("certificateFingerprint")}
          then ${change.certificateFingerprint ?? null} else certificate_fingerprint end,
        port = case when ${given("port")} then ${change.port ?? null}::integer else port end,
        security_code_hash = case when ${given("securityCodeHash")}
          then ${change.securityCodeHash ?? null}::bytea else security_code_hash end,
        strict = coalesce(${change.strict ?? null}, strict),
        encoding = coalesce(${change.encoding ?? null}, encoding),
        priorities = case when ${given("priorities")} then ${priorities}::text::jsonb else priorities end
      where id = ${id} and not synthetic
      returning id`,
    );
    return rows.length > 0;
  } catch (error) {
    return conflictOf(error);
  }
}

/** What still keeps a host system: pages somebody may yet fetch or answer, and statuses it has yet to be told. */
export type HostUse = { readonly pages: number; readonly untold: number };

/**
 * Removes a host system of which no page is out (something is due for it, or a phone may still fetch it) and that has nothing
 * left to be told; null: there is no such host system.
 */
export async function removeHostSystem(premise: Database, id: string): Promise<"removed" | HostUse | null> {
  const [row] = await premise.run<HostUse & { known: boolean; removed: boolean }>(
    (sql) => sql`
    with known as (
      select id from premise_core.host_systems where id = ${id} and not synthetic for update
    ), used as (
      select (
          select count(*)::integer from premise_core.messages
          where host_system_id in (select id from known) and due_at is not null
        ) as pages, (
          select count(*)::integer from premise_core.host_outbox where host_system_id in (select id from known)
        ) as untold
    ), gone as (
      delete from premise_core.host_systems
      where id in (select id from known) and (select pages + untold from used) = 0
      returning id
    )
    select exists (select from known) as known, exists (select from gone) as removed, pages, untold from used`,
  );
  const { known, removed, pages, untold } = row!;
  if (removed) return "removed";
  return known ? { pages, untold } : null;
}

function conflictOf(error: unknown): HostConflict {
  if (error instanceof BadData && error.code === "23505") {
    return {
      conflict: error.constraint === "host_systems_certificate_fingerprint_key" ? "certificateFingerprint" : "name",
    };
  }
  throw error;
}
