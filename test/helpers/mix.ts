/** A mix of faults chosen by chance: several at once, but at most one for each part of a cluster, and each mended again. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Cluster, HOLD_MS } from "./cluster.ts";
import type { Random } from "./random.ts";

/** `part`: what it befalls; none befalls a part that has not been mended. */
type Fault = {
  readonly what: string;
  readonly part: "node" | "database" | "redis";
  /** From the fault to its end, ms. */
  readonly ms: readonly [number, number];
  cause(cluster: Cluster, node: number, ms: number): Promise<void>;
};

const FAULTS: readonly Fault[] = [
  {
    what: "is killed",
    part: "node",
    ms: [100, 3_000],
    async cause(cluster, node, ms) {
      await cluster.kills(node);
      await sleep(ms);
      await cluster.starts(node);
    },
  },
  {
    what: "is frozen",
    part: "node",
    ms: [200, 5_000],
    async cause(cluster, node, ms) {
      cluster.freezes(node);
      await sleep(ms);
      cluster.thaws(node);
    },
  },
  {
    what: "does not turn",
    part: "node",
    ms: [HOLD_MS, HOLD_MS],
    async cause(cluster, node, ms) {
      cluster.stalls(node);
      await sleep(ms);
    },
  },
  {
    what: "is restarted",
    part: "node",
    ms: [0, 0],
    cause: (cluster, node) => cluster.restarts(node),
  },
  ...(["black hole", "answers lost", "refused"] as const).flatMap((how) =>
    ([["database"], ["redis"], ["database", "redis"]] as const).map((from) => ({
      what: `is cut off from ${from.join(" and ")} (${how})`,
      part: "node" as const,
      ms: [200, 5_000] as const,
      async cause(cluster: Cluster, node: number, ms: number) {
        cluster.cuts(node, from, how);
        await sleep(ms);
        cluster.mends(node);
      },
    })),
  ),
  {
    what: "primary is killed, the standby promoted",
    part: "database",
    ms: [100, 2_000],
    async cause({ pair }, _node, ms) {
      await pair.killPrimary();
      await sleep(ms);
      await pair.promote();
      await pair.rebuildOld();
    },
  },
  {
    what: "primary is frozen, the standby promoted, and the old one wakes beside it",
    part: "database",
    ms: [100, 2_000],
    async cause({ pair }, _node, ms) {
      pair.freezePrimary();
      await sleep(ms);
      await pair.promote();
      pair.thawPrimary();
      await sleep(ms);
      await pair.rebuildOld();
    },
  },
  {
    what: "primary is demoted in place for a while",
    part: "database",
    ms: [200, 2_000],
    async cause({ pair }, _node, ms) {
      await pair.demoteInPlace();
      await sleep(ms);
      await pair.raiseAgain();
    },
  },
  {
    what: "standby is lost for a while, and commits wait for it",
    part: "database",
    ms: [200, 3_000],
    async cause({ pair }, _node, ms) {
      await pair.killStandby();
      await sleep(ms);
      await pair.startStandby();
    },
  },
  {
    what: "Redis is killed, with all it held",
    part: "redis",
    ms: [100, 3_000],
    async cause({ redis }, _node, ms) {
      await redis().kill();
      await sleep(ms);
      await redis().start();
    },
  },
  {
    what: "Redis is stopped",
    part: "redis",
    ms: [100, 3_000],
    async cause({ stopRedis, startRedis }, _node, ms) {
      await stopRedis();
      await sleep(ms);
      await startRedis();
    },
  },
  {
    what: "Redis loses all it holds, and runs on",
    part: "redis",
    ms: [0, 0],
    cause: ({ flushRedis }) => flushRedis(),
  },
];

const GAP_MS = [100, 1_500] as const;

/** Begins faults for `forMs`, and resolves when the last of them is mended. `note` is told of each as a sentence. */
export async function befall(
  cluster: Cluster,
  random: Random,
  forMs: number,
  note: (what: string) => void,
): Promise<void> {
  const begun = performance.now();
  const struck = new Set<string>();
  const running: Promise<void>[] = [];
  while (performance.now() < begun + forMs) {
    const fault = random.of(FAULTS);
    const node = random.between(0, cluster.nodes.length - 1);
    const ms = random.between(...fault.ms);
    const part = fault.part === "node" ? `node ${node}` : fault.part;
    // One node is left: where all are down nothing is proven but that nothing happens.
    const left =
      fault.part !== "node" || [...struck].filter((name) => name.startsWith("node")).length < cluster.nodes.length - 1;
    if (left && !struck.has(part)) {
      struck.add(part);
      const at = Math.round(performance.now() - begun);
      note(`${at} ms: ${fault.part === "node" ? `node ${node} ` : ""}${fault.what}, ${ms} ms`);
      running.push(fault.cause(cluster, node, ms).then(() => void struck.delete(part)));
    }
    await sleep(random.between(...GAP_MS));
  }
  await Promise.all(running);
}
