/**
 * By which stream a device listens: its row names the node that has it (stream_boot; null: none has) and which one it is
 * (stream_epoch, which stays as that of the last). A stream that finds another's epoch in its row has been displaced; one that finds
 * its own without a node was taken for lost with its node, and takes the row again.
 */
import type { BootId, DeviceId, SubscriberId, UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { type NoticesWaiting, noticesWaiting } from "./device-notices.ts";
import { isFor } from "./page-devices.ts";

export type StreamClaim = {
  readonly deviceId: DeviceId;
  /** Hex; of another token since, the device is not this caller's any more. */
  readonly tokenHash: string;
  readonly boot: BootId;
  readonly epoch: string;
  /** Takes the row from any other stream; else only where it is still its own. */
  readonly displaces: boolean;
};
export type StreamClaimed =
  /** `before`: the device's last stream; `elsewhere`: another node has it. */
  | { readonly kind: "held"; readonly before: string | null; readonly elsewhere: boolean }
  | { readonly kind: "displaced" }
  /** The device is not registered any more, or with another token. */
  | { readonly kind: "gone" };

/** Answers in the order of `claims`; one entry a device. */
export async function claimStreams(database: Database, claims: readonly StreamClaim[]): Promise<StreamClaimed[]> {
  const rows = await database.run<{
    id: DeviceId;
    before: string | null;
    elsewhere: boolean;
    held: boolean;
  }>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${claims.map((c) => c.deviceId)}::uuid[], ${claims.map((c) => c.tokenHash)}::text[], ${claims.map((c) => c.boot)}::uuid[],
        ${claims.map((c) => c.epoch)}::uuid[], ${claims.map((c) => Number(c.displaces))}::integer[]
      ) as claim (device_id, token_hash, boot, epoch, displaces)
      order by device_id
    ), found as (
      select device.id, device.stream_epoch as before,
        (device.stream_boot <> input.boot) is true as elsewhere, input.boot, input.epoch,
        input.displaces = 1 or device.stream_epoch is not distinct from input.epoch as held
      from input
      cross join lateral (
        select id, token_hash, state, stream_boot, stream_epoch from premise_core.devices
        where id = input.device_id limit 1 for no key update
      ) as device
      where device.state = 'ACTIVE' and device.token_hash = decode(input.token_hash, 'hex')
    ), held as (
      update premise_core.devices as device
      set stream_boot = found.boot, stream_epoch = found.epoch, stream_opened_at = clock_timestamp()
      from found
      where device.id = any (array[found.id]) and found.held
    )
    select id, before, elsewhere, held from found`,
  );
  const found = new Map(rows.map((row) => [row.id, row]));
  return claims.map(({ deviceId }) => {
    const row = found.get(deviceId);
    if (row === undefined) return { kind: "gone" };
    const { before, elsewhere } = row;
    return row.held ? { kind: "held", before, elsewhere } : { kind: "displaced" };
  });
}

/** No node has these streams any more, where they are still the ones their devices have. */
export async function releaseStreams(
  database: Database,
  streams: readonly { readonly deviceId: DeviceId; readonly epoch: string }[],
): Promise<void> {
  await database.run(
    (sql) => sql`
    with ended as materialized (
      select device.id, input.epoch
      from (
        select * from unnest(${streams.map((s) => s.deviceId)}::uuid[], ${streams.map((s) => s.epoch)}::uuid[]) as stream (device_id, epoch)
        order by device_id
      ) as input
      cross join lateral (
        select id from premise_core.devices where id = input.device_id for no key update
      ) as device
    )
    update premise_core.devices as device set stream_boot = null, stream_opened_at = null
    from ended
    where device.id = any (array[ended.id]) and device.stream_epoch = ended.epoch`,
  );
}

/** So many at once, and so often in one go: a node that is lost has left ten thousand, whose phones come again at this very moment. */
const ENDS_MAX = 1_000;
const GOES_MAX = 100;

/** Ends every stream of nodes that are no more, but for rows that others hold: what those leave is stray. */
export async function closeStreamsOf(database: Database, boots: readonly BootId[]): Promise<void> {
  await untilFew(() =>
    database.run(
      (sql) => sql`
      with ended as materialized (
        select id from premise_core.devices where stream_boot = any (${[...boots]}::uuid[])
        limit ${ENDS_MAX}
        for no key update skip locked
      )
      update premise_core.devices as device set stream_boot = null, stream_opened_at = null
      from ended where device.id = any (array[ended.id])
      returning device.id`,
    ),
  );
}

/** Ends every stream whose node is not among the living, however that came about. */
export async function closeStrayStreams(database: Database): Promise<void> {
  await untilFew(() =>
    database.run(
      (sql) => sql`
      with recursive boots as (
        -- One step through the index for each node there is, not for each stream.
        (select stream_boot as boot from premise_core.devices where stream_boot is not null order by stream_boot limit 1)
        union all
        select (select stream_boot from premise_core.devices where stream_boot > boots.boot order by stream_boot limit 1)
        from boots where boots.boot is not null
      ), ended as materialized (
        select id from premise_core.devices
        where stream_boot = any (array(
            select boot from boots
            where boot is not null and boot not in (select boot from premise_core.nodes where state <> 'DEAD')))
          and stream_opened_at < clock_timestamp() - interval '3 seconds'
        limit ${ENDS_MAX}
        for no key update skip locked
      )
      update premise_core.devices as device set stream_boot = null, stream_opened_at = null
      from ended where device.id = any (array[ended.id])
      returning device.id`,
    ),
  );
}

async function untilFew(end: () => Promise<readonly unknown[]>): Promise<void> {
  for (let n = 0; n < GOES_MAX; n += 1) if ((await end()).length < ENDS_MAX) return;
}

/** Of an open stream: what it has told and not heard of again. */
export type StreamPlace = {
  readonly deviceId: DeviceId;
  readonly subscriberId: SubscriberId;
  readonly boot: BootId;
  readonly epoch: string;
  readonly underWay: readonly UniqueId[];
  readonly notices: NoticesWaiting;
};
export type StreamNews = {
  /** Its place in what was asked. */
  readonly n: number;
  /** The row is still its own. */
  readonly own: boolean;
  /** There is a page or a notice to tell. */
  readonly news: boolean;
  /** Of those under way, what the device need not confirm any more. */
  readonly settled: readonly UniqueId[];
};

/** What there may be to do for each of these streams, for all of them in one statement; nothing of those where nothing is. */
export async function newsOfStreams(database: Database, places: readonly StreamPlace[]): Promise<StreamNews[]> {
  const rows = await database.run<Omit<StreamNews, "settled"> & { settled: readonly UniqueId[] | null }>(
    (sql) => sql`
    with place as materialized (
      select device_id, subscriber_id, boot, epoch, under_way::uuid[] as under_way, notices, newest, n::integer as n
      from unnest(${places.map((p) => p.deviceId)}::uuid[], ${places.map((p) => p.subscriberId)}::uuid[], ${places.map((p) => p.boot)}::uuid[],
        ${places.map((p) => p.epoch)}::uuid[], ${places.map((p) => `{${p.underWay.join()}}`)}::text[],
        ${places.map((p) => p.notices.count)}::integer[], ${places.map((p) => p.notices.newest)}::uuid[])
        with ordinality as place (device_id, subscriber_id, boot, epoch, under_way, notices, newest, n)
    ), found as (
      select n,
        (select stream_boot = place.boot and stream_epoch = place.epoch and state = 'ACTIVE'
         from premise_core.devices where id = place.device_id limit 1) is true as own,
        (select true from premise_core.messages
         where subscriber_id = place.subscriber_id and open and expires_at > now() and not place.device_id = any (fetched_by)
           and not unique_id = any (place.under_way)
           and ${isFor(sql, "messages", sql`place.device_id`)}
         limit 1) is true
        or (select waiting.count <> place.notices or waiting.newest is distinct from place.newest
            from ${noticesWaiting(sql, sql`place.device_id`)} as waiting) as news,
        case when cardinality(place.under_way) > 0 then array(
          select sent.id from unnest(place.under_way) as sent (id)
          where (select open and expires_at > now() and not place.device_id = any (fetched_by)
                 from premise_core.messages where unique_id = sent.id limit 1) is not true
        ) end as settled
      from place
    )
    select n, own, news, settled from found where not own or news or cardinality(settled) > 0`,
  );
  return rows.map((row) => ({ ...row, settled: row.settled ?? [] }));
}
