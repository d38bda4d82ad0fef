/** What the database holds of a page that did not come to its end, as lines, for whoever must find out why. */
import type postgres from "postgres";

/** What each node says of itself. */
export async function readiness(urls: readonly string[]): Promise<string[]> {
  return Promise.all(
    urls.map(async (url) => {
      try {
        const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) });
        return `${url}/readyz: ${answer.status} ${await answer.text()}`;
      } catch (error) {
        return `${url}/readyz: ${(error as Error).name}`;
      }
    }),
  );
}

/** @param page its trackingId, which those it was passed on to have as well, or one's own id */
export async function autopsy(sql: postgres.Sql, page: string): Promise<string[]> {
  const pages = await sql<{ id: string; host: string; line: string }[]>`
    select unique_id as id, host_system_id as host, format('status %s told %s due in %s version %s link %s', status, told,
      due_at - clock_timestamp(), version, link_id) as line
    from premise_core.messages where tracking_id = ${page} or unique_id::text = ${page}`;
  const lines: string[] = [];
  for (const { id, host, line } of pages) {
    const history = await sql<{ line: string }[]>`
      select format('%s %s by %s, %s ago: %s', seq, event, node, clock_timestamp() - at, detail) as line
      from premise_core.message_history where unique_id = ${id} order by seq`;
    const outbox = await sql<{ line: string }[]>`
      select format('to be told: %s in lane %s (link of %s, closed %s), written %s (now %s), row %s', status, lane, name, closed_at, written,
        pg_snapshot_xmin(pg_current_snapshot()), row.id) as line
      from premise_core.host_outbox as row
      left join premise_core.host_links as link on link.id = lane left join premise_core.nodes on boot = node_boot
      where unique_id = ${id} order by row.id`;
    const links = await sql<{ line: string }[]>`
      select format('link %s on %s (%s), opened %s ago, %s rows', link.id, name, state, clock_timestamp() - opened_at,
        (select count(*) from premise_core.host_outbox where lane = link.id)) as line
      from premise_core.host_links as link left join premise_core.nodes on boot = node_boot
      where host_system_id = ${host} and closed_at is null order by opened_at`;
    lines.push(`${page} ${id}: ${line}`, ...[...history, ...outbox, ...links].map((row) => `  ${row.line}`));
  }
  return lines.length > 0 ? lines : [`${page}: no such page`];
}
