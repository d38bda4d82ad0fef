/** How long pages stood still because a node was lost, as the database's own history and clock tell it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";

/** What the node had in hand at an instant: pages under way that it drove, and its shards. */
export type InHand = { readonly at: number; readonly node: string; readonly shards: readonly number[] };

export type Recovery = {
  /** Pages that nobody but the lost node would have moved on at that instant. */
  readonly pages: number;
  /** Until the last of them moved, and until the last of its shards had another owner; ms. null: not within the limit. */
  readonly pagesMs: number | null;
  readonly shardsMs: number | null;
};

const LOOK_MS = 10;

/** To be asked at the fault, as near as may be. */
export async function inHand(cluster: Cluster, node: number): Promise<InHand> {
  const { name } = cluster.nodes[node]!;
  const shards = (await cluster.shards()).get(name) ?? [];
  return { at: await cluster.now(), node: name, shards };
}

/** Waits until all of it has moved on, at most `limitMs` from the fault. */
export async function recovery(cluster: Cluster, { at, node, shards }: InHand, limitMs: number): Promise<Recovery> {
  let shardsMs: number | null = null;
  while (shardsMs === null) {
    const now = await cluster.now();
    if (now > at + limitMs) break;
    const mine = (await cluster.shards()).get(node) ?? [];
    if (shards.every((shard) => !mine.includes(shard))) shardsMs = now - at;
    else await sleep(LOOK_MS);
  }
  for (;;) {
    const now = await cluster.now();
    const [row] = await cluster.sql()<{ pages: number; moved: number; last: number | null }[]>`
      with held as (
        select message.unique_id, last.seq
        from premise_core.messages as message
        cross join lateral (
          select seq, event, node from premise_core.message_history as history
          where history.unique_id = message.unique_id and history.at <= to_timestamp(${at / 1_000})
          order by seq desc limit 1
        ) as last
        where message.accepted_at <= to_timestamp(${at / 1_000}) and message.accepted_at > to_timestamp(${at / 1_000 - 30})
          and last.event in ('QUEUED', 'WAKE') and last.node = ${node}
      )
      select count(*)::integer as pages, count(next.at)::integer as moved,
        max(extract(epoch from next.at)::double precision * 1000) as last
      from held left join lateral (
        select at from premise_core.message_history as history
        where history.unique_id = held.unique_id and history.seq > held.seq and history.event <> 'RELEASE'
        order by seq limit 1
      ) as next on true`;
    const { pages, moved, last } = row!;
    if (pages === moved) return { pages, pagesMs: pages === 0 ? 0 : last! - at, shardsMs };
    if (now > at + limitMs) return { pages, pagesMs: null, shardsMs };
    await sleep(LOOK_MS * 5);
  }
}
