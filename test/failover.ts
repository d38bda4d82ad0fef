/**
 * How long pages stand still when a part of a cluster is lost: each event again and again under load, as a table, with what was
 * lost and doubled.
 *
 *   npm run failover -- [--rounds 20] [--rate 300] [--nodes 3] [--only EVENT] [--seed N] [--json]
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { openCluster } from "./helpers/cluster.ts";
import { randomFrom } from "./helpers/random.ts";
import { stepFaults } from "./helpers/steps.ts";
import { CUT_NODE, EVENTS, type Event, needsSentinels, type Trial, tryOut } from "./helpers/trials.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    rate: { type: "string", default: "300" },
    nodes: { type: "string", default: "3" },
    only: { type: "string" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
    json: { type: "boolean", default: false },
  },
});
/** What each must reach, ms; `median` where it is asked for. */
const BOUNDS: Readonly<Record<Event, { readonly median?: number; readonly worst: number }>> = {
  "kill -9 of a node": { median: 1_000, worst: 3_000 },
  "SIGSTOP of a node": { worst: 4_000 },
  "stalled loop of a node": { worst: 4_000 },
  "network cut of a node": { worst: 4_000 },
  "primary killed, standby promoted": { worst: 1_000 },
  "rolling restart of all nodes": { worst: 250 },
  "Redis stopped and started": { worst: 3_000 },
  "Redis flushed": { worst: 3_000 },
  "Sentinel failover, master killed": { worst: 3_000 },
  "Sentinel failover, master frozen": { worst: 3_000 },
  "Sentinel failover, as asked": { worst: 3_000 },
};

const WARM_MS = 20_000;

type Row = {
  readonly event: Event;
  readonly trials: readonly Trial[];
  /** Pages sent, as it came out: hosts wait where their connection is held back. */
  readonly perSecond: number;
  readonly lost: number;
  readonly doubled: number;
  readonly other: readonly string[];
};

const random = randomFrom(Number(values.seed));
const say = (text: string) => console.error(text);

/** Under load on a cluster of its own: each event again and again. */
async function play(events: readonly Event[], sentinels: boolean): Promise<{ table: Row[]; pages: number }> {
  const cluster = await openCluster({
    nodes: Number(values.nodes),
    // What a proxy costs counts only where one is needed: for the cut.
    proxied: [CUT_NODE],
    sentinels,
    random,
    hosts: 6,
    phones: 12,
    pagesPerSecond: Number(values.rate),
  });
  try {
    await cluster.settles();
    // What has just been started is slow for a while.
    await sleep(WARM_MS);
    const table: Row[] = [];
    for (const event of events) {
      // A restart of all takes as long as many of the others.
      const rounds = event.startsWith("rolling") ? Math.ceil(Number(values.rounds) / 5) : Number(values.rounds);
      const trials: Trial[] = [];
      const known = new Set(cluster.history.faults());
      const [begun, pagesBefore] = [performance.now(), cluster.history.pages.size];
      for (let round = 0; round < rounds; round += 1) {
        const trial = await tryOut(event, cluster, random);
        trials.push(trial);
        say(`${event} ${round + 1} of ${rounds}: ${Math.round(trial.ms)} ms (${trial.pages} pages)`);
      }
      const perSecond = ((cluster.history.pages.size - pagesBefore) / (performance.now() - begun)) * 1_000;
      await cluster.heals(60_000);
      const faults = [
        ...cluster.history.faults().filter((fault) => !known.has(fault)),
        ...(await stepFaults(cluster.sql())),
      ];
      const lost = faults.filter((fault) => /never shown|FAILED/.test(fault));
      const doubled = faults.filter((fault) => /times|twice|was told/.test(fault));
      const other = faults.filter((fault) => !lost.includes(fault) && !doubled.includes(fault));
      for (const fault of faults.slice(0, 10)) say(`  ${fault}`);
      table.push({ event, trials, perSecond, lost: lost.length, doubled: doubled.length, other });
      cluster.resumes();
    }
    return { table, pages: cluster.history.pages.size };
  } finally {
    await cluster.close();
  }
}

const chosen = EVENTS.filter((name) => values.only === undefined || name.includes(values.only));
const table: Row[] = [];
let pages = 0;
for (const sentinels of [false, true]) {
  const events = chosen.filter((event) => needsSentinels(event) === sentinels);
  if (events.length === 0) continue;
  const played = await play(events, sentinels);
  table.push(...played.table);
  pages += played.pages;
}
const rows = table.map(({ event, trials, perSecond, lost, doubled, other }) => {
  const ms = trials.map((trial) => trial.ms).sort((a, b) => a - b);
  const { median: medianMax, worst: worstMax } = BOUNDS[event];
  const [median, worst] = [ms[ms.length >> 1]!, ms.at(-1)!];
  const met = median <= (medianMax ?? worstMax) && worst <= worstMax && lost + doubled + other.length === 0;
  const figures = { medianMs: Math.round(median), worstMs: Math.round(worst), perSecond: Math.round(perSecond) };
  return { event, rounds: ms.length, ...figures, lost, doubled, met };
});
if (values.json) console.log(JSON.stringify({ seed: Number(values.seed), pages, rows }));
else {
  console.log(`${values.nodes} nodes, ${values.rate} pages a second, ${pages} pages, seed ${values.seed}`);
  console.table(Object.fromEntries(rows.map(({ event, ...figures }) => [event, figures])));
}
process.exit(rows.length > 0 && rows.every(({ met }) => met) ? 0 : 1);
