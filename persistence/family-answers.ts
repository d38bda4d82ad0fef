/**
 * When one of those that have a page has answered, the phones of the others hear so. An answer writes its own row alone (decision 23);
 * of a page with a family it leaves it due now, and whoever drives it runs this ONE statement, which may be done twice.
 *
 *   answered ─► due now ─┐
 *                        ├─► this ─► each other: answered_by, a notice for each of its phones; nothing is due for it any more
 *   one that finds so ───┘       └─► who answered: answered_by, nothing is due for it any more; last, when all others have it
 *
 * One that joins meanwhile is not seen here, and finds out when it is due itself: three seconds after it was made.
 */
import type { DeviceId, UniqueId } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";
import { noticesOfAnswers } from "./device-notices.ts";
import { answers } from "./page-family.ts";

/** Of one family in one statement. While there are more, who answered stays due. */
const MEMBERS_MAX = 250;

type Row = { page: UniqueId; devices: DeviceId[] };

/** Of the families of these pages; answers in the order of `pages` with the devices that have a notice waiting. */
export async function tellFamilies(
  database: Database,
  node: string,
  pages: readonly UniqueId[],
): Promise<(readonly DeviceId[])[]> {
  const rows = await database.run<Row>(
    (sql) => sql`
    with page as materialized (
      select page.id, message.root from unnest(${[...pages]}::uuid[]) as page (id)
      cross join lateral (
        select coalesce(parent_id, unique_id) as root from premise_core.messages where unique_id = page.id limit 1
      ) as message
    ), family as materialized (
      select root.id as root, given.unique_id as given_by,
        -- Who declined and then replied has answered by the reply.
        case when given.answer = 'ACKNOWLEDGED' then given.answer end as answer
      from (select distinct root from page) as root (id)
      cross join lateral (
        ${membersWho(sql, sql`root.id`, answers(sql, "kin"))}
        limit 1
      ) as given
    ), others as materialized (
      select family.root, family.given_by, family.answer, member.unique_id
      from family cross join lateral (
        ${membersWho(sql, sql`family.root`, sql`${isUntold(sql)} and not ${answers(sql, "kin")}`)}
        limit ${MEMBERS_MAX}::integer
      ) as member
    ), members as (
      select root, given_by, answer, unique_id from others
      union all
      select family.root, member.unique_id, null, member.unique_id
      from family cross join lateral (
        ${membersWho(sql, sql`family.root`, sql`${isUntold(sql)} and ${answers(sql, "kin")}`)}
      ) as member
      where (select count(*) from others where others.root = family.root) < ${MEMBERS_MAX}::integer
    ), held as (
      select members.root, members.given_by, members.answer as given, message.*
      from (select * from members order by unique_id) as members
      cross join lateral (
        select unique_id, answer, replied_at, answered_by, outcome from premise_core.messages
        where unique_id = members.unique_id for update
      ) as message
    ), changed as (
      update premise_core.messages as message set
        version = message.version + 1,
        answered_by = held.given_by,
        due_at = case when message.open then message.expires_at end
      from held
      where message.unique_id = any (array[held.unique_id]) and held.answered_by is null and held.outcome is distinct from 'RECALLED'
      returning message.unique_id, message.version, message.subscriber_id, message.device_id, message.expires_at, held.root, held.given_by,
        held.given, held.answer is null and held.replied_at is null as hears
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, 'ANSWERED', clock_timestamp(), ${node},
        case when given_by = unique_id then 'the others who have it were told' else 'by another who has it: ' || given_by end
      from changed
    ), answered as (
      select unique_id, subscriber_id, device_id, expires_at, null::uuid as by_device, given as answer, true as by_other
      from changed where hears
    ), ${noticesOfAnswers(sql)}
    select page.id as page, told.devices
    from page join (
      select changed.root, array_agg(noticed.device_id) as devices from noticed join changed using (unique_id) group by changed.root
    ) as told using (root)`,
  );
  const devices = new Map(rows.map((row) => [row.page, row.devices]));
  return pages.map((page) => devices.get(page) ?? []);
}

/** Of the family of that page, those of whom (as `kin`) that holds: (unique_id, answer). */
function membersWho(sql: Sql, root: Fragment, holds: Fragment): Fragment {
  return sql`
        select kin.unique_id, kin.answer from premise_core.messages as kin where kin.unique_id = ${root} and ${holds}
        union all
        select kin.unique_id, kin.answer from premise_core.messages as kin where kin.parent_id = ${root} and ${holds}`;
}

function isUntold(sql: Sql): Fragment {
  return sql`kin.answered_by is null and kin.outcome is distinct from 'RECALLED'`;
}
