/** What nodes did to pages, by the database's own history: whether anything was done twice, or by two nodes at once. */
import type postgres from "postgres";

/** Both on the database's clock, ms since 1970. */
export type Window = { readonly from: number; readonly to: number };

/**
 * What may not have been so, as sentences: a status entered twice, a wake-up concluded twice, or one node's wake-up taken over by
 * another while it was still claimed, outside the `takeovers`.
 */
export async function stepFaults(sql: postgres.Sql, takeovers: readonly Window[]): Promise<string[]> {
  const twice = await sql<{ id: string; event: string; times: number }[]>`
    select unique_id as id, event, count(*)::integer as times from premise_core.message_history
    where event in ('ACCEPTED', 'QUEUED', 'ENROUTE', 'DELIVERED', 'READ', 'ACKNOWLEDGED', 'IGNORED', 'FAILED')
    group by unique_id, event having count(*) > 1`;
  const pushed = await sql<{ id: string; detail: string }[]>`
    select unique_id as id, detail from premise_core.message_history
    where event in ('ENROUTE', 'PUSH') group by unique_id, detail having count(*) > 1`;
  const taken = await sql<{ id: string; first: string; second: string; at: number }[]>`
    select unique_id as id, node as first, next_node as second, extract(epoch from next_at)::double precision * 1000 as at
    from (
      select unique_id, event, node, at, lead(event) over steps as next_event, lead(node) over steps as next_node,
        lead(at) over steps as next_at
      from premise_core.message_history
      where event in ('QUEUED', 'WAKE', 'ENROUTE', 'PUSH', 'WAIT', 'FAILED', 'EXPIRED')
      window steps as (partition by unique_id order by seq)
    ) as step
    where event in ('QUEUED', 'WAKE') and next_event = 'WAKE' and next_node <> node
      and next_at < at + case event when 'QUEUED' then interval '2500 ms' else interval '15 s' end`;
  return [
    ...twice.map(({ id, event, times }) => `${event} of ${id} was entered ${times} times`),
    ...pushed.map(({ id, detail }) => `the wake-up ${detail} of ${id} was concluded twice`),
    ...taken
      .filter(({ at }) => !takeovers.some(({ from, to }) => at >= from && at <= to))
      .map(({ id, first, second }) => `${second} took ${id} from ${first}, which was not lost`),
  ];
}
