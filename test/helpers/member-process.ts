/**
 * A process that is a member of a cluster and nothing else: `node test/helpers/member-process.ts <url> <name>`, forked. Says
 * every 20 ms what it drives, on the clock that all processes of a machine share, and does what it is told.
 */
import { subscribe } from "node:diagnostics_channel";
import type { Worker } from "node:worker_threads";
import { joinCluster } from "../../cluster/membership.ts";
import { systemClock } from "../../domain.ts";
import { silentLog } from "../../log.ts";
import { openDatabase } from "../../persistence/database.ts";

export type Order =
  /** The main loop does not turn for so long, `times` over with a turn between. */
  { readonly kind: "hold"; readonly ms: number; readonly times: number } | { readonly kind: "end-thread" };
/** `first`: the first word after a hold, from the very turn of its end. */
export type Word = { readonly at: number; readonly shards: readonly number[]; readonly first: boolean };

const SAY_MS = 20;
const [url, name] = process.argv.slice(2) as [string, string];
const threads: Worker[] = [];
subscribe("worker_threads", (message) => void threads.push((message as { worker: Worker }).worker));

const database = openDatabase(
  { name: "premise_core", urls: [url], node: `${name} pool`, connectionsMax: 2 },
  { log: silentLog },
);
await database.untilUp(5_000);
const membership = joinCluster(
  { node: name, address: "", urls: [url], timelineFile: null, logLevel: "silent" },
  { database, log: silentLog, clock: systemClock, load: () => 0, heard: () => {} },
);

function say(first: boolean): void {
  const word: Word = { at: systemClock.monotonic(), shards: membership.shards(), first };
  process.send?.(word);
}

process.on("message", (order: Order) => {
  if (order.kind === "end-thread") void threads.at(-1)?.terminate();
  else void hold(order.ms, order.times);
});
process.on("disconnect", () => process.exit(0));
setInterval(() => say(false), SAY_MS);

async function hold(ms: number, times: number): Promise<void> {
  for (let n = 0; n < times; n += 1) {
    const until = performance.now() + ms;
    while (performance.now() < until);
    say(true);
    await new Promise((resolve) => setTimeout(resolve, SAY_MS));
  }
}
