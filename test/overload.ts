/**
 * What becomes of a cluster when one node is given ten times its share of hosts, each node held to a part of a core: how soon the
 * load is even, whether anything goes back and forth, and what hosts see meanwhile, beside the same cluster evenly loaded.
 *
 *   npm run overload -- [--rate 40] [--cores 0.3] [--seconds 20] [--seed N] [--json]
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { openBalancer } from "./helpers/balancer.ts";
import { openCluster } from "./helpers/cluster.ts";
import { holdTo } from "./helpers/cpu-quota.ts";
import { eventually } from "./helpers/eventually.ts";
import { randomFrom } from "./helpers/random.ts";

const { values } = parseArgs({
  options: {
    rate: { type: "string", default: "40" },
    cores: { type: "string", default: "0.3" },
    seconds: { type: "string", default: "20" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    json: { type: "boolean", default: false },
  },
});
const HOSTS = 12;
const EVEN = HOSTS / 2;
const WARM_MS = 20_000;
const LOOK_MS = 100;

const balancer = await openBalancer();
const cluster = await openCluster({
  nodes: 3,
  proxied: [],
  random: randomFrom(Number(values.seed)),
  hosts: HOSTS,
  phones: 12,
  pagesPerSecond: Number(values.rate),
  hostPort: async () => balancer.port,
});
const quotas = cluster.nodes.map((node) => holdTo(node.pid(), Number(values.cores)));

/** What hosts saw of a stretch of time. */
async function seen(ms: number) {
  const [from, accepted] = [performance.now(), cluster.history.accepted()];
  let evenMs: number | null = null;
  let taken: number | null = null;
  while (performance.now() < from + ms) {
    if (evenMs === null && Math.max(...balancer.held()) <= EVEN) {
      evenMs = performance.now() - from;
      taken = balancer.taken();
    }
    await sleep(LOOK_MS);
  }
  const until = performance.now();
  const perSecond = ((cluster.history.accepted() - accepted) / (until - from)) * 1_000;
  const waits = [...cluster.history.pages.values()]
    .filter((page) => page.sentAt >= from && page.sentAt < until && page.trackingId.endsWith("-high"))
    .map((page) => (page.acceptedAt ?? until) - page.sentAt)
    .sort((a, b) => a - b);
  return {
    acceptedPerSecond: Math.round(perSecond * 10) / 10,
    highAcceptP50Ms: Math.round(waits[waits.length >> 1] ?? 0),
    highAcceptP99Ms: Math.round(waits[Math.floor(waits.length * 0.99)] ?? 0),
    evenMs: evenMs === null ? null : Math.round(evenMs),
    movedAfterwards: taken === null ? null : balancer.taken() - taken,
    connections: balancer.held().join(" "),
  };
}

let exitCode = 0;
try {
  await cluster.settles();
  const ports = cluster.nodes.map((node) => node.run().mxpp!.port);
  const connected = (before: number) =>
    eventually("each host has a new connection", () => balancer.taken() >= before + HOSTS);
  balancer.shares(ports, [1, 1, 1]);
  await connected(0);
  await sleep(WARM_MS);
  const evenly = await seen(Number(values.seconds) * 1_000);
  balancer.shares(ports, [10, 1, 1]);
  const before = balancer.taken();
  balancer.drops();
  await connected(before);
  balancer.shares(ports, [1, 1, 1]);
  const unevenly = await seen(Number(values.seconds) * 1_000);
  await cluster.heals(60_000);
  const faults = cluster.history.faults();
  const ofEven = Math.round((unevenly.acceptedPerSecond / evenly.acceptedPerSecond) * 100) / 100;
  const met = unevenly.evenMs !== null && unevenly.evenMs <= 10_000 && ofEven >= 0.9 && faults.length === 0;
  if (!met) exitCode = 1;
  if (values.json) console.log(JSON.stringify({ seed: Number(values.seed), evenly, unevenly, ofEven, faults }));
  else {
    const held =
      quotas[0]!.how === "cgroup" ? `each held to ${values.cores} of a core` : "each beside a busy neighbour";
    console.log(`3 nodes, ${held}, ${HOSTS} hosts, ${values.rate} pages a second to be sent, seed ${values.seed}`);
    console.table({ evenly, unevenly });
    console.log(`accepted of the even case: ${ofEven}; faults: ${faults.length}`);
    for (const fault of faults.slice(0, 10)) console.log(`  ${fault}`);
  }
} finally {
  for (const quota of quotas) quota.lift();
  await cluster.close();
  await balancer.close();
}
process.exit(exitCode);
