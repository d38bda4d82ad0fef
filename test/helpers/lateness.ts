/** How late pages were, as the database's own history and clock tell it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";

const LOOK_MS = 100;

/**
 * Of the pages accepted in that time (the database's clock, ms since 1970): how many there were, and how long the latest of them
 * took from ACCEPTED to its phone; ms, Infinity when one is not there `limitMs` after the time's end.
 */
export async function lateness(
  cluster: Cluster,
  { from, until }: { readonly from: number; readonly until: number },
  limitMs: number,
): Promise<{ readonly ms: number; readonly pages: number }> {
  for (;;) {
    const now = await cluster.now();
    const [row] = await cluster.sql()<{ pages: number; there: number; ms: number | null }[]>`
      select count(*)::integer as pages, count(first.at)::integer as there,
        extract(epoch from max(first.at - message.accepted_at))::double precision * 1000 as ms
      from premise_core.messages as message
      cross join lateral (
        select min(at) as at from premise_core.message_history as history
        where history.unique_id = message.unique_id and event in ('DELIVERED', 'READ')
      ) as first
      where message.accepted_at between to_timestamp(${from / 1_000}) and to_timestamp(${until / 1_000})`;
    const { pages, there, ms } = row!;
    if (pages === there) return { ms: ms ?? 0, pages };
    if (now > until + limitMs) return { ms: Number.POSITIVE_INFINITY, pages };
    await sleep(LOOK_MS);
  }
}
