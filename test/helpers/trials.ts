/** What may befall a cluster, one thing at a time, and how long its pages stand still for it. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Cluster, HOLD_MS } from "./cluster.ts";
import { lateness } from "./lateness.ts";
import type { Random } from "./random.ts";
import { inHand, recovery } from "./recovery.ts";
import type { FailoverCause } from "./sentinels.ts";

export const EVENTS = [
  "kill -9 of a node",
  "SIGSTOP of a node",
  "stalled loop of a node",
  "network cut of a node",
  "primary killed, standby promoted",
  "rolling restart of all nodes",
  "Redis stopped and started",
  "Redis flushed",
  "Sentinel failover, master killed",
  "Sentinel failover, master frozen",
  "Sentinel failover, as asked",
] as const;
export type Event = (typeof EVENTS)[number];

/** Whether it befalls a cluster with sentinels. */
export const needsSentinels = (event: Event) => event.startsWith("Sentinel");

/**
 * `ms`: until the pages of the lost node moved again and its shards had another owner; until the first write after the promotion;
 * the 99th of a hundred waits for ACCEPTED; or how late the latest page was on its phone. Infinity: not within the limit.
 */
export type Trial = { readonly ms: number; readonly pages: number };

/** The one that reaches its servers through proxies. */
export const CUT_NODE = 2;
const LIMIT_MS = 15_000;
const REST_MS = 1_500;
const AWAY_MS = 4_000;
const REDIS_AWAY_MS = [200, 4_000] as const;

/** Causes it, measures, mends all, and waits until the cluster is as it was. */
export async function tryOut(event: Event, cluster: Cluster, random: Random): Promise<Trial> {
  const node = random.between(0, cluster.nodes.length - 1);
  await sleep(REST_MS + random.between(0, 500));
  const trial = await CAUSES[event](cluster, node, random);
  await cluster.settles();
  return trial;
}

const CAUSES: Readonly<Record<Event, (cluster: Cluster, node: number, random: Random) => Promise<Trial>>> = {
  "kill -9 of a node": (cluster, node) => lose(cluster, node, cluster.kills, cluster.starts),
  "SIGSTOP of a node": (cluster, node) => lose(cluster, node, cluster.freezes, cluster.thaws),
  "stalled loop of a node": (cluster, node) => lose(cluster, node, cluster.stalls, () => sleep(HOLD_MS)),
  "network cut of a node": (cluster) =>
    lose(cluster, CUT_NODE, (node) => cluster.cuts(node, ["database", "redis"], "black hole"), cluster.mends),
  async "primary killed, standby promoted"(cluster, _node, random) {
    await cluster.pair.killPrimary();
    await sleep(random.between(200, 1_000));
    const promoted = performance.timeOrigin + (await cluster.pair.promote());
    const until = performance.now() + LIMIT_MS;
    let first: number | null = null;
    while (first === null && performance.now() < until) {
      await sleep(20);
      const [row] = await cluster.sql()<{ first: number | null }[]>`
        select extract(epoch from min(at))::double precision * 1000 as first from premise_core.message_history
        where at > to_timestamp(${promoted / 1_000 - 0.01})`;
      first = row!.first;
    }
    await cluster.pair.rebuildOld();
    return { ms: first === null ? Number.POSITIVE_INFINITY : first - promoted, pages: 0 };
  },
  async "rolling restart of all nodes"(cluster) {
    const begun = performance.now();
    for (const node of cluster.nodes.keys()) {
      await cluster.restarts(node);
      await cluster.settles();
    }
    const ended = performance.now();
    await sleep(AWAY_MS);
    const waits = [...cluster.history.pages.values()]
      .filter(({ sentAt }) => sentAt >= begun && sentAt <= ended)
      .map(({ sentAt, acceptedAt }) => (acceptedAt ?? Number.POSITIVE_INFINITY) - sentAt)
      .sort((a, b) => a - b);
    return { ms: waits[Math.floor(waits.length * 0.99)]!, pages: waits.length };
  },
  "Redis stopped and started": (cluster, _node, random) =>
    delay(cluster, async () => {
      await cluster.stopRedis();
      await sleep(random.between(...REDIS_AWAY_MS));
      await cluster.startRedis();
    }),
  "Redis flushed": (cluster) => delay(cluster, cluster.flushRedis),
  "Sentinel failover, master killed": (cluster) => failOver(cluster, "killed"),
  "Sentinel failover, master frozen": (cluster) => failOver(cluster, "frozen"),
  "Sentinel failover, as asked": (cluster) => failOver(cluster, "asked"),
};

function failOver(cluster: Cluster, cause: FailoverCause): Promise<Trial> {
  return delay(cluster, async () => {
    await cluster.failOverRedis(cause);
    await cluster.mendRedis();
  });
}

/** Of the pages accepted from the moment before the fault until it has been over for a while. */
async function delay(cluster: Cluster, cause: () => Promise<unknown>): Promise<Trial> {
  const from = await cluster.now();
  await cause();
  await sleep(REST_MS);
  return lateness(cluster, { from, until: await cluster.now() }, LIMIT_MS);
}

type Deed = (node: number) => unknown;

async function lose(cluster: Cluster, node: number, cause: Deed, mend: Deed): Promise<Trial> {
  const held = await inHand(cluster, node);
  await cause(node);
  const { pages, pagesMs, shardsMs } = await recovery(cluster, held, LIMIT_MS);
  await mend(node);
  if (pagesMs === null || shardsMs === null) return { ms: Number.POSITIVE_INFINITY, pages };
  return { ms: Math.max(pagesMs, shardsMs), pages };
}
