/**
 * A worker of BullMQ whose connection was forgotten on the way, as a firewall does: connected, and deaf. The service supervisor
 * builds it anew; until then pages go out by the sweep.
 */
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { metric } from "./helpers/process-facts.ts";
import { portsOf, startRedis } from "./helpers/redis.ts";
import { openRelay } from "./helpers/relay.ts";

const PROMISED_MS = 3_000;
const SERVICE = "push GCM urgent in Redis";
const WAITING = "{ward}:push-gcm-urgent:prioritized";

const redis = await startRedis();
const relay = await openRelay(redis.port);
const admin = new Redis(redis.url);
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
