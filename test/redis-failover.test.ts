// limit: 180 s, alone
/**
 * Two nodes on a Redis with a replica and three sentinels, under flow: its master killed, frozen and replaced by order, and its
 * keys lost. Everything ACCEPTED meanwhile is on its phone within 3 s, once.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCluster } from "./helpers/cluster.ts";
import { eventually } from "./helpers/eventually.ts";
import { randomFrom } from "./helpers/random.ts";
import { stepFaults } from "./helpers/steps.ts";
import { type Event, tryOut } from "./helpers/trials.ts";

const LATE_MS = 3_000;
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const random = randomFrom(seed);
const cluster = await openCluster({
  nodes: 2,
  proxied: [],
  sentinels: true,
  random,
  hosts: 4,
  phones: 8,
  pagesPerSecond: 20,
});
await cluster.settles();

const EVENTS: readonly Event[] = [
  "Sentinel failover, master killed",
  "Sentinel failover, as asked",
  "Sentinel failover, master frozen",
  "Redis flushed",
];
for (const event of EVENTS) {
  test(`${event}: no page is more than 3 s late (SEED=${seed})`, async () => {
    const { ms, pages } = await tryOut(event, cluster, random);
    assert.ok(pages > 15, `${pages} pages were under way`);
    assert.ok(ms < LATE_MS, `the latest page took ${Math.round(ms)} ms`);
  });
}

test("after all of it pushes are brought by Redis on every node, and every page accepted was shown once and told in order", async () => {
  for (const node of cluster.nodes)
    await eventually(`${node.name} has its Redis again`, async () =>
      /^tocsin_redis_up 1$/m.test(await (await fetch(node.run().metricsUrl!)).text()),
    );
  await cluster.heals(60_000);
  assert.equal(cluster.history.faults().slice(0, 10), []);
  assert.equal(await stepFaults(cluster.sql()), []);
});

test.after(() => cluster.close());
test.run();
