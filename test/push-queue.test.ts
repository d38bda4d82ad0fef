import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Log, silentLog } from "../log.ts";
import { eventually } from "./helpers/eventually.ts";
import { startPushNode } from "./helpers/push-node.ts";
import { devicesOf, hint, pushQueues, type QueueNode } from "./helpers/push-queues.ts";
import { startRedis } from "./helpers/redis.ts";

const redis = await startRedis();
const admin = new Redis(redis.url);
admin.on("error", () => {});
const { open, isUp, holds, has, endAll } = pushQueues(redis, admin);
test.after.each(endAll);
test.after(async () => {
  admin.disconnect();
  await redis.close();
});

/** That of the hints below. */
const LANE = { gatewayType: "GCM", urgent: true } as const;

test("every job reaches a worker of its network and urgency, once", async () => {
  const node = open();
  await isUp(node);
  const hints = Array.from({ length: 60 }, (_, n) =>
    hint({ gatewayType: n % 3 === 0 ? "APNS" : "GCM", priority: n % 2 === 0 ? "high" : "low" }),
  );
  node.queue.add(hints.slice(0, 30));
  for (const one of hints.slice(30)) node.queue.add([one]);
  await has(node, 60);
  await sleep(100);
  const wanted = new Map(hints.map((one) => [one.deviceId, one]));
  assert.is(node.performed.length, 60);
  for (const { device, gatewayType, urgent } of node.performed) {
    const { gatewayType: network, priority } = wanted.get(device)!;
    assert.equal([gatewayType, urgent], [network, priority === "high"]);
  }
  assert.is(new Set(devicesOf(node)).size, 60);
});

test("two nodes share the work", async () => {
  const prefix = randomUUID();
  const nodes = [open({ prefix, perform: () => sleep(5) }), open({ prefix, perform: () => sleep(5) })] as const;
  await Promise.all(nodes.map(isUp));
  nodes[0].queue.add(Array.from({ length: 80 }, () => hint()));
  await eventually("all are performed", () => nodes[0].performed.length + nodes[1].performed.length === 80);
  assert.ok(nodes.every((node) => node.performed.length > 0));
  assert.is(new Set(nodes.flatMap(devicesOf)).size, 80);
});

test("an id that is waiting is not taken twice, and one that is done may come again, with its attempt or without", async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const prefix = randomUUID();
  const node = open({ prefix, slots: 1, perform: () => held });
  await isUp(node);
  const [first, twice, last] = [hint(), hint(), hint()];
  node.queue.add([first]);
  await has(node, 1);
  node.queue.add([twice]);
  node.queue.add([twice]);
  node.queue.add([last]);
  await holds(prefix, last);
  release();
  await has(node, 3);
  await sleep(100);
  assert.equal(devicesOf(node), [first.deviceId, twice.deviceId, last.deviceId]);
  node.queue.add([{ ...twice, attempt: 1 }]);
  await has(node, 4);
  node.queue.add([twice]);
  await has(node, 5);
});

test("a retry is not swallowed by the job it comes from", async () => {
  const one = hint();
  const node: QueueNode = open({
    async perform() {
      if (node.performed.length === 1) node.queue.add([{ ...one, attempt: 1, delayMs: 50 }]);
      await sleep(20);
    },
  });
  await isUp(node);
  node.queue.add([one]);
  await has(node, 2);
  assert.equal(devicesOf(node), [one.deviceId, one.deviceId]);
});

test("in a lane the more urgent overtake those that wait", async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const prefix = randomUUID();
  const node = open({ prefix, slots: 1, perform: () => held });
  await isUp(node);
  const [first, low, medium] = [hint({ priority: "low" }), hint({ priority: "low" }), hint({ priority: "medium" })];
  node.queue.add([first]);
  await has(node, 1);
  for (const one of [low, medium]) node.queue.add([one]);
  await holds(prefix, medium);
  release();
  await has(node, 3);
  assert.equal(
    devicesOf(node),
    [first, medium, low].map(({ deviceId }) => deviceId),
  );
});

test("high priority is performed while the rest holds every slot of its own and waits by the hundred", async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const urgent = hint();
  const node = open({ slots: 2, perform: async (device) => (device === urgent.deviceId ? undefined : held) });
  await isUp(node);
  node.queue.add(Array.from({ length: 300 }, () => hint({ priority: "low" })));
  await has(node, 2);
  node.queue.add([urgent]);
  await has(node, 3);
  assert.is(devicesOf(node)[2], urgent.deviceId);
  release();
});

test("a delayed push waits its time", async () => {
  const node = open();
  await isUp(node);
  const began = performance.now();
  const [later, now] = [hint({ delayMs: 1_500 }), hint()];
  node.queue.add([later, now]);
  await has(node, 2);
  assert.equal(devicesOf(node), [now.deviceId, later.deviceId]);
  assert.ok(node.performed[1]!.at - began >= 1_490);
});

test("a job that fails against all promises is gone, and its id may return", async () => {
  const node = open({ perform: () => Promise.reject(new Error("never")) });
  await isUp(node);
  const one = hint();
  node.queue.add([one]);
  await has(node, 1);
  await eventually("the same id is taken again", () => {
    node.queue.add([one]);
    return node.performed.length >= 2;
  });
});

