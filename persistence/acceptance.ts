/**
 * Accepting a page: ONE statement that finds the recipient, writes the message with its history and what the host is to
 * be told, and answers for every page what became of it. A host hears ACCEPTED only because this has committed.
 */

import type {
  DeviceId,
  GatewayType,
  HostSystemId,
  LinkId,
  SiteId,
  SubscriberId,
  TenantId,
  UniqueId,
} from "../domain.ts";
import { PRIORITIES, type Priority } from "../domain.ts";
import { type Database, urgently } from "./database.ts";
import { answerRepeats, type Repeat } from "./repeats.ts";

export type PageToAccept = {
  readonly uniqueId: UniqueId;
  /** Hex; see unique-id.ts. */
  readonly digest: string;
  readonly hostSystemId: HostSystemId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly linkId: LinkId | null;
  /** When it came in, in ms on this node's monotonic clock: pages accepted together keep the order in which they came. */
  readonly arrivedAt: number;
  /** A try of ours may have been carried out: a page that is there by this link is then taken for that, not for a repeat. */
  readonly retry: boolean;
  readonly origin: string;
  readonly trackingId: string;
  readonly systemId: string;
  readonly destination: string;
  /** `destination` in its canonical spelling. */
  readonly address: string;
  /** The device the host named, where it names one of the recipient's; anything else is ignored. */
  readonly deviceId: string | null;
  readonly conversationId: string;
  readonly hostSiteId: string;
  readonly fromId: string;
  readonly fromName: string;
  readonly messageType: string;
  readonly priority: Priority;
  /** ms since 1970; null: now. */
  readonly sentAt: number | null;
  readonly text: string;
  readonly responseChoices: readonly string[];
  readonly controls: Readonly<Record<string, string>>;
  /** null: the device may take until the page expires. */
  readonly timeoutDeviceSeconds: number | null;
  /** null: no answer is asked for. */
  readonly timeoutUserSeconds: number | null;
  readonly expirySeconds: number;
};

/** A device that can be woken. */
export type WakeTarget = {
  readonly deviceId: DeviceId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly gatewayType: GatewayType;
  readonly notificationAddress: string;
};

export type Verdict =
  | {
      readonly kind: "accepted";
      readonly subscriberId: SubscriberId;
      readonly version: number;
      readonly targets: readonly WakeTarget[];
      /** ms since 1970, on the database's clock. */
      readonly expiresAt: number;
      /** Other content came under this trackingId before. */
      readonly trackingIdReused: boolean;
    }
  /** It was there already; see repeats.ts. `unanswered`: why its host could not be told so. */
  | { readonly kind: "repeated"; readonly unanswered?: unknown }
  | { readonly kind: "refused"; readonly reason: "unknown destination" | "no registered device" | "digest collision" };

/** Until when the accepting node has the first wake-up to itself: it is claimed with the insert. */
const FIRST_WAKE_CLAIM = "3 seconds";

type Row = {
  n: number;
  subscriber_id: SubscriberId | null;
  has_device: boolean;
  created: boolean;
  expires_at: Date | null;
  reused: boolean;
  targets: WakeTarget[] | null;
  same_digest: boolean | null;
  known_link: LinkId | null;
};

