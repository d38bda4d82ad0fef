/**
 * A hospital on a real cluster: node processes on a pair of Postgres servers and a Redis. Any of them may be killed, frozen or
 * held up while pages flow, and nodes that reach the servers through proxies of their own may be cut off from them.
 */
import { Redis } from "ioredis";
import type postgres from "postgres";
import { SHARD_COUNT } from "../../domain.ts";
import { eventually } from "./eventually.ts";
import type { NodeProcess } from "./node.ts";
import { type Ordeal, type OrdealOptions, openOrdeal } from "./ordeal.ts";
import { openPair, type Pair } from "./pair.ts";
import { openProxy, type TcpProxy, through } from "./proxy.ts";
import { type RedisServer, startRedis } from "./redis.ts";
import { type FailoverCause, startSentinels } from "./sentinels.ts";

/** What a node may be cut off from, and how: whether bytes are lost both ways, answers alone, or connections refused. */
export type Cut = "black hole" | "answers lost" | "refused";
export type Dependency = "database" | "redis";

export type Cluster = Ordeal & {
  readonly pair: Pair;
  /** With sentinels the master there is now. */
  redis(): RedisServer;
  /** A session on the primary there is now, without a proxy. */
  sql(): postgres.Sql;
  /** The database's clock, ms since 1970. */
  now(): Promise<number>;
  kills(node: number): Promise<void>;
  starts(node: number): Promise<void>;
  freezes(node: number): void;
  thaws(node: number): void;
  /** Its event loop does nothing else for `HOLD_MS`. */
  stalls(node: number): void;
  cuts(node: number, from: readonly Dependency[], how: Cut): void;
  mends(node: number): void;
  /** As by its operator; with all it held. */
  stopRedis(): Promise<void>;
  startRedis(): Promise<void>;
  /** All it held is gone, and it runs on. */
  flushRedis(): Promise<void>;
  /** Resolves when the sentinels have made the replica master; only with sentinels. */
  failOverRedis(cause: FailoverCause): Promise<void>;
  /** After it, the old master is there again as a replica. */
  mendRedis(): Promise<void>;
  /** Stopped as by an operator, and started again. */
  restarts(node: number): Promise<void>;
  /** Shards by the name of the node that owns them; "" for those of no living node. */
  shards(): Promise<ReadonlyMap<string, readonly number[]>>;
  /** Every living node has its shards, and nobody else. */
  settles(limitMs?: number): Promise<void>;
};

export const HOLD_MS = 3_000;
const AFFLICTION = new URL("affliction.mjs", import.meta.url).href;

export async function openCluster(
  options: Omit<OrdealOptions, "databaseUrl" | "nodes"> & {
    readonly nodes: number;
    /** Nodes that reach the servers through proxies, which cost time; all of them where this is left out. */
    readonly proxied?: readonly number[];
    /** A master, a replica and three sentinels instead of a single Redis; no node can be cut off from them. */
    readonly sentinels?: boolean;
  },
): Promise<Cluster> {
  const pair = await openPair();
  const single = options.sentinels === true ? null : await startRedis();
  const sentinels = single === null ? await startSentinels() : null;
  const redis = () => single ?? sentinels!.master();
  const proxies: Record<Dependency, TcpProxy[]>[] = [];
  const settings: Record<string, string>[] = [];
  for (let node = 0; node < options.nodes; node += 1) {
    const own: Record<Dependency, TcpProxy[]> = { database: [], redis: [] };
    proxies.push(own);
    const reached = async (dependency: Dependency, url: string) => {
      if (options.proxied?.includes(node) === false) return url;
      const proxy = await openProxy({ host: "127.0.0.1", port: Number(new URL(url).port) });
      own[dependency].push(proxy);
      return through(proxy, url);
    };
    const urls = await Promise.all(pair.urls.map((url) => reached("database", url)));
    settings.push({
      TOCSIN_NODE: `node-${node}`,
      NODE_OPTIONS: `--import=${AFFLICTION}`,
      AFFLICTION_HOLD_MS: String(HOLD_MS),
      TOCSIN_PREMISE_DATABASE_URL: urls.join(","),
      TOCSIN_REDIS_URL: single === null ? sentinels!.url : await reached("redis", single.url),
    });
  }

  async function closeRest(): Promise<void> {
    await Promise.all(proxies.flatMap((own) => [...own.database, ...own.redis]).map((proxy) => proxy.close()));
    await single?.close();
    await sentinels?.close();
    await pair.close();
  }

  const ordeal = await openOrdeal({ ...options, databaseUrl: pair.primaryUrl(), nodes: settings }).catch(
    async (error: unknown) => {
      await closeRest();
      throw error;
    },
  );
  function withSentinels() {
    if (sentinels === null) throw new Error("this cluster has no sentinels");
    return sentinels;
  }
  const nodeOf = (node: number): NodeProcess => ordeal.nodes[node]!;

  async function shards(): Promise<ReadonlyMap<string, readonly number[]>> {
    const rows = await pair.sql()<{ name: string | null; shards: number[] }[]>`
      select nodes.name, json_agg(shards.id order by shards.id) as shards
      from premise_core.shards left join premise_core.nodes on boot = owner_boot and state <> 'DEAD'
      group by nodes.name`;
    return new Map(rows.map((row) => [row.name ?? "", row.shards]));
  }

  const cluster: Cluster = {
    ...ordeal,
    pair,
    redis,
    sql: () => pair.sql(),
    async now() {
      const [row] = await pair.sql()<{ now: number }[]>`
        select extract(epoch from clock_timestamp())::double precision * 1000 as now`;
      return row!.now;
    },
    kills: (node) => nodeOf(node).kills(),
    starts: (node) => nodeOf(node).starts(),
    freezes: (node) => nodeOf(node).freezes(),
    thaws: (node) => nodeOf(node).thaws(),
    stalls: (node) => void process.kill(nodeOf(node).pid(), "SIGUSR2"),
    cuts(node, from, how) {
      if (from.some((dependency) => proxies[node]![dependency].length === 0))
        throw new Error(`node ${node} has no proxies to be cut off by`);
      for (const proxy of from.flatMap((dependency) => proxies[node]![dependency])) {
        if (how === "black hole") proxy.blackholes();
        else if (how === "answers lost") proxy.swallowsAnswers();
        else proxy.refuses();
      }
    },
    mends(node) {
      for (const proxy of Object.values(proxies[node]!).flat()) proxy.heals();
    },
    stopRedis: () => redis().stop(),
    startRedis: () => redis().start(),
    async flushRedis() {
      const client = new Redis(redis().url, { lazyConnect: true, retryStrategy: () => null, commandTimeout: 2_000 });
      client.on("error", () => {});
      try {
        await client.connect();
        await client.flushall();
      } finally {
        client.disconnect();
      }
    },
    failOverRedis: (cause) => withSentinels().failOver(cause),
    mendRedis: () => withSentinels().mend(),
    async restarts(node) {
      await nodeOf(node).stops();
      await nodeOf(node).starts();
    },
    shards,
    async settles(limitMs = 30_000) {
      await eventually(
        "every living node has its share of the shards",
        async () => {
          const owned = await shards();
          // One that has much to do has a quarter of the weight.
          const share = SHARD_COUNT / ordeal.nodes.length;
          return !owned.has("") && ordeal.nodes.every((node) => (owned.get(node.name)?.length ?? 0) > share / 8);
        },
        limitMs,
      );
    },
    async close() {
      await ordeal.close();
      await closeRest();
    },
  };
  return cluster;
}
