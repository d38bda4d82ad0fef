/**
 * Steps that a lost node had claimed and not concluded. They are given back with their number, so that whoever claims the
 * step anew asks for the very notification the lost one may have handed over: it is made once.
 *
 *   QUEUED | WAKE by the lost node, wake-up n ─► RELEASE, n - 1 wake-ups claimed, due now ─► WAKE by the owner, wake-up n
 *
 * The version rises with it: what the lost node still writes, if it is not lost at all, finds the row changed.
 */
import { type BootId, PRIORITIES } from "../domain.ts";
import type { Database } from "./database.ts";
import { isGone } from "./leases.ts";
import { CLAIM_MS } from "./messages.ts";

/**
 * Of those among `boots` that are still silent and without their lock, or without a lease, and not written off yet: do it before that, since nobody
 * asks again afterwards. A living namesake may lose a claim to it, and with it nothing, since the number stays.
 *
 * @returns how many, at most `limit` of each priority
 */
export async function releaseClaims(
  database: Database,
  node: string,
  boots: readonly BootId[],
  limit: number,
): Promise<number> {
  const rows = await database.run<{ released: number }>(
    (sql) => sql`
    with lost as (
      select name from premise_core.nodes
      where boot = any (${[...boots]}::uuid[]) and state <> 'DEAD'
        and ${isGone(sql)}
    ), claimed as (
      select page.* from unnest(${[...PRIORITIES.keys()]}::smallint[]) as lane (priority)
      cross join lateral (
        select unique_id, version from premise_core.messages
        where priority = lane.priority and due_at > now() and due_at <= now() + ${CLAIM_MS} * interval '1 ms'
          and (
            select true from premise_core.message_history as history
            where history.unique_id = messages.unique_id and history.seq = messages.version
              and history.event in ('QUEUED', 'WAKE') and history.node in (select name from lost)
            limit 1
          ) is true
        order by due_at
        limit ${limit}
        for update skip locked
      ) as page
      where exists (select from lost)
    ), released as (
      update premise_core.messages as message set version = message.version + 1, due_at = now(), wakeups = message.wakeups - 1,
        -- A wake-up of one that was DELIVERED was a reminder; a node of the version before did not count it.
        reminders = greatest(0, message.reminders - case when message.status >= 4 then 1 else 0 end)
      from claimed
      where message.unique_id = any (array[claimed.unique_id]) and message.version = claimed.version
      returning message.unique_id, message.version
    ), history as (
      insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
      select unique_id, version, 'RELEASE', clock_timestamp(), ${node}, 'the node that had claimed it was lost' from released
    )
    select count(*)::integer as released from released`,
  );
  return rows[0]!.released;
}
