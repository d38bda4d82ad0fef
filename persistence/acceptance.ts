/**
 * Accepting a page: ONE statement that finds the recipient, writes the message with its history and what the host is to
 * be told, and answers for every page what became of it. A host hears ACCEPTED only because this has committed.
 */

import type { HostSystemId, LinkId, SiteId, SubscriberId, TenantId, UniqueId } from "../domain.ts";
import { PRIORITIES, type Priority } from "../domain.ts";
import type { Database } from "./database.ts";
import { laneOf } from "./outbox.ts";
import { canBeTold, type WakeTarget, wakeTargets } from "./page-devices.ts";
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
  /** A test page of our own. */
  readonly synthetic: boolean;
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
export const FIRST_WAKE_CLAIM = "3 seconds";

/** Of a page; or, where `n` is null, of a message made. */
type Row = {
  n: number | null;
  subscriber_id: SubscriberId | null;
  has_device: boolean;
  targets: WakeTarget[] | null;
  created: UniqueId | null;
  expires_at: Date | null;
  reused: boolean;
  same_digest: boolean | null;
  known_link: LinkId | null;
  /** The page has come over a link opened after this one: what that brought was answered there. */
  came_later: boolean | null;
};

/** Answers in the order of `pages`. No two of them may share a uniqueId. */
export async function acceptPages(
  database: Database,
  node: string,
  pages: readonly PageToAccept[],
): Promise<Verdict[]> {
  const all = <T>(of: (page: PageToAccept) => T) => pages.map(of);
  const rows = await database.run<Row>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${all((p) => p.uniqueId)}::uuid[], ${all((p) => p.digest)}::text[], ${all((p) => p.hostSystemId)}::uuid[],
        ${all((p) => p.tenantId)}::text[], ${all((p) => p.siteId)}::uuid[], ${all((p) => p.linkId)}::uuid[], ${all((p) => p.origin)}::text[],
        ${all((p) => p.trackingId)}::text[], ${all((p) => p.systemId)}::text[], ${all((p) => p.destination)}::text[],
        ${all((p) => p.address)}::text[], ${all((p) => p.deviceId)}::uuid[], ${all((p) => p.conversationId)}::text[],
        ${all((p) => p.hostSiteId)}::text[], ${all((p) => p.fromId)}::text[], ${all((p) => p.fromName)}::text[],
        ${all((p) => p.messageType)}::text[], ${all((p) => PRIORITIES.indexOf(p.priority))}::smallint[],
        ${all((p) => iso(p.sentAt))}::timestamptz[], ${all((p) => p.text)}::text[],
        ${all((p) => JSON.stringify(p.responseChoices))}::text[], ${all((p) => JSON.stringify(p.controls))}::text[],
        ${all((p) => p.timeoutDeviceSeconds)}::integer[], ${all((p) => p.timeoutUserSeconds)}::integer[],
        ${all((p) => p.expirySeconds)}::integer[], ${all((p) => Number(p.synthetic))}::integer[], ${places(pages)}::integer[]
      ) with ordinality as page (
        unique_id, digest, host_system_id, tenant_id, site_id, link_id, origin, tracking_id, system_id, destination, address, device_id,
        conversation_id, host_site_id, from_id, from_name, message_type, priority, sent_at, body, response_choices, controls,
        timeout_device, timeout_user, expiry, synthetic, place, n)
    ), found as (
      select input.*, whose.subscriber_id, only_device.id as only_device_id, devices.targets,
        devices.has_device is true as has_device
      from input
      left join lateral (
        select subscriber_id from premise_core.subscriber_addresses
        where site_id = input.site_id and address = input.address limit 1
      ) as whose on true
      left join lateral (
        select id from premise_core.devices
        where id = input.device_id and subscriber_id = whose.subscriber_id and state = 'ACTIVE' limit 1
      ) as only_device on input.device_id is not null
      left join lateral (
        select true as has_device,
          ${wakeTargets(sql)}
            filter (where ${canBeTold(sql)} and (only_device.id is null or id = only_device.id)) as targets
        from premise_core.devices
        where subscriber_id = whose.subscriber_id and state = 'ACTIVE'
        having count(*) > 0
      ) as devices on true
    ), created as (
      insert into premise_core.messages (
        unique_id, version, status, told, shard, due_at, wakeups, open, tenant_id, site_id, subscriber_id, device_id, host_system_id,
        link_id, origin, tracking_id, system_id, destination, digest, conversation_id, host_site_id, from_id, from_name,
        message_type, priority, sent_at, body, response_choices, controls, accepted_at, device_deadline, timeout_user, expires_at, synthetic)
      select unique_id, 2, 2, 'QUEUED', get_byte(uuid_send(subscriber_id), 0), now() + ${FIRST_WAKE_CLAIM}::text::interval, 1, true,
        tenant_id, site_id, subscriber_id, only_device_id, host_system_id, link_id, origin, tracking_id, system_id, destination,
        decode(digest, 'hex'), conversation_id, host_site_id, from_id, from_name, message_type, priority,
        coalesce(sent_at, now()), body,
        case when response_choices = '[]' then '{}' else array(select json_array_elements_text(response_choices::json)) end,
        controls::jsonb, now() + place * interval '1 microsecond', now() + make_interval(secs => timeout_device),
        make_interval(secs => timeout_user), now() + make_interval(secs => expiry), synthetic = 1
      from found where has_device
      on conflict (unique_id) do nothing
      returning unique_id, host_system_id, link_id, expires_at
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node)
      select created.unique_id, step.seq, step.event, now(), ${node}
      from created cross join (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      select ${laneOf(sql, "created")}, created.host_system_id, created.unique_id, step.event, now()
      from created cross join (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)
    )
    select n::integer as n, subscriber_id, has_device, targets, null::uuid as created, null::timestamptz as expires_at,
      exists (
        select from premise_core.messages as other
        where other.unique_id >= (left(found.unique_id::text, 19) || '0000-000000000000')::uuid
          and other.unique_id <= (left(found.unique_id::text, 19) || 'ffff-ffffffffffff')::uuid
          and other.unique_id <> found.unique_id
      ) as reused,
      known.same_digest, known.link_id as known_link, known.came_later
    from found
    left join lateral (
      select digest = decode(found.digest, 'hex') as same_digest, link_id,
        (select opened_at from premise_core.host_links where id = messages.link_id)
          > (select opened_at from premise_core.host_links where id = found.link_id) as came_later
      from premise_core.messages
      where unique_id = found.unique_id limit 1
    ) as known on true
    union all
    select null, null, null, null, unique_id, expires_at, null, null, null, null from created`,
  );
  const expiries = new Map(
    rows.flatMap((row) => (row.created === null ? [] : [[row.created, row.expires_at!] as const])),
  );
  const repeats = new Map<UniqueId, Repeat>();
  /** A page whose twin was committed by another connection while this statement ran is neither made nor visible yet. */
  const again: PageToAccept[] = [];
  const verdicts = new Map<UniqueId, Verdict>();
  for (const row of rows) {
    if (row.n === null) continue;
    const page = pages[row.n - 1]!;
    const { uniqueId, linkId, retry } = page;
    const expiresAt = expiries.get(uniqueId);
    if (expiresAt === undefined && row.has_device && row.same_digest === null) again.push(page);
    else verdicts.set(uniqueId, verdictOf(row, expiresAt));
    if (row.same_digest === true && !(retry && (row.known_link === linkId || row.came_later === true)))
      repeats.set(uniqueId, { uniqueId, linkId });
  }
  // The pages beside them are accepted whatever becomes of this.
  await answerRepeats(database, [...repeats.values()]).catch((error: unknown) => {
    for (const id of repeats.keys()) verdicts.set(id, { kind: "repeated", unanswered: error });
  });
  const later = again.length === 0 ? [] : await acceptPages(database, node, again);
  for (const [index, { uniqueId }] of again.entries()) verdicts.set(uniqueId, later[index]!);
  return pages.map(({ uniqueId }) => verdicts.get(uniqueId)!);
}

/** Microseconds behind the first of them, so that pages accepted together keep their order; as many for those that came together. */
function places(pages: readonly PageToAccept[]): number[] {
  const arrivals = pages.map(({ arrivedAt }) => arrivedAt).sort((a, b) => a - b);
  const placeOf = new Map(arrivals.map((at, index) => [at, index] as const).reverse());
  return pages.map(({ arrivedAt }) => placeOf.get(arrivedAt)!);
}

function verdictOf(row: Row, expiresAt: Date | undefined): Verdict {
  if (row.same_digest === false) return { kind: "refused", reason: "digest collision" };
  if (row.same_digest === true) return { kind: "repeated" };
  if (row.subscriber_id === null) return { kind: "refused", reason: "unknown destination" };
  if (!row.has_device) return { kind: "refused", reason: "no registered device" };
  return {
    kind: "accepted",
    subscriberId: row.subscriber_id,
    version: 2,
    targets: row.targets ?? [],
    expiresAt: expiresAt!.getTime(),
    trackingIdReused: row.reused,
  };
}

function iso(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
