/**
 * A worker of BullMQ whose connection was forgotten on the way, as a firewall does: connected, and deaf. The service supervisor
 * builds it anew; until then pages go out by the sweep.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { metric } from "./helpers/process-facts.ts";
import { devicesOf, hint, pushQueues } from "./helpers/push-queues.ts";
import { portsOf, startRedis } from "./helpers/redis.ts";
import { openRelay } from "./helpers/relay.ts";

const PROMISED_MS = 3_000;
const SERVICE = "push GCM urgent in Redis";
const WAITING = "{ward}:push-gcm-urgent:prioritized";

const redis = await startRedis();
const admin = new Redis(redis.url);
const { open, isUp, holds, has, endAll } = pushQueues(redis, admin);
test.after.each(endAll);
const relay = await openRelay(redis.port);
const hospital = await openHospital({
  TOCSIN_REDIS_URL: `redis://127.0.0.1:${relay.port}`,
  TOCSIN_CLUSTER: "ward",
});
const { node } = hospital;
const host = await hospital.host("lab");
const phone = await hospital.phone();
phone.wakesOnPush(node.run().emulatorUrl);

async function arrives(): Promise<number> {
  const page = await host.sends({ destination: phone.person.destination, priority: "high" });
  await host.awaits(page, "ACCEPTED");
  const accepted = performance.now();
  await phone.expectsPage(textOf(page), { within: 10_000 });
  return performance.now() - accepted;
}
const gauge = async (name: string) => metric(await hospital.metrics(), `tocsin_${name}`);

test("a worker whose connection is forgotten on the way is found deaf while jobs wait, and takes them when it is built anew", async () => {
  const prefix = randomUUID();
  let losses = 0;
  const lost = () => {
    losses += 1;
  };
  const node = open({ url: `redis://127.0.0.1:${relay.port}`, prefix, lost });
  await isUp(node);
  const bringer = node.queue.bringers.find(({ name }) => name === "push GCM urgent in Redis")!;
  const one = hint();
  node.queue.add([one]);
  await has(node, 1);
  assert.is(await bringer.look(), "well");
  assert.is(await bringer.look(), "well", "none waits");

  relay.forgets(await portsOf(admin, `${prefix}:push-gcm-urgent:worker`));
  const waiting = [hint(), hint()];
  node.queue.add(waiting);
  await holds(prefix, waiting[1]!);
  await sleep(4_000); // BullMQ's own watchdog has had its turn
  assert.is(await bringer.look(), "silent");
  assert.is(node.queue.isUp(), false, "the sweep is to look at once");
  assert.is(losses, 1);
  assert.is(node.performed.length, 1);

  await bringer.restart();
  await has(node, 3);
  await eventually("it is up", () => node.queue.isUp());
  assert.is(await bringer.look(), "well");
  assert.equal(devicesOf(node).slice(1).sort(), waiting.map(({ deviceId }) => deviceId).sort());
  node.queue.add([hint()]);
  await has(node, 4);
});

test("a worker that has every slot taken is not deaf while others wait", async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const prefix = randomUUID();
  const node = open({ prefix, slots: 1, perform: () => held });
  await isUp(node);
  const last = hint();
  node.queue.add([hint(), hint(), last]);
  await has(node, 1);
  await holds(prefix, last);
  const bringer = node.queue.bringers.find(({ name }) => name === "push GCM urgent in Redis")!;
  assert.equal([await bringer.look(), await bringer.look()], ["well", "well"]);
  release();
  await has(node, 3);
});

test("a deaf worker is built anew and takes what waits; pages are at no time more than 3 s late", async () => {
  await eventually("pushes are brought by Redis", async () => (await gauge("redis_up")) === 1);
  await arrives();
  relay.forgets(await portsOf(admin, "ward:push-gcm-urgent:worker"));

  let worst = 0;
  let waited = 0;
  await eventually(
    "it was built anew",
    async () => {
      worst = Math.max(worst, await arrives());
      waited = Math.max(waited, await admin.zcard(WAITING));
      return (await gauge(`service_restarts_total{service="${SERVICE}"`)) > 0;
    },
    30_000,
  );
  assert.ok(waited > 0, "jobs waited for it");
  await eventually("it takes what waits", async () => (await admin.zcard(WAITING)) === 0);
  await eventually("pushes are brought by Redis", async () => (await gauge("redis_up")) === 1);
  for (let page = 0; page < 5; page += 1) worst = Math.max(worst, await arrives());
  assert.ok(worst < PROMISED_MS, `a page was ${Math.round(worst)} ms late`);
  const pushes = await hospital.pushes(phone.registration.notificationAddress);
  assert.ok(pushes.length <= phone.pages().length, `${pushes.length} pushes for ${phone.pages().length} pages`);
});

test.after(async () => {
  await hospital.close();
  admin.disconnect();
  await relay.close();
  await redis.close();
});
test.run();
