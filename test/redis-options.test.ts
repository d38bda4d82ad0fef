import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openBus } from "../cluster/bus.ts";
import type { BootId, DeviceId, LinkId, NotificationId, Priority } from "../domain.ts";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { silentLog } from "../log.ts";
import { freePort } from "../persistence/embedded-server.ts";
import { openPushQueue, type PushHint } from "../persistence/push-queue.ts";
import { redisAddress, redisOptions, revive } from "../persistence/redis-options.ts";
import { eventually } from "./helpers/eventually.ts";
import { startPushNode } from "./helpers/push-node.ts";
import { type RedisServer, startRedis, startSentinel } from "./helpers/redis.ts";

const sentinelDefaults = { failoverDetector: true, sentinelCommandTimeout: 1_000 };
const table: [string, Record<string, unknown>][] = [
  ["redis://h", { host: "h", port: 6379 }],
  ["redis://:p%40ss@h:6380/2", { host: "h", port: 6380, password: "p@ss", db: 2 }],
  ["rediss://u:p@[::1]:1", { host: "::1", port: 1, username: "u", password: "p", tls: {} }],
  [
    "redis-sentinel://a:1,[::1]:2/m",
    {
      sentinels: [
        { host: "a", port: 1 },
        { host: "::1", port: 2 },
      ],
      name: "m",
      ...sentinelDefaults,
    },
  ],
  [
    "redis-sentinel://u%3A:p%2F@a:1/m?sentinel=s:%40",
    {
      sentinels: [{ host: "a", port: 1 }],
      name: "m",
      username: "u:",
      password: "p/",
      sentinelUsername: "s",
      sentinelPassword: "@",
      ...sentinelDefaults,
    },
  ],
  [
    "redis-sentinel://a:1/m?sentinel=:q",
    { sentinels: [{ host: "a", port: 1 }], name: "m", sentinelPassword: "q", ...sentinelDefaults },
  ],
  [
    "rediss-sentinel://:p@a:1/m",
    {
      sentinels: [{ host: "a", port: 1 }],
      name: "m",
      password: "p",
      tls: {},
      sentinelTLS: {},
      enableTLSForSentinelMode: true,
      ...sentinelDefaults,
    },
  ],
];
for (const [url, options] of table) {
  test(`what ${url} means`, () => {
    const { sentinelReconnectStrategy, ...address } = redisAddress(url);
    assert.equal(address, options);
    assert.is(typeof sentinelReconnectStrategy, "sentinels" in options ? "function" : "undefined");
  });
}

const servers: RedisServer[] = [];
async function serves<T extends RedisServer>(starting: Promise<T>): Promise<T> {
  const server = await starting;
  servers.push(server);
  return server;
}
test.after(async () => {
  await Promise.all(servers.map((server) => server.close()));
});

function open(url: string) {
  const performed: string[] = [];
  const queue = openPushQueue(
    { url, prefix: "test" },
    {
      log: silentLog,
      lost: () => {},
      lanes: [
        { gatewayType: "GCM", urgent: true, slots: 1 },
        { gatewayType: "APNS", urgent: false, slots: 4 },
      ],
      async perform(_lane, device) {
        performed.push(device);
        if (device.startsWith("held")) await sleep(500);
      },
    },
  );
  return { ...queue, performed };
}
const hint = (deviceId: string, priority: Priority, delayMs = 0): PushHint => ({
  ...{ id: randomUUID() as NotificationId, deviceId: deviceId as DeviceId, attempt: 0, priority, delayMs },
  gatewayType: priority === "high" ? "GCM" : "APNS",
});

test("sentinels and servers that each ask for a password of their own are reached, and a push hint comes through", async () => {
  const redis = await serves(startRedis({ requirepass: "server-word", masterauth: "server-word" }));
  const sentinel = await serves(
    startSentinel([
      "requirepass sentinel-word",
      `sentinel monitor pages 127.0.0.1 ${redis.port} 1`,
      "sentinel auth-pass pages server-word",
    ]),
  );
  const at = `127.0.0.1:${sentinel.port}/pages`;
  const queue = open(`redis-sentinel://:server-word@${at}?sentinel=:sentinel-word`);
  await eventually("Redis is found", () => queue.isUp(), 10_000);
  queue.add([hint("phone", "high")]);
  await eventually("the hint came through", () => queue.performed.length === 1, 10_000);
  const stranger = open(`redis-sentinel://:server-word@${at}`);
  await sleep(1_000);
  assert.is(stranger.isUp(), false, "without the sentinels' password nothing is found");
  await Promise.all([queue.close(), stranger.close()]);
});