/** Answers in the order of `pages`. No two of them may share a uniqueId. */
export async function acceptPages(
  database: Database,
  node: string,
  pages: readonly PageToAccept[],
): Promise<Verdict[]> {
  const input = JSON.stringify(
    pages.map((page, n) => ({ ...page, n, priority: PRIORITIES.indexOf(page.priority), sentAt: iso(page.sentAt) })),
  );
  const line = pages.some((page) => page.priority === "high") ? urgently(database) : database;
  const rows = await line.run<Row>(
    (sql) => sql`
    with input as (
      select * from json_to_recordset(${input}::text::json) as page(
        n integer, "uniqueId" uuid, digest text, "hostSystemId" uuid, "tenantId" text, "siteId" uuid, "linkId" uuid, origin text,
        "trackingId" text, "systemId" text, destination text, address text, "deviceId" uuid, "conversationId" text,
        "hostSiteId" text, "fromId" text, "fromName" text, "messageType" text, priority smallint, "sentAt" timestamptz,
        text text, "responseChoices" text[], controls jsonb, "timeoutDeviceSeconds" integer, "timeoutUserSeconds" integer,
        "expirySeconds" integer, "arrivedAt" double precision)
    ), found as (
      select input.*, rank() over (order by input."arrivedAt") as place, address_row.subscriber_id, devices.has_device, only_device.id as only_device_id, devices.targets
      from input
      left join premise_core.subscriber_addresses as address_row
        on address_row.site_id = input."siteId" and address_row.address = input.address
      left join premise_core.devices as only_device
        on only_device.id = input."deviceId" and only_device.subscriber_id = address_row.subscriber_id and only_device.state = 'ACTIVE'
      cross join lateral (
        select count(*) > 0 as has_device,
          json_agg(json_build_object('deviceId', id, 'gatewayType', gateway_type, 'notificationAddress', notification_address,
            'tenantId', tenant_id, 'siteId', site_id))
            filter (where notification_address is not null and (only_device.id is null or id = only_device.id)) as targets
        from premise_core.devices
        where subscriber_id = address_row.subscriber_id and state = 'ACTIVE'
      ) as devices
    ), created as (
      insert into premise_core.messages (
        unique_id, version, status, told, shard, due_at, wakeups, open, tenant_id, site_id, subscriber_id, device_id, host_system_id,
        link_id, origin, tracking_id, system_id, destination, digest, conversation_id, host_site_id, from_id, from_name,
        message_type, priority, sent_at, body, response_choices, controls, accepted_at, device_deadline, timeout_user, expires_at)
      select "uniqueId", 2, 2, 'QUEUED', get_byte(uuid_send(subscriber_id), 0), now() + ${FIRST_WAKE_CLAIM}::text::interval, 1, true,
        "tenantId", "siteId", subscriber_id, only_device_id, "hostSystemId", "linkId", origin, "trackingId", "systemId", destination,
        decode(digest, 'hex'), "conversationId", "hostSiteId", "fromId", "fromName", "messageType", priority,
        coalesce("sentAt", now()), text, "responseChoices", controls, now() + (place - 1) * interval '1 microsecond',
        now() + make_interval(secs => "timeoutDeviceSeconds"), make_interval(secs => "timeoutUserSeconds"),
        now() + make_interval(secs => "expirySeconds")
      from found where has_device
      order by "uniqueId"
      on conflict (unique_id) do nothing
      returning unique_id, host_system_id, link_id, expires_at
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node)
      select created.unique_id, step.seq, step.event, now(), ${node}
      from created cross join (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      select coalesce(link.id, created.host_system_id), created.host_system_id, created.unique_id, step.event, now()
      from created
      left join premise_core.host_links as link on link.id = created.link_id and link.closed_at is null
      cross join (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)
      order by created.unique_id, step.seq
    )
    select found.n, found.subscriber_id, found.has_device, created.unique_id is not null as created, created.expires_at, found.targets,
      exists (
        select from premise_core.messages as other
        where other.unique_id >= (left(found."uniqueId"::text, 19) || '0000-000000000000')::uuid
          and other.unique_id <= (left(found."uniqueId"::text, 19) || 'ffff-ffffffffffff')::uuid
          and other.unique_id <> found."uniqueId"
      ) as reused,
      known.digest = decode(found.digest, 'hex') as same_digest,
      known.link_id as known_link
    from found
    left join created on created.unique_id = found."uniqueId"
    left join premise_core.messages as known on known.unique_id = found."uniqueId"
    order by found.n`,
  );
  const repeats = new Map<number, Repeat>();
  for (const { n, same_digest, known_link } of rows) {
    const { uniqueId, linkId, retry } = pages[n]!;
    if (same_digest === true && !(retry && known_link === linkId)) repeats.set(n, { uniqueId, linkId });
  }
  // The pages beside them are accepted whatever becomes of this.
  const fault = await answerRepeats(line, [...repeats.values()]).then(
    () => null,
    (error: unknown) => ({ error }),
  );
  // A page whose twin was committed by another connection while this statement ran is neither created nor visible yet.
  const again = rows
    .filter((row) => !row.created && row.has_device && row.same_digest === null)
    .map((row) => pages[row.n]!);
  const later = again.length === 0 ? [] : await acceptPages(database, node, again);
  return rows.map((row) => {
    if (fault !== null && repeats.has(row.n)) return { kind: "repeated", unanswered: fault.error };
    return again.includes(pages[row.n]!) ? later[again.indexOf(pages[row.n]!)]! : verdictOf(row);
  });
}

function verdictOf(row: Row): Verdict {
  if (row.same_digest === false) return { kind: "refused", reason: "digest collision" };
  if (row.same_digest === true) return { kind: "repeated" };
  if (row.subscriber_id === null) return { kind: "refused", reason: "unknown destination" };
  if (!row.has_device) return { kind: "refused", reason: "no registered device" };
  return {
    kind: "accepted",
    subscriberId: row.subscriber_id,
    version: 2,
    targets: row.targets ?? [],
    expiresAt: row.expires_at!.getTime(),
    trackingIdReused: row.reused,
  };
}

function iso(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
