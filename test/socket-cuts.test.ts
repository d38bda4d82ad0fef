// limit: 180 s
/** Connections of hosts reset at any instant, with pages and notifications under way, judged by what hosts and phones saw. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { openFiles } from "./helpers/process-facts.ts";
import { openProxy, type TcpProxy } from "./helpers/proxy.ts";
import { randomFrom } from "./helpers/random.ts";

const CUTS = Number(process.env.CUTS ?? 200);
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test(`${CUTS} cuts of every host's connection lose, double and reorder nothing (SEED=${seed})`, async () => {
  const random = randomFrom(seed);
  const postgres = await startPostgres();
  let proxy: Promise<TcpProxy> | null = null;
  const ordeal = await openOrdeal({
    databaseUrl: postgres.url,
    random,
    hosts: 3,
    phones: 12,
    pagesPerSecond: 150,
    async hostPort(port) {
      proxy ??= openProxy({ host: "127.0.0.1", port });
      return (await proxy).port;
    },
  });
  const { node } = ordeal.hospital;
  const pid = node.pid();
  const between = await proxy!;
  try {
    await rest(1_000);
    const files = openFiles(pid);
    for (let cut = 0; cut < CUTS; cut += 1) {
      await rest(random.between(1, 250));
      between.cuts();
    }
    await ordeal.heals(60_000);
    // A repeat is answered with what the page has come to; the rungs before it are told by the outbox, a moment later.
    await eventually("nothing is wrong any more", () => ordeal.history.faults().length === 0, 20_000).catch(() => {});
    const faults = ordeal.history.faults();
    const { size } = ordeal.history.pages;
    console.log(`  ${CUTS} cuts, ${size} pages, ${ordeal.history.accepted()} accepted, ${faults.length} faults`);
    assert.equal(faults.slice(0, 10), []);
    assert.ok(ordeal.history.accepted() > CUTS, "there was work under way");
    assert.is(node.pid(), pid);
    assert.ok(openFiles(pid) < files + 20, `${files} files open before, ${openFiles(pid)} after`);
    assert.not.match(node.said(), /"level":50/);
  } finally {
    await ordeal.close();
    await between.close();
    await postgres.close();
  }
});

test.run();
