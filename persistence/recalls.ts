/**
 * Withdrawing a page that an operator recalls, and with it all pages by which it was passed on: ONE statement, under the locks of
 * their rows. Whatever is left of them is told and recorded still: a receipt, an answer, a reply.
 *
 *   any state ─► outcome RECALLED ─┬─► out of every inbox, no deadline stands any more: no reminder, nothing passed on
 *                                  ├─► its host hears FAILED, unless it was told an outcome before
 *                                  ├─► a notice for each phone it is for: one may show it without having said so
 *                                  └─► due at once where a phone was woken for it: the driver wakes those without a stream
 *
 * RECALLED takes the place of an outcome from before, which stays in the history; outcome_reason is still what the host was told.
 */
import { type DeviceId, PRIORITIES, type Priority, type UniqueId } from "../domain.ts";
import { Conflict, type Database, urgently } from "./database.ts";
import { type Lane, laneOf } from "./outbox.ts";
import { isFor } from "./page-devices.ts";

export type Recall = {
  readonly uniqueId: UniqueId;
  /** Who: the name of an API key. */
  readonly by: string;
  /** The operator's words; for the history alone. */
  readonly reason: string | null;
};

export type RecalledPage = {
  readonly uniqueId: UniqueId;
  /** Where its host has news waiting; null: it was told an outcome before. */
  readonly news: Lane | null;
  readonly priority: Priority;
  /** A test page of our own. */
  readonly synthetic: boolean;
  /** How long ago the page was accepted. */
  readonly ageSeconds: number;
};

/** What was recalled by this, which is nothing where it had been before, and the devices that are to hear of it. */
export type Recalled = { readonly pages: readonly RecalledPage[]; readonly devices: readonly DeviceId[] };

/** What the host hears. */
export const RECALL_REASON = "recalled by an operator";
/** Pages in one statement; a page passed on to more is recalled by as many as it takes. */
const PAGES_MAX = 500;
const TRIES = 20;
/** So long a listening phone has to confirm the notice before it is woken for it. */
const STREAM_CONFIRMS = "3 seconds";
/** How long a phone that is switched off may take to hear of it, at least. */
const NOTICE_KEPT = "7 days";

type Row = {
  known: boolean;
  whole: boolean;
  more: boolean;
  pages: (Omit<RecalledPage, "priority"> & { priority: number })[] | null;
  devices: DeviceId[] | null;
};

/** null: there is no such page. @throws Conflict when it changed under each try */
export async function recallPage(database: Database, node: string, recall: Recall): Promise<Recalled | null> {
  const pages: RecalledPage[] = [];
  const devices = new Set<DeviceId>();
  for (let tries = 0; tries < TRIES; tries += 1) {
    const row = await recallOnce(urgently(database), node, recall);
    if (!row.known) return null;
    for (const page of row.pages ?? []) pages.push({ ...page, priority: PRIORITIES[page.priority]! });
    for (const device of row.devices ?? []) devices.add(device);
    if (row.whole && !row.more) return { pages, devices: [...devices] };
  }
  throw new Conflict();
}

async function recallOnce(database: Database, node: string, { uniqueId, by, reason }: Recall): Promise<Row> {
  const [row] = await database.run<Row>(
    (sql) => sql`
    with family as (
      select unique_id from (
        select ${uniqueId}::uuid as unique_id
        union all
        (select unique_id from premise_core.messages
         where parent_id = ${uniqueId} and outcome is distinct from 'RECALLED'
         limit ${PAGES_MAX})
      ) as member
      order by unique_id
    ), held as (
      select message.* from family cross join lateral (
        select unique_id, version, status, outcome from premise_core.messages where unique_id = family.unique_id for update
      ) as message
    ), whole as (
      -- Passed on by a statement that ended while this one waited for the lock, it has children that are not seen here.
      select true as whole from held cross join lateral (
        select from premise_core.messages where unique_id = held.unique_id and version = held.version limit 1
      ) as seen
      where held.unique_id = ${uniqueId}
    ), changed as (
      update premise_core.messages as message set
        version = message.version + 1,
        outcome = 'RECALLED',
        outcome_reason = case when message.outcome is null then ${RECALL_REASON}::text else message.outcome_reason end,
        told = case when message.outcome is null then 'FAILED' else message.told end,
        open = false,
        user_deadline = null,
        step_deadline = null,
        due_at = case when message.status >= 3 and message.expires_at > clock_timestamp() then
          clock_timestamp() + case when (
            select bool_or(stream_boot is not null) from premise_core.devices
            where subscriber_id = message.subscriber_id and state = 'ACTIVE'
          ) then ${STREAM_CONFIRMS}::text::interval else interval '0' end end
      from held
      where message.unique_id = any (array[held.unique_id]) and held.outcome is distinct from 'RECALLED' and (select whole from whole)
      returning message.unique_id, message.version, message.host_system_id, message.link_id, message.subscriber_id, message.device_id,
        message.priority, message.synthetic, message.expires_at, held.outcome is null as tells,
        extract(epoch from clock_timestamp() - message.accepted_at)::double precision as age
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, 'RECALLED', clock_timestamp(), ${node}, ${reason === null ? `by ${by}` : `by ${by}: ${reason}`}::text from changed
    ), lanes as (
      select changed.*, ${laneOf(sql, "changed")} as lane from changed
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at, reason)
      select lane, host_system_id, unique_id, 'FAILED', clock_timestamp(), ${RECALL_REASON}::text from lanes where tells
    ), noticed as (
      insert into premise_core.device_notices (device_id, unique_id, kind, expires_at)
      select device.id, changed.unique_id, 'RECALLED',
        greatest(changed.expires_at + interval '1 day', clock_timestamp() + ${NOTICE_KEPT}::text::interval)
      from changed cross join lateral (
        select id from premise_core.devices
        where subscriber_id = changed.subscriber_id and state = 'ACTIVE' and ${isFor(sql, "changed", sql`devices.id`)}
        offset 0
      ) as device
      on conflict (device_id, unique_id, kind) do nothing
      returning device_id
    )
    select (select true from held where unique_id = ${uniqueId}) is true as known, (select whole from whole) is true as whole,
      (select count(*) from family) > ${PAGES_MAX} as more,
      (select json_agg(json_build_object('uniqueId', unique_id, 'news', case when tells then lane end, 'priority', priority,
         'synthetic', synthetic, 'ageSeconds', age)) from lanes) as pages,
      (select json_agg(distinct device_id) from noticed) as devices`,
  );
  return row!;
}
