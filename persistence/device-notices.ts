/**
 * What devices that may have shown a page have yet to hear of it: that it was recalled, has expired, or was answered, by another
 * device of the same person or by somebody else it was passed on to. Written in the statement that brings it about, told with every fetch and by the stream for as long
 * as the device has not confirmed it, and forgotten when it has, or by `expires_at`.
 */
import type { Answer, DeviceId, UniqueId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";
import { isFor } from "./page-devices.ts";

export type NoticeKind = "RECALLED" | "EXPIRED" | "ANSWERED";

export type DeviceNotice = {
  readonly noticeId: string;
  readonly deviceId: DeviceId;
  readonly uniqueId: UniqueId;
  readonly kind: NoticeKind;
  /** Of ANSWERED: which; null: by a reply. */
  readonly answer: Answer | null;
  /** Of ANSWERED: not by the same person, but by somebody else who has the page. */
  readonly byOther: boolean;
  readonly at: Date;
  /** The stream it last went out by, and its number there; null: by none. */
  readonly sentEpoch: string | null;
  readonly sentSeq: number | null;
};

/** In one answer to a device, and under way by its stream; the rest comes when these are confirmed. */
export const NOTICES_MAX = 100;

/** Devices of one person that are told of an answer; nobody carries so many. */
const ANSWERED_MAX = 100;

/**
 * Writes a notice for each device of a page's recipient but the one that answered, as the statement's `noticed` (unique_id,
 * device_id). Its `answered` has the pages: (unique_id, subscriber_id, device_id, expires_at, by_device, answer, by_other).
 */
export function noticesOfAnswers(sql: Sql): Fragment {
  return sql`noticed as (
      insert into premise_core.device_notices (device_id, unique_id, kind, answer, by_other, expires_at)
      select other.id, answered.unique_id, 'ANSWERED', answered.answer, answered.by_other, answered.expires_at
      from answered cross join lateral (
        select id from premise_core.devices
        where subscriber_id = answered.subscriber_id and state = 'ACTIVE' and id is distinct from answered.by_device
          and ${isFor(sql, "answered", sql`devices.id`)}
        limit ${ANSWERED_MAX}::integer
      ) as other
      where answered.expires_at > clock_timestamp()
      on conflict do nothing
      returning unique_id, device_id
    )`;
}

/**
 * The newest notices of each of these devices, so many each at most; a device's own in order. One that never confirms must hear what
 * is new all the same: what is old leaves by its expiry.
 */
export async function noticesOf(
  premise: Database,
  devices: readonly DeviceId[],
  limitEach: number,
): Promise<DeviceNotice[]> {
  return premise.run<DeviceNotice>(
    (sql) => sql`
    select notice.id as "noticeId", caller.id as "deviceId", notice.unique_id as "uniqueId", notice.kind, notice.answer,
      notice.by_other as "byOther", notice.at,
      notice.sent_epoch as "sentEpoch", notice.sent_seq as "sentSeq"
    from unnest(${[...devices]}::uuid[]) with ordinality as caller (id, n)
    cross join lateral (
      select * from premise_core.device_notices
      where device_id = caller.id and expires_at > clock_timestamp()
      order by at desc, id desc
      limit ${limitEach}
    ) as notice
    order by caller.n, notice.at, notice.id`,
  );
}

/** Of a device's newest notices, NOTICES_MAX at most: whether they are those a phone was told can be told by it. */
export type NoticesWaiting = { readonly count: number; readonly newest: string | null };

/** A row as NoticesWaiting. `device`: its id, in the statement. */
export function noticesWaiting(sql: Sql, device: Fragment): Fragment {
  return sql`(select count(*)::integer as count, (array_agg(id order by at desc, id desc))[1] as newest
    from (
      select id, at from premise_core.device_notices where device_id = ${device} and expires_at > now()
      order by at desc, id desc limit ${NOTICES_MAX}::integer
    ) as notice)`;
}

export type NoticeEntry = { readonly deviceId: DeviceId; readonly noticeId: string };

/** Forgets them; answers in the order of `entries` whether each was one of that device's. */
export async function confirmNotices(premise: Database, entries: readonly NoticeEntry[]): Promise<boolean[]> {
  const rows = await premise.run<{ id: string }>(
    (sql) => sql`
    with input as (
      select * from unnest(${entries.map((e) => e.noticeId)}::uuid[], ${entries.map((e) => e.deviceId)}::uuid[]) as confirmed (id, device_id)
      order by id
    ), held as (
      select notice.id from input cross join lateral (
        select id from premise_core.device_notices where id = input.id and device_id = input.device_id for update
      ) as notice
    )
    delete from premise_core.device_notices as notice using held where notice.id = any (array[held.id])
    returning notice.id`,
  );
  const gone = new Set(rows.map((row) => row.id));
  return entries.map(({ noticeId }) => gone.has(noticeId.toLowerCase()));
}

/** By which stream, and as which of its frames, each went out last. */
export async function recordNoticesSent(
  database: Database,
  entries: readonly { readonly noticeId: string; readonly epoch: string; readonly seq: number }[],
): Promise<void> {
  await database.run(
    (sql) => sql`
    update premise_core.device_notices as notice set sent_epoch = sent.epoch, sent_seq = sent.seq
    from unnest(${entries.map((e) => e.noticeId)}::uuid[], ${entries.map((e) => e.epoch)}::uuid[], ${entries.map((e) => e.seq)}::integer[])
      as sent (id, epoch, seq)
    where notice.id = any (array[sent.id])`,
  );
}

export type NoticesHeld = {
  readonly deviceId: DeviceId;
  /** The phone's last stream, and the last frame it has of it. */
  readonly epoch: string;
  readonly seq: number;
  /** Its stream from now on, in which they count as sent. */
  readonly next: string;
};

/** Which notices a phone that comes again has and has not confirmed yet. Answers in the order of `held`; one entry a device. */
export async function carryNotices(database: Database, held: readonly NoticesHeld[]): Promise<string[][]> {
  const rows = await database.run<{ id: string; device_id: DeviceId }>(
    (sql) => sql`
    update premise_core.device_notices as notice set sent_epoch = held.next, sent_seq = 0
    from unnest(${held.map((h) => h.deviceId)}::uuid[], ${held.map((h) => h.epoch)}::uuid[], ${held.map((h) => h.seq)}::integer[],
      ${held.map((h) => h.next)}::uuid[]) as held (device_id, epoch, seq, next)
    where notice.device_id = any (array[held.device_id]) and notice.sent_epoch = held.epoch and notice.sent_seq <= held.seq
    returning notice.id, notice.device_id`,
  );
  return held.map(({ deviceId }) => rows.flatMap((row) => (row.device_id === deviceId ? [row.id] : [])));
}
