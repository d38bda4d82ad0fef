/**
 * Pages that went out by streams: their history says by which, and as which of its frames (`<device> stream <epoch>:<seq>`), so that a
 * phone that comes again to any node is not sent what it has. Written behind the sending, which does not wait for it: what was lost
 * with a node is sent again. What is confirmed before goes with its receipt (receipts.ts), and not by these.
 */
import { type DeviceId, PRIORITIES, type Priority, type SubscriberId, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { type Lane, laneOf } from "./outbox.ts";
import { isFor } from "./page-devices.ts";

/** Which frame of which stream. */
export type StreamFrame = {
  readonly epoch: string;
  /** 0: the phone had it when this stream began. */
  readonly seq: number;
};
export type StreamSend = StreamFrame & { readonly uniqueId: UniqueId; readonly deviceId: DeviceId };

/** Of a page that is ENROUTE by it, which its host is told; null: nothing was to be told. */
export type StreamSent = {
  readonly lane: Lane;
  readonly priority: Priority;
  readonly synthetic: boolean;
  readonly ageSeconds: number;
} | null;

/** As the history says it, and `sendsOfStreams` finds it. */
export function sentBy(deviceId: DeviceId, { epoch, seq }: StreamFrame): string {
  return `${deviceId} stream ${epoch}:${seq}`;
}

type SentRow = { unique_id: UniqueId; lane: Lane; priority: number; synthetic: boolean; age: number };

/**
 * ENROUTE where the page was below it, else a line of history only; nothing where the device has confirmed it meanwhile. Answers in
 * the order of `sends`; one entry a message.
 */
export async function recordSends(
  database: Database,
  node: string,
  sends: readonly StreamSend[],
): Promise<StreamSent[]> {
  const rows = await database.run<SentRow>(
    (sql) => sql`
    with input as (
      select * from unnest(
        ${sends.map((s) => s.uniqueId)}::uuid[], ${sends.map((s) => s.deviceId)}::uuid[],
        ${sends.map((s) => sentBy(s.deviceId, s))}::text[]
      ) as send (unique_id, device_id, detail)
      order by unique_id
    ), before as (
      select message.unique_id, message.status < 3 and message.outcome is null as tells, message.priority, message.synthetic,
        message.accepted_at, input.detail
      from input
      cross join lateral (
        select unique_id, status, outcome, priority, synthetic, accepted_at, fetched_by
        from premise_core.messages where unique_id = input.unique_id
        for update
      ) as message
      where not input.device_id = any (message.fetched_by)
    ), changed as (
      update premise_core.messages as message set
        version = message.version + 1,
        status = case when before.tells then 3 else message.status end,
        told = case when before.tells then 'ENROUTE' else message.told end
      from before
      where message.unique_id = any (array[before.unique_id])
      returning message.unique_id, message.version, message.host_system_id, message.link_id, before.tells, before.detail,
        before.priority, before.synthetic, before.accepted_at
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, case when tells then 'ENROUTE' else 'STREAM' end, clock_timestamp(), ${node}, detail from changed
    ), lanes as (
      select changed.*, ${laneOf(sql, "changed")} as lane from changed where tells
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      select lane, host_system_id, unique_id, 'ENROUTE', clock_timestamp() from lanes
    )
    select unique_id, lane, priority, synthetic,
      extract(epoch from clock_timestamp() - accepted_at)::double precision as age
    from lanes`,
  );
  const told = new Map(rows.map((row) => [row.unique_id, row]));
  return sends.map(({ uniqueId }) => {
    const row = told.get(uniqueId);
    if (row === undefined) return null;
    const { lane, priority, synthetic, age } = row;
    return { lane, priority: PRIORITIES[priority]!, synthetic, ageSeconds: age };
  });
}

/** A phone that comes again, and its stream before. */
export type StreamBefore = {
  readonly deviceId: DeviceId;
  readonly subscriberId: SubscriberId;
  readonly epoch: string;
};

/** Of the first `limit` pages that wait for each device, those that went out by that stream, and as which frame. In the order of `streams`. */
export async function sendsOfStreams(
  database: Database,
  streams: readonly StreamBefore[],
  limit: number,
): Promise<{ readonly uniqueId: UniqueId; readonly seq: number }[][]> {
  const rows = await database.run<{ n: number; unique_id: UniqueId; seq: number }>(
    (sql) => sql`
    select asker.n::integer as n, page.unique_id, sent.seq
    from unnest(${streams.map((s) => s.deviceId)}::uuid[], ${streams.map((s) => s.subscriberId)}::uuid[], ${streams.map((s) => s.epoch)}::uuid[])
      with ordinality as asker (device_id, subscriber_id, epoch, n)
    cross join lateral (
      select unique_id from premise_core.messages
      where subscriber_id = asker.subscriber_id and open and expires_at > now() and not asker.device_id = any (fetched_by)
        and ${isFor(sql, "messages", sql`asker.device_id`)}
      order by priority, accepted_at, sent_at, unique_id
      limit ${limit}
    ) as page
    cross join lateral (
      select substring(detail from '[0-9]+$')::integer as seq from premise_core.message_history
      where unique_id = page.unique_id and event in ('ENROUTE', 'STREAM')
        and starts_with(detail, asker.device_id || ' stream ' || asker.epoch || ':')
      order by message_history.seq desc
      limit 1
    ) as sent
    order by n`,
  );
  const found: { uniqueId: UniqueId; seq: number }[][] = streams.map(() => []);
  for (const { n, unique_id, seq } of rows) found[n - 1]!.push({ uniqueId: unique_id, seq });
  return found;
}
