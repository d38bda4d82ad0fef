// limit: 300 s, alone

import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { openProxy, through } from "./helpers/proxy.ts";
import { randomFrom } from "./helpers/random.ts";
import { startRedis } from "./helpers/redis.ts";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const postgres = await startPostgres();
const redis = await startRedis();
const proxy = await openProxy({ host: "127.0.0.1", port: redis.port });
const ordeal = await openOrdeal({
  databaseUrl: postgres.url,
  random: randomFrom(seed),
  hosts: 2,
  phones: 8,
  pagesPerSecond: 60,
  settings: { TOCSIN_REDIS_URL: through(proxy, redis.url) },
});
const { node } = ordeal.hospital;
const pid = node.pid();
const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function asAdministrator(work: (client: Redis) => Promise<unknown>): Promise<void> {
  const client = new Redis(redis.url, { lazyConnect: true, maxRetriesPerRequest: 1 });
  client.on("error", () => {});
  try {
    await client.connect();
    await work(client);
  } finally {
    client.disconnect();
  }
}

function residentMb(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))![1]) / 1_024;
}

const FAULTS: readonly [string, () => Promise<unknown>, () => Promise<unknown>][] = [
  ["it is killed", () => redis.kill(), () => redis.start()],
  ["it is stopped", () => redis.stop(), () => redis.start()],
  [
    "it is flushed over and over",
    () =>
      asAdministrator(async (client) => {
        for (let round = 0; round < 20; round += 1) {
          await client.flushall();
          await rest(100);
        }
      }),
    async () => {},
  ],
  [
    "it takes no writes, as a replica",
    () => asAdministrator((client) => client.replicaof("127.0.0.1", 1)),
    () => asAdministrator((client) => client.replicaof("NO", "ONE")),
  ],
  ["every answer of it takes a second", async () => proxy.delays(500), async () => proxy.heals()],
  ["the network to it is a black hole", async () => proxy.blackholes(), async () => proxy.heals()],
  ["it refuses connections", async () => proxy.refuses(), async () => proxy.heals()],
  [
    "it is out of memory",
    () => asAdministrator((client) => client.config("SET", "maxmemory", "1")),
    () => asAdministrator((client) => client.config("SET", "maxmemory", "0")),
  ],
  [
    "its connections are cut ten times a second",
    async () => {
      for (let round = 0; round < 30; round += 1) {
        proxy.cuts();
        await rest(100);
      }
    },
    async () => {},
  ],
];

/** A phone nobody else pages, and how long after a page its push went out. */
async function pushDelay(): Promise<number> {
  const { hospital } = ordeal;
  const phone = await hospital.phone();
  const name = `probe-${Math.random()}`;
  const host = await hospital.host(name);
  const trackingId = await host.sends({ destination: phone.person.destination });
  const sent = performance.now();
  const address = phone.registration.notificationAddress;
  await eventually("the push went out", async () => (await ordeal.pushes(address)).length > 0, 20_000);
  const delay = performance.now() - sent;
  const [page] = await phone.fetches();
  await phone.reports(page!.UniqueId, "READ");
  await host.awaits(trackingId, "READ");
  await host.closes();
  return delay;
}

for (const [what, begin, end] of FAULTS) {
  test(`while ${what}, pushes go out within 3 s, and the node lives (SEED=${seed})`, async () => {
    await begin();
    await rest(500);
    for (let probe = 0; probe < 2; probe += 1) {
      const delay = await pushDelay();
      assert.ok(delay < 3_000, `the push took ${Math.round(delay)} ms`);
    }
    await end();
    await rest(500);
    const delay = await pushDelay();
    assert.ok(delay < 3_000, `afterwards the push took ${Math.round(delay)} ms`);
    assert.is(node.pid(), pid);
  });
}

/** The least of five seconds: what is left over between two collections. */
async function leastMb(): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 20; look += 1) {
    await rest(250);
    least = Math.min(least, residentMb());
  }
  return least;
}

test("a quarter of a minute of pages without Redis costs no memory to speak of", async () => {
  await redis.kill();
  await rest(3_000);
  const before = await leastMb();
  await rest(10_000);
  const grown = (await leastMb()) - before;
  await redis.start();
  assert.ok(grown < 60, `grew by ${Math.round(grown)} MB`);
});

test("after all of it every page accepted was shown once and told in order", async () => {
  await ordeal.heals(60_000);
  assert.equal(ordeal.history.faults().slice(0, 10), []);
  assert.is(node.pid(), pid);
});

test.after(async () => {
  await ordeal.close();
  await proxy.close();
  await redis.close();
  await postgres.close();
});
test.run();
