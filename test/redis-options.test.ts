import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { silentLog } from "../log.ts";
import { freePort } from "../persistence/embedded-server.ts";
import { openPushQueue } from "../persistence/push-queue.ts";
import { redisOptions } from "../persistence/redis-options.ts";
import { eventually } from "./helpers/eventually.ts";

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
];
for (const [url, options] of table) {
  test(`what ${url} means`, () => assert.equal(redisOptions(url), options));
}

const folder = mkdtempSync(join(tmpdir(), "tocsin-sentinel-"));
const children: ChildProcess[] = [];
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
test.after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(
    children.map((child) => child.exitCode ?? child.signalCode ?? new Promise((end) => child.on("exit", end))),
  );
  rmSync(folder, { recursive: true, force: true });
});

function run(name: string, lines: readonly string[], ...args: string[]): void {
  const file = join(folder, `${name}.conf`);
  writeFileSync(file, `${["bind 127.0.0.1", `dir ${folder}`, 'save ""', ...lines].join("\n")}\n`);
  children.push(spawn("redis-server", [file, ...args], { stdio: "ignore" }));
}

test("sentinels and servers that each ask for a password of their own are reached, and a push hint comes through", async () => {
  const [redisPort, sentinelPort] = [await freePort(null), await freePort(null)];
  run("redis", [`port ${redisPort}`, "requirepass server-word", "masterauth server-word"]);
  const plain = new Redis({ port: redisPort, password: "server-word", lazyConnect: true, retryStrategy: null });
  plain.on("error", () => {});
  await eventually("Redis answers", async () => {
    if (plain.status !== "ready") await plain.connect();
    return (await plain.ping()) === "PONG";
  });
  plain.disconnect();
  run(
    "sentinel",
    [
      `port ${sentinelPort}`,
      "requirepass sentinel-word",
      `sentinel monitor pages 127.0.0.1 ${redisPort} 1`,
      "sentinel auth-pass pages server-word",
    ],
    "--sentinel",
  );
  await sleep(300);

  const performed: string[] = [];
  const open = (url: string) =>
    openPushQueue(
      { url, prefix: "test" },
      {
        log: silentLog,
        lanes: [{ gatewayType: "GCM", urgent: true, slots: 1 }],
        perform: async (_lane, device) => void performed.push(device),
      },
    );
  const at = `127.0.0.1:${sentinelPort}/pages`;
  const queue = open(`redis-sentinel://:server-word@${at}?sentinel=:sentinel-word`);
  await eventually("Redis is found", () => queue.isUp(), 10_000);
  queue.add([
    { id: "one" as never, deviceId: "phone" as never, gatewayType: "GCM", priority: "high", attempt: 0, delayMs: 0 },
  ]);
  await eventually("the hint came through", () => performed.length === 1, 10_000);
  const stranger = open(`redis-sentinel://:server-word@${at}`);
  await sleep(1_000);
  assert.is(stranger.isUp(), false, "without the sentinels' password nothing is found");
  await Promise.all([queue.close(), stranger.close()]);
});

test.run();
