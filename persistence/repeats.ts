/**
 * Answering a page that is there already: its host is told ACCEPTED and where it stands, in place of what still waits to be told.
 * A FAILED that waits is told before what came after it: the host must page somebody else, whoever has read this one since. Replies
 * that wait are told behind where it stands: nothing else holds them.
 */
import type { LinkId, UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { laneOf } from "./outbox.ts";

export type Repeat = { readonly uniqueId: UniqueId; readonly linkId: LinkId | null };

/** A page that keeps changing is answered with whatever waits for it, after so many tries. */
const TRIES = 5;

/**
 * The answer goes, like all later news of the page, by the connection that brought it last. What was waiting goes: it
 * would come late behind this. No two may share a uniqueId.
 */
export async function answerRepeats(database: Database, repeats: readonly Repeat[]): Promise<void> {
  let left = repeats;
  for (let tries = 1; left.length > 0 && tries <= TRIES; tries += 1) {
    const answered = await answerOnce(database, left);
    left = left.filter(({ uniqueId }) => !answered.has(uniqueId));
  }
}

/** One statement; leaves out pages that somebody changed while it ran, whose new status it cannot take out of the outbox. */
async function answerOnce(database: Database, repeats: readonly Repeat[]): Promise<ReadonlySet<UniqueId>> {
  const rows = await database.run<{ unique_id: UniqueId }>(
    (sql) => sql`
    with input as (
      select * from unnest(${repeats.map((r) => r.uniqueId)}::uuid[], ${repeats.map((r) => r.linkId)}::uuid[]) as repeat (unique_id, link_id)
      order by unique_id
    ), page as (
      select message.unique_id, message.host_system_id, coalesce(input.link_id, message.link_id) as link_id, message.told,
        case when message.told = 'FAILED' then message.outcome_reason end as reason
      from input
      cross join lateral (select * from premise_core.messages where unique_id = input.unique_id for update) as message
      cross join lateral (
        select from premise_core.messages
        where unique_id = message.unique_id and version = message.version and repeats = message.repeats limit 1
      ) as seen
    ), counted as (
      update premise_core.messages as message set link_id = page.link_id, repeats = message.repeats + 1
      from page where message.unique_id = any (array[page.unique_id])
    ), overtaken as (
      delete from premise_core.host_outbox as row
      where (row.unique_id in (select unique_id from page)) is true and row.lane = any (array(
        select host_system_id from page
        union
        select id from premise_core.host_links where host_system_id in (select host_system_id from page)))
      returning row.unique_id, row.status, row.id, row.at, row.said_at, row.reason, row.reply_id
    ), steps as (
      select unique_id, host_system_id, link_id, 1::bigint as seq, 'ACCEPTED' as status, clock_timestamp() as at,
        null::timestamptz as said_at, null as reason, null::uuid as reply_id
      from page
      union all
      select page.unique_id, page.host_system_id, page.link_id, 2, 'FAILED', min(overtaken.at), null, min(overtaken.reason), null
      from page join overtaken using (unique_id)
      where overtaken.status = 'FAILED' and page.told <> 'FAILED'
      group by page.unique_id, page.host_system_id, page.link_id
      union all
      select unique_id, host_system_id, link_id, 3, told, clock_timestamp(), null, reason, null from page
      union all
      select page.unique_id, page.host_system_id, page.link_id, 3 + overtaken.id, overtaken.status, overtaken.at, overtaken.said_at, null,
        overtaken.reply_id
      from page join overtaken using (unique_id)
      where overtaken.status = 'REPLY'
    ), told as (
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at, said_at, reason, reply_id)
      select ${laneOf(sql, "steps")}, host_system_id, unique_id, status, at, said_at, reason, reply_id from steps
      order by unique_id, seq
    )
    select unique_id from page`,
  );
  return new Set(rows.map((row) => row.unique_id));
}
