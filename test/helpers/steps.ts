/** What nodes did to pages, by the database's own history: whether anything was done twice, or by two nodes at once. */
import type postgres from "postgres";
import { FIRST_WAKE_CLAIM } from "../../persistence/acceptance.ts";
import { CLAIM_MS } from "../../persistence/messages.ts";

/** Less than the least a claim lasts: what the clock of a database that takes over may be behind. */
const CLOCKS_MS = 200;

/**
 * The first wake-up is claimed for as long with the insert as when it was released and all its devices listen; every other for longer.
 *
 * What may not have been so, as sentences: a status entered twice, a wake-up concluded twice, or one that a node had claimed taken
 * up by another before the claim was over or released: then two drove the page at once.
 */
export async function stepFaults(sql: postgres.Sql): Promise<string[]> {
  const twice = await sql<{ id: string; event: string; times: number }[]>`
    select unique_id as id, event, count(*)::integer as times from premise_core.message_history
    where event in ('ACCEPTED', 'QUEUED', 'ENROUTE', 'DELIVERED', 'READ', 'ACKNOWLEDGED', 'IGNORED', 'FAILED')
    group by unique_id, event having count(*) > 1`;
  const pushed = await sql<{ id: string; detail: string }[]>`
    select unique_id as id, detail from premise_core.message_history
    where event in ('ENROUTE', 'PUSH') group by unique_id, detail having count(*) > 1`;
  const taken = await sql<{ id: string; first: string; second: string }[]>`
    select unique_id as id, node as first, next_node as second
    from (
      select unique_id, event, node, at, lead(event) over steps as next_event, lead(node) over steps as next_node,
        lead(at) over steps as next_at,
        sum(case when event in ('QUEUED', 'WAKE') then 1 when event = 'RELEASE' then -1 else 0 end) over steps as wakeup
      from premise_core.message_history
      where event in ('QUEUED', 'WAKE', 'RELEASE', 'ENROUTE', 'PUSH', 'WAIT', 'FAILED', 'EXPIRED')
      window steps as (partition by unique_id order by seq)
    ) as step
    where event in ('QUEUED', 'WAKE') and next_event = 'WAKE' and next_node <> node
      and next_at < at - ${CLOCKS_MS} * interval '1 ms' + case when wakeup = 1 then ${FIRST_WAKE_CLAIM}::text::interval
        else ${CLAIM_MS} * interval '1 ms' end`;
  return [
    ...twice.map(({ id, event, times }) => `${event} of ${id} was entered ${times} times`),
    ...pushed.map(({ id, detail }) => `the wake-up ${detail} of ${id} was concluded twice`),
    ...taken.map(({ id, first, second }) => `${second} took up the wake-up of ${id} that was claimed by ${first}`),
  ];
}