test("a redis that is killed: adding neither throws nor hangs, the queue says it is down, and up again by itself", async () => {
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (_fields, event) => warnings.push(event), child: () => log };
  let losses = 0;
  const lost = () => {
    losses += 1;
  };
  const node = open({ log, lost });
  await isUp(node);
  for (let round = 0; round < 2; round += 1) {
    await redis.kill();
    await eventually("the queue is down", () => !node.queue.isUp());
    assert.is(losses, round + 1, "it says at once that hints may be lost");
    const began = performance.now();
    for (let n = 0; n < 50; n += 1) node.queue.add([hint()]);
    assert.ok(performance.now() - began < 1_000);
    await sleep(300);
    assert.is(node.queue.isUp(), false);
    await redis.start();
    await eventually("the queue is up", () => node.queue.isUp(), 10_000);
    const after = hint();
    assert.is(node.queue.brings(LANE), false, "connected, and nothing was taken yet");
    await eventually("pushes flow again", () => {
      node.queue.add([after]);
      return devicesOf(node).includes(after.deviceId);
    });
    assert.is(node.queue.brings(LANE), true);
  }
  assert.equal(warnings, ["redis does not answer; pushes go out by the sweep"], "said once, not for every command");
});

test("a redis that is not there at the start is found when it comes", async () => {
  await redis.stop();
  const node = open();
  node.queue.add([hint()]);
  await sleep(500);
  assert.is(node.queue.isUp(), false);
  await redis.start();
  await eventually("the queue is up", () => node.queue.isUp(), 10_000);
  const one = hint();
  await eventually("pushes flow", () => {
    node.queue.add([one]);
    return devicesOf(node).includes(one.deviceId);
  });
});

test("a redis that stops answering is down once a command has waited too long, and is up again afterwards", async () => {
  const node = open();
  await isUp(node);
  await admin.call("CLIENT", "PAUSE", "4000", "ALL");
  node.queue.add([hint()]);
  await eventually("the queue is down", () => !node.queue.isUp(), 4_000);
  await eventually(
    "the queue is up",
    () => {
      node.queue.add([hint()]);
      return node.queue.isUp();
    },
    10_000,
  );
  const one = hint();
  node.queue.add([one]);
  await eventually("pushes flow", () => devicesOf(node).includes(one.deviceId));
});

test("a redis whose user may do what pushes need and nothing else brings them as well", async () => {
  const rights = "~{limited}:* &{limited}:* +@all -@dangerous";
  await admin.call("ACL", "SETUSER", "tocsin", "on", ">word", ...rights.split(" "));
  const node = open({ url: `redis://tocsin:word@127.0.0.1:${redis.port}`, prefix: "limited" });
  await isUp(node);
  node.queue.add([hint(), hint({ delayMs: 50 })]);
  await has(node, 2);
  for (const bringer of node.queue.bringers) assert.is(await bringer.look(), "well");
});

test("a redis that loses everything loses the hints that waited, and nothing of what comes after", async () => {
  const prefix = randomUUID();
  const node = open({ prefix });
  await isUp(node);
  const lost = Array.from({ length: 5 }, () => hint({ delayMs: 2_000 }));
  node.queue.add(lost);
  await holds(prefix, lost.at(-1)!);
  await admin.flushall();
  await admin.script("FLUSH");
  const after = Array.from({ length: 20 }, () => hint());
  node.queue.add(after);
  await has(node, 20);
  await sleep(2_200);
  assert.equal(devicesOf(node).sort(), after.map(({ deviceId }) => deviceId).sort());
  node.queue.add(lost);
  await has(node, 25);
});

test("redis holds ids and nothing else of a push", async () => {
  const prefix = randomUUID();
  const node = open({ prefix });
  await isUp(node);
  const one = hint({ delayMs: 60_000 });
  node.queue.add([one]);
  const key = await eventually("the job is there", async () => (await admin.keys(`*${prefix}*:p-${one.id}-0`))[0]);
  const job = await admin.hgetall(key);
  assert.equal(JSON.parse(job.data!), { device: one.deviceId });
});

test("a worker that dies in the middle of a push gives it to another", async () => {
  const prefix = randomUUID();
  const child = startPushNode(redis.url, prefix, "hold", "inherit");
  await once(child.stdout!, "data");
  const adding = open({ prefix: randomUUID() });
  await isUp(adding);
  const one = hint();
  child.stdin!.write(`${one.deviceId}\n`);
  await once(child.stdout!, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  const node = open({ prefix });
  await has(node, 1, 15_000);
  assert.equal(devicesOf(node), [one.deviceId]);
});

const nothing = async () => {};
for (const [what, before, during, mend] of [
  ["is there", nothing, nothing, nothing],
  ["is down", nothing, () => redis.kill(), () => redis.start()],
  ["never was there", () => redis.kill(), nothing, () => redis.start()],
  ["does not answer", nothing, () => admin.call("CLIENT", "PAUSE", "12000", "ALL"), nothing],
] as const) {
  test(`a node whose redis ${what} closes within its deadline, and its process ends by itself with 0`, async () => {
    await before();
    const child = startPushNode(redis.url, randomUUID(), before === nothing ? "go" : "alone", "pipe");
    const limit = setTimeout(() => child.kill("SIGKILL"), 25_000);
    let said = "";
    let complained = "";
    child.stdout!.on("data", (chunk) => {
      said += chunk;
    });
    child.stderr!.on("data", (chunk) => {
      complained += chunk;
    });
    await eventually("the child is up", () => said.includes("up"));
    try {
      await during();
      await sleep(200);
      child.stdin!.end();
      const [code, signal] = await once(child, "exit");
      clearTimeout(limit);
      assert.equal([code, signal, complained], [0, null, ""]);
      const took = Number(/closed after (\d+)/.exec(said)?.[1]);
      assert.ok(took < 5_000, `it took ${took} ms`);
    } finally {
      await mend();
    }
  });
}

test.run();
