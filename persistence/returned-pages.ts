/**
 * Pages whose answer a phone gave up unread after it had counted as taken: they are in its inbox again. What its host was told stands,
 * DELIVERED; where no other phone has them either they are woken for again, and their deadline holds, as if none had been reached.
 */
import type { DeviceId, UniqueId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";

/** It is not passed on, nor FAILED, before its phone has had the time to ask again. */
const SPARED = "30 seconds";

/** A phone that never reads is not woken for ever. */
const RETURNS_MAX = 10;

/** Its row says DELIVERED, and no phone has it. */
export function isReturned(sql: Sql, page: string): Fragment {
  return sql`(${sql(page)}.status = 4 and ${sql(page)}.fetched_by = '{}')`;
}

/** A phone has it: what DELIVERED means to whoever acts by it. */
export function isHeld(sql: Sql, page: string): Fragment {
  return sql`(${sql(page)}.status >= 4 and not ${isReturned(sql, page)})`;
}

/** Not those that somebody has opened, answered or recalled meanwhile. Answers with those that came back. */
export async function returnPages(
  database: Database,
  node: string,
  deviceId: DeviceId,
  uniqueIds: readonly UniqueId[],
): Promise<UniqueId[]> {
  const rows = await database.run<{ unique_id: UniqueId }>(
    (sql) => sql`
    with before as (
      select page.unique_id, array_remove(page.fetched_by, ${deviceId}::uuid) as fetched_by
      from (select unnest(${[...uniqueIds].sort()}::uuid[]) as unique_id) as given
      cross join lateral (
        select unique_id, fetched_by, status, answer, replied_at, outcome, expires_at
        from premise_core.messages where unique_id = given.unique_id
        for update
      ) as page
      where ${deviceId}::uuid = any (page.fetched_by) and page.status = 4 and page.answer is null and page.replied_at is null
        and page.outcome is distinct from 'RECALLED' and page.expires_at > clock_timestamp()
        and (select count(*) from premise_core.message_history where unique_id = page.unique_id and event = 'RETURNED') < ${RETURNS_MAX}
    ), changed as (
      update premise_core.messages as message set
        version = message.version + 1,
        fetched_by = before.fetched_by,
        open = true,
        due_at = case when before.fetched_by = '{}' and message.outcome is null
          then clock_timestamp() else coalesce(message.due_at, message.expires_at) end,
        device_deadline = case when message.device_deadline is not null
          then greatest(message.device_deadline, clock_timestamp() + ${SPARED}::text::interval) end
      from before
      where message.unique_id = any (array[before.unique_id])
      returning message.unique_id, message.version
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, 'RETURNED', clock_timestamp(), ${node}, ${deviceId} from changed
    )
    select unique_id from changed`,
  );
  return rows.map((row) => row.unique_id);
}