test("a connection that is ended for good while it asks a sentinel for the master comes back, unless it was closed", async () => {
  const redis = await serves(startRedis());
  const sentinel = await serves(startSentinel([`sentinel monitor pages 127.0.0.1 ${redis.port} 1`]));
  const client = new Redis(redisOptions(`redis-sentinel://127.0.0.1:${sentinel.port}/pages`));
  client.on("error", () => {});
  let closed = false;
  revive(client, () => closed);
  const ready = () => eventually("it is connected", () => client.status === "ready");
  async function endsIt(): Promise<void> {
    const comes = (event: "connecting" | "end") => new Promise<void>((resolve) => client.once(event, () => resolve()));
    client.disconnect(true);
    await comes("connecting");
    // As the failover detector does when it hears of a new master.
    client.disconnect(true);
    await comes("end");
  }
  await ready();
  await endsIt();
  await ready();
  assert.is(await client.ping(), "PONG");
  closed = true;
  await endsIt();
  await sleep(1_000);
  assert.is(client.status, "end");
});

test("a Redis that speaks TLS alone is believed by its certificate, and by no other", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-redis-tls-"));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const authority = await makeAuthority("Hospital CA");
  const server = await issueCertificate(authority, { names: ["127.0.0.1"], kind: "server" });
  const tlsPort = await freePort(null);
  const ca = file("ca.pem", authority.certificate);
  await serves(
    startRedis({
      ...{ "tls-port": String(tlsPort), "tls-auth-clients": "no", "tls-ca-cert-file": ca },
      ...{ "tls-cert-file": file("cert.pem", server.certificate), "tls-key-file": file("key.pem", server.key) },
    }),
  );
  const url = `rediss://127.0.0.1:${tlsPort}`;
  const node = startPushNode(url, "test", "go", "inherit", { NODE_EXTRA_CA_CERTS: ca });
  let said = "";
  node.stdout!.on("data", (chunk) => {
    said += chunk;
  });
  await eventually("it is connected", () => said.includes("up"));
  node.stdin!.write("phone\n");
  await eventually("the hint came through", () => said.includes("performing phone"));
  node.stdin!.end();
  await once(node, "exit");
  const stranger = open(url);
  await sleep(1_000);
  assert.is(stranger.isUp(), false, "an authority it does not know");
  await stranger.close();
  rmSync(folder, { recursive: true, force: true });
});

test("everything kept in Redis lies in one slot of a Redis Cluster, and hints pass through one", async () => {
  const redis = await serves(startRedis({ "cluster-enabled": "yes", "cluster-port": String(await freePort(null)) }));
  const admin = new Redis(redis.url);
  admin.on("error", () => {});
  test.after(() => admin.disconnect());
  await admin.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  await eventually("it serves", async () => /cluster_state:ok/.test(String(await admin.call("CLUSTER", "INFO"))));
  // It refuses what names keys of two slots, though it holds them all.
  assert.match(String(await admin.mget("a", "b").catch((error: Error) => error.message)), "CROSSSLOT");

  const queue = open(redis.url);
  await eventually("it is up", () => queue.isUp());
  queue.add([hint("held-1", "high"), hint("held-2", "high"), hint("held-3", "low"), hint("held-4", "medium")]);
  queue.add([hint("later", "low", 600)]);
  const keys = new Set<string>();
  await eventually("all are performed", async () => {
    for (const key of await admin.keys("*")) keys.add(key);
    return queue.performed.length === 5;
  });
  assert.ok(keys.size > 10, [...keys].join(" "));
  const slots = await Promise.all([...keys, "{test}:news:1"].map((key) => admin.call("CLUSTER", "KEYSLOT", key)));
  assert.is(new Set(slots).size, 1, [...keys].join(" "));
  await queue.close();

  const bus = () => openBus({ url: redis.url, prefix: "test", boot: randomUUID() as BootId }, { log: silentLog });
  const [one, other] = [bus(), bus()];
  const link = randomUUID() as LinkId;
  let heard = false;
  other.subscribe(link, true, () => {
    heard = true;
  });
  await eventually("a hint passes", () => {
    one.publish(link);
    return heard;
  });
  await Promise.all([one.close(), other.close()]);
});

// A queue that was closed before it had ever connected leaves a connection that goes on trying (known gaps).
test.after(() => void setTimeout(() => process.exit(), 2_000).unref());
test.run();
