/**
 * The course of a demo:
 *
 *   starting ─► settling ─► sending ──────────────► waiting for every page's end (60 s at most) ─► figures
 *                             └ half of the pages sent: one node is killed, where that was asked for
 */
import { pause } from "./backoff.ts";
import { type DemoCluster, openDemoCluster } from "./demo-cluster.ts";
import { interrupted } from "./demo-node.ts";
import type { DemoPage, PageFigures, StageFigures } from "./demo-record.ts";
import { type DemoWard, openDemoWard } from "./demo-ward.ts";

export type DemoPlan = {
  readonly nodes: number;
  readonly pages: number;
  /** A second. */
  readonly rate: number;
  readonly kill: boolean;
  readonly redisUrl: string | null;
};

/** What became of what a killed node had; ms since its death, null where it had not come about at the end. */
export type Recovery = {
  readonly node: string;
  /** Of recipients it drove and not yet DELIVERED, or brought to it and not yet ACCEPTED. */
  readonly pages: number;
  /** Until the last of them was on its phone. */
  readonly pagesMovedMs: number | null;
  readonly hosts: number;
  /** Until each of them had been told something by another node. */
  readonly hostsServedMs: number | null;
};

export type DemoResult = {
  readonly nodes: number;
  readonly seconds: number;
  readonly pages: PageFigures;
  readonly stages: readonly StageFigures[];
  readonly killed: Recovery | null;
};

export type DemoEvents = {
  /** A step has begun or is over, as a sentence. */
  onStep(sentence: string): void;
  /** Several times a second. */
  onProgress(line: string): void;
};

const END_MS = 60_000;
const LOOK_MS = 50;
const SHOW_MS = 200;

/** @throws CommandFault, also where `signal` ended it */
export async function runDemo(plan: DemoPlan, events: DemoEvents, signal: AbortSignal): Promise<DemoResult> {
  const begun = performance.now();
  const lasted = () => `${((performance.now() - begun) / 1_000).toFixed(1)} s`;
  let state = "";
  let ward: DemoWard | null = null;
  let cluster: DemoCluster | null = null;
  const ticking = setInterval(() => {
    events.onProgress(`${lasted()}   ${state === "" && ward !== null ? counts(ward) : state}`);
  }, SHOW_MS);
  try {
    const onState = (now: string) => {
      state = now;
    };
    cluster = await openDemoCluster({ nodes: plan.nodes, redisUrl: plan.redisUrl }, { signal, onState });
    state = "waiting until each node has its share of the work";
    await cluster.settles(signal);
    const shards = await cluster.shards();
    const owned = cluster.nodes.map(({ name }) => `${name} drives ${shards.get(name)?.size ?? 0} shards`);
    events.onStep(`${plan.nodes === 1 ? "A node is" : `${plan.nodes} nodes are`} up: ${owned.join(", ")}`);
    state = "registering the phones";
    ward = await openDemoWard(cluster);
    events.onStep(
      `${plan.pages} pages, ${plan.rate} a second, from ${ward.hosts.length} host systems to ${ward.phones} phones`,
    );
    state = "";
    const recovering = await sendAll(plan, cluster, ward, events, signal);
    const until = performance.now() + END_MS;
    while (!ward.record.finished() && performance.now() < until && !signal.aborted) await pause(LOOK_MS, signal);
    if (signal.aborted) throw interrupted();
    return {
      nodes: plan.nodes,
      seconds: Math.round((performance.now() - begun) / 100) / 10,
      pages: ward.record.figures(),
      stages: ward.record.stages(),
      killed: recovering?.() ?? null,
    };
  } finally {
    state = "ending";
    await Promise.all([ward?.close(), cluster?.close()]);
    clearInterval(ticking);
  }
}

/** Answers with what tells how it went on after the kill, where there was one. */
async function sendAll(
  plan: DemoPlan,
  cluster: DemoCluster,
  ward: DemoWard,
  events: DemoEvents,
  signal: AbortSignal,
): Promise<(() => Recovery) | null> {
  const start = performance.now();
  let killing: Promise<() => Recovery> | null = null;
  for (let n = 0; n < plan.pages && !signal.aborted; n += 1) {
    await pause(Math.max(0, start + (n / plan.rate) * 1_000 - performance.now()), signal);
    ward.send(n);
    if (plan.kill && n + 1 === Math.ceil(plan.pages / 2)) {
      killing = killOne(cluster, ward, events);
      // Whoever waits for it hears of its fault, once all are sent.
      killing.catch(() => {});
    }
  }
  return killing;
}

async function killOne(cluster: DemoCluster, ward: DemoWard, events: DemoEvents): Promise<() => Recovery> {
  const place = Math.floor(cluster.nodes.length / 2);
  const node = cluster.nodes[place]!;
  const owned = (await cluster.shards()).get(node.name) ?? new Set();
  node.kill();
  const at = performance.now();
  const hosts = ward.hosts.filter((host) => host.node() === place);
  const isInHand = ({ sentAt, host, shard, shownAt, reached }: DemoPage) =>
    sentAt !== null &&
    shownAt === null &&
    (owned.has(shard) || (!reached.has("ACCEPTED") && hosts.includes(ward.hosts[host]!)));
  const pages = [...ward.record.pages.values()].filter(isInHand);
  events.onStep(`${node.name} is killed (kill -9)`);

  return () => ({
    node: node.name,
    pages: pages.length,
    pagesMovedMs: lastOf(pages.map(({ shownAt }) => shownAt)),
    hosts: hosts.length,
    hostsServedMs: lastOf(hosts.map((host) => host.servedSince(at, place))),
  });

  function lastOf(times: readonly (number | null)[]): number | null {
    return times.reduce<number | null>(
      (last, time) => (last === null || time === null ? null : Math.max(last, Math.round((time - at) * 10) / 10)),
      0,
    );
  }
}

function counts(ward: DemoWard): string {
  const { sent, accepted, delivered, read } = ward.record.figures();
  return `sent ${sent}   accepted ${accepted}   delivered ${delivered}   read ${read}`;
}
