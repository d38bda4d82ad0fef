/**
 * Subscribers, the people who are paged, each with the addresses a page may be sent to: a destination, and perhaps a
 * user name and a pager number. An address is one subscriber's within a site, in its canonical spelling.
 */
import { canonicalDestination, type SiteId, type SubscriberId, type TenantId } from "../domain.ts";
import { BadData, type Database } from "./database.ts";

export type Subscriber = {
  readonly id: SubscriberId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly name: string;
  /** As the operator wrote it. */
  readonly destination: string;
  /** Canonical spellings; null: none given. */
  readonly userName: string | null;
  readonly pagerNumber: string | null;
  readonly devices: number;
  readonly createdAt: Date;
};

export type NewSubscriber = {
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly name: string;
  readonly destination: string;
  readonly userName: string | null;
  readonly pagerNumber: string | null;
  readonly registrationCodeHash: Buffer;
};

/** Which of the addresses is another subscriber's already. */
export type AddressConflict = { readonly conflict: "destination" | "userName" | "pagerNumber" };

const FIELDS = { destination: "destination", "user-name": "userName", "pager-number": "pagerNumber" } as const;
type Kind = keyof typeof FIELDS;

export async function createSubscriber(
  premise: Database,
  subscriber: NewSubscriber,
): Promise<SubscriberId | AddressConflict> {
  const addresses = addressesOf(subscriber);
  const kinds = [...addresses.values()];
  for (let attempt = 1; ; attempt += 1) {
    try {
      const [row] = await premise.run<{ id: SubscriberId | null; taken: Kind | null }>(
        (sql) => sql`
        with wanted as (
          select * from unnest(${[...addresses.keys()]}::text[], ${kinds}::text[]) as address (address, kind)
        ), taken as (
          select wanted.kind from wanted
          join premise_core.subscriber_addresses as other on other.site_id = ${subscriber.siteId} and other.address = wanted.address
          order by wanted.kind limit 1
        ), created as (
          insert into premise_core.subscribers (tenant_id, site_id, name, destination, registration_code_hash)
          select ${subscriber.tenantId}, ${subscriber.siteId}, ${subscriber.name}, ${subscriber.destination},
            ${subscriber.registrationCodeHash}
          where not exists (select from taken)
          returning id, site_id
        ), addressed as (
          insert into premise_core.subscriber_addresses (site_id, address, subscriber_id, kind)
          select created.site_id, wanted.address, created.id, wanted.kind from created cross join wanted order by wanted.address
        )
        select (select id from created) as id, (select kind from taken) as taken`,
      );
      return row!.taken === null ? row!.id! : { conflict: FIELDS[row!.taken] };
    } catch (error) {
      // Another took an address in the same instant: the second look names which.
      const raced = error instanceof BadData && error.code === "23505";
      if (!raced || attempt === 3) throw error;
    }
  }
}

/** Canonical address to what it is; one that is given twice counts once. */
function addressesOf(subscriber: NewSubscriber): Map<string, Kind> {
  const addresses = new Map<string, Kind>();
  const given: [string | null, Kind][] = [
    [subscriber.pagerNumber, "pager-number"],
    [subscriber.userName, "user-name"],
    [subscriber.destination, "destination"],
  ];
  for (const [text, kind] of given) if (text !== null) addresses.set(canonicalDestination(text), kind);
  return addresses;
}

export async function findSubscriber(premise: Database, id: string): Promise<Subscriber | null> {
  const [subscriber] = await readSubscribers(premise, { id });
  return subscriber ?? null;
}

/** In order of id, those after `after`; of one site, or the one with this address. */
export async function listSubscribers(
  premise: Database,
  filter: {
    readonly siteId: string | null;
    readonly destination: string | null;
    readonly after: string | null;
    readonly limit: number;
  },
): Promise<Subscriber[]> {
  return readSubscribers(premise, filter);
}

async function readSubscribers(
  premise: Database,
  filter: { id?: string; siteId?: string | null; destination?: string | null; after?: string | null; limit?: number },
): Promise<Subscriber[]> {
  const address = filter.destination == null ? null : canonicalDestination(filter.destination);
  return premise.run<Subscriber>(
    (sql) => sql`
    select subscriber.id, subscriber.tenant_id as "tenantId", subscriber.site_id as "siteId", subscriber.name, subscriber.destination,
      addresses.user_name as "userName", addresses.pager_number as "pagerNumber",
      (select count(*)::integer from premise_core.devices
       where devices.subscriber_id = subscriber.id and state = 'ACTIVE') as devices,
      subscriber.created_at as "createdAt"
    from premise_core.subscribers as subscriber
    cross join lateral (
      select max(address) filter (where kind = 'user-name') as user_name,
        max(address) filter (where kind = 'pager-number') as pager_number
      from premise_core.subscriber_addresses where subscriber_id = subscriber.id
    ) as addresses
    where not subscriber.synthetic and (${filter.id ?? null}::uuid is null or subscriber.id = ${filter.id ?? null}::uuid)
      and (${filter.siteId ?? null}::uuid is null or subscriber.site_id = ${filter.siteId ?? null}::uuid)
      and (${filter.after ?? null}::uuid is null or subscriber.id > ${filter.after ?? null}::uuid)
      and (${address}::text is null or subscriber.id in (
        select subscriber_id from premise_core.subscriber_addresses where subscriber_addresses.address = ${address}::text))
    order by subscriber.id limit ${filter.limit ?? 1}`,
  );
}

/** Puts another registration code in the place of the old one, which is void from now. false: no such subscriber. */
export async function replaceRegistrationCode(premise: Database, id: string, hash: Buffer): Promise<boolean> {
  const rows = await premise.run<{ id: SubscriberId }>(
    (sql) => sql`
    update premise_core.subscribers set registration_code_hash = ${hash} where id = ${id} and not synthetic returning id`,
  );
  return rows.length > 0;
}
