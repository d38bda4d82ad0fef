import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Bus, openBus, readLanes } from "../cluster/bus.ts";
import type { BootId, LinkId } from "../domain.ts";
import { silentLog } from "../log.ts";
import { eventually } from "./helpers/eventually.ts";
import { portsOf, startRedis } from "./helpers/redis.ts";
import { openRelay } from "./helpers/relay.ts";

const redis = await startRedis();
const lane = () => randomUUID() as LinkId;
const opened: Bus[] = [];

async function bus(prefix = "tocsin", url = redis.url): Promise<Bus> {
  const one = openBus({ url, prefix, boot: randomUUID() as BootId }, { log: silentLog });
  opened.push(one);
  return one;
}
/** Until they hear each other, since what was said before is lost, and may be. */
async function meets(one: Bus, other: Bus): Promise<void> {
  const greeting = lane();
  let met = 0;
  const end = other.subscribe(greeting, false, () => {
    met += 1;
  });
  await eventually("the two nodes hear each other", () => {
    one.publish(greeting);
    return met > 0;
  });
  end();
}

test("a hint reaches who listens on another node", async () => {
  const [one, other] = [await bus(), await bus()];
  await meets(one, other);
  const link = lane();
  let heard = 0;
  other.subscribe(link, true, () => {
    heard += 1;
  });
  one.publish(link);
  await eventually("the other node heard", () => heard === 1);
});

test("what its only listener here has heard is not sent to others, nor what a node sent to itself", async () => {
  const [one, other] = [await bus(), await bus()];
  await meets(one, other);
  const [link, last] = [lane(), lane()];
  let [here, there, over] = [0, 0, false];
  one.subscribe(link, true, () => {
    here += 1;
  });
  other.subscribe(link, true, () => {
    there += 1;
  });
  other.subscribe(last, false, () => {
    over = true;
  });
  one.publish(link);
  one.publish(last);
  await eventually("what came after it has arrived", () => over);
  assert.equal([here, there], [1, 0]);
});

test("a host system's lane, to which several listen, is told on all nodes, and on none twice", async () => {
  const [one, other] = [await bus(), await bus()];
  await meets(one, other);
  const [host, last] = [lane(), lane()];
  let [here, there, over] = [0, 0, false];
  one.subscribe(host, false, () => {
    here += 1;
  });
  other.subscribe(host, false, () => {
    there += 1;
  });
  other.subscribe(last, false, () => {
    over = true;
  });
  one.publish(host);
  one.publish(last);
  await eventually("what came after it has arrived", () => over);
  assert.equal([here, there], [1, 1]);
});

test("a hundred hints of one lane within a moment are one message, and nothing in it but ids", async () => {
  const [one, other] = [await bus(), await bus()];
  await meets(one, other);
  const eavesdropper = new Redis(redis.url);
  const messages: string[] = [];
  eavesdropper.on("message", (_channel: string, text: string) => messages.push(text));
  await eavesdropper.subscribe("{tocsin}:news:1");
  const link = lane();
  for (let time = 0; time < 100; time += 1) one.publish(link);
  await eventually("it was sent", () => messages.length > 0);
  eavesdropper.disconnect();
  assert.is(messages.length, 1);
  assert.match(messages[0]!, /^[0-9a-f-]{36} [0-9a-f-]{36}$/);
  assert.ok(messages[0]!.endsWith(link));
});

test("two installations that share a Redis do not hear each other", async () => {
  const [one, other, stranger] = [await bus(), await bus(), await bus("another")];
  await meets(one, other);
  const [link, last] = [lane(), lane()];
  let [strange, over] = [0, false];
  stranger.subscribe(link, true, () => {
    strange += 1;
  });
  other.subscribe(last, false, () => {
    over = true;
  });
  one.publish(link);
  one.publish(last);
  await eventually("what came after it has arrived", () => over);
  assert.is(strange, 0);
});

test("while Redis is away hints are lost without a fault, and they travel again when it is back", async () => {
  const [one, other] = [await bus(), await bus()];
  await meets(one, other);
  await redis.kill();
  for (let time = 0; time < 20_000; time += 1) one.publish(lane());
  await new Promise((resolve) => setTimeout(resolve, 300));
  await redis.start();
  await meets(one, other);
  await meets(other, one);
});

test("connections that are forgotten on the way without a word are made anew within seconds, also of one that only listens", async () => {
  const relay = await openRelay(redis.port);
  const admin = new Redis(redis.url);
  const [one, other] = [await bus("far", `redis://127.0.0.1:${relay.port}`), await bus("far")];
  await meets(other, one);
  relay.forgets(await portsOf(admin, "far:bus"));
  await meets(other, one);
  await meets(one, other);
  admin.disconnect();
  await Promise.all([one.close(), other.close()]);
  await relay.close();
});

test("what is no such message is nothing", () => {
  const [self, from, link] = [randomUUID() as BootId, randomUUID(), lane()];
  assert.equal(readLanes(`${from} ${link}`, self), [link]);
  for (const text of [
    "",
    " ",
    from,
    `${self} ${link}`,
    `${from} ${link} `,
    `${from} ${link.toUpperCase()}`,
    `${from} not-a-lane`,
    `${from} ${link}\n`,
    `${from} ${Array.from({ length: 501 }, lane).join(" ")}`,
    "x".repeat(10_000_000),
  ])
    assert.equal(readLanes(text, self), [], text.slice(0, 100));
});

test.after(async () => {
  for (const one of opened) await one.close();
  await redis.close();
});
test.run();
