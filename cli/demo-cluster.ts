/**
 * A cluster on this machine for as long as a demo lasts: an embedded Postgres, a push emulator and nodes, each a process of its own,
 * below one temporary folder. Nothing of it stays, however the demo ends.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SHARD_COUNT } from "../domain.ts";
import { silentLog } from "../log.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../persistence/embedded.ts";
import { findPlace, relocatedFolder } from "../persistence/embedded-place.ts";
import { signal as signalTo, startOf } from "../persistence/embedded-process.ts";
import { findRunning, freePort } from "../persistence/embedded-server.ts";
import { pause } from "./backoff.ts";
import { type DemoNode, type DemoProcess, interrupted, startNode, startProcess, untilUp } from "./demo-node.ts";
import { type EmulatorRecord, emulatorSettings } from "./emulator-settings.ts";
import { CommandFault, EXIT } from "./exit.ts";
import { type Api, openApi } from "./server.ts";

export type DemoCluster = {
  readonly nodes: readonly DemoNode[];
  readonly emulatorUrl: string;
  /** Of a node that lives. */
  api(): Api;
  /** What each living node drives, as Postgres has it. */
  shards(): Promise<ReadonlyMap<string, ReadonlySet<number>>>;
  /** Waits until each node has its share of the shards, for at most half a minute. */
  settles(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
};

const COMMAND = fileURLToPath(new URL("tocsin.js", import.meta.url));
/** Fifteen connections a node, and some to look with. */
const CONNECTIONS = { max_connections: "200" };
const SETTLE_MS = 30_000;
const LOOK_MS = 200;
const ENDING_MS = 5_000;
const QUIT_LOOKS = 60;

/** @throws CommandFault */
export async function openDemoCluster(
  slice: { readonly nodes: number; readonly redisUrl: string | null },
  { signal, onState }: { readonly signal: AbortSignal; readonly onState: (state: string) => void },
): Promise<DemoCluster> {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-demo-"));
  // Postgres runs as another user where this is root, and must pass through.
  if (process.getuid?.() === 0) chmodSync(folder, 0o711);
  const processes: DemoProcess[] = [];
  let postgres: EmbeddedPostgres | null = null;
  let launched = false;
  const track = (started: DemoProcess) => void processes.push(started);

  /** Whatever still runs on the folder's data. */
  function endServer(): void {
    try {
      const server = launched ? findRunning(findPlace(folder)) : null;
      if (server === null) return;
      signalTo(server.pid, "SIGQUIT");
      // What it still writes would keep the folder.
      const clock = new Int32Array(new SharedArrayBuffer(4));
      for (let look = 0; look < QUIT_LOOKS && startOf(server.pid) !== null; look += 1) Atomics.wait(clock, 0, 0, 50);
    } catch {
      // There is no Postgres for this machine, and none to end.
    }
  }
  /** At an end that waits for nothing: an error nobody caught, a second Ctrl-C. */
  function abandon(): void {
    for (const one of processes) one.kill();
    endServer();
    try {
      remove();
    } catch {
      // What is left of the folder is a temporary one.
    }
  }
  function remove(): void {
    const options = { recursive: true, force: true, maxRetries: 5 };
    for (const path of [folder, relocatedFolder(folder)]) rmSync(path, options);
  }
  process.once("exit", abandon);

  async function close(): Promise<void> {
    // Nothing they hold is wanted any more.
    for (const one of processes) one.kill();
    await Promise.race([
      Promise.all(processes.map((one) => one.ended)),
      pause(ENDING_MS, new AbortController().signal),
    ]);
    await postgres?.stop();
    // One that did not come up in time was not handed over to be stopped.
    if (postgres === null) endServer();
    remove();
    process.off("exit", abandon);
  }

  try {
    launched = true;
    onState("starting Postgres");
    postgres = await startPostgres(folder);
    onState("starting the push emulator");
    const emulator = await startEmulator(folder, signal, track);
    const key = randomBytes(18).toString("base64url");
    const settings = {
      TOCSIN_PREMISE_DATABASE_URL: postgres.url,
      ...(slice.redisUrl === null ? {} : { TOCSIN_REDIS_URL: slice.redisUrl }),
      TOCSIN_CLUSTER: `demo-${randomBytes(4).toString("hex")}`,
      TOCSIN_ADMIN_KEY: key,
      TOCSIN_METRICS_PORT: "0",
      ...emulator.settings,
      TOCSIN_SYNTHETIC_SECONDS: "0",
      TOCSIN_LOG_LEVEL: "warn",
    };
    const ports = await freePorts(2 * slice.nodes);
    const starting = Array.from({ length: slice.nodes }, (_, index) => {
      const own = { TOCSIN_MXPP_PORT: ports[2 * index]!, TOCSIN_HTTP_PORT: ports[2 * index + 1]! };
      return startNode(folder, `node-${index + 1}`, { ...settings, ...own }, signal, track);
    });
    onState(slice.nodes === 1 ? "starting the node" : `starting ${slice.nodes} nodes`);
    const nodes = await Promise.all(starting);
    const api = (): Api => {
      const node = nodes.find((one) => one.alive());
      if (node === undefined) throw new CommandFault(EXIT.unavailable, "no node of the demo lives any more");
      return openApi({ url: node.run.url, key }, {});
    };
    async function shards(): Promise<ReadonlyMap<string, ReadonlySet<number>>> {
      const { nodes: seen } = await api().get<{ nodes: readonly { name: string; owns: string }[] }>("cluster");
      return new Map(seen.map(({ name, owns }) => [name, readRanges(owns)]));
    }
    return {
      ...{ nodes, emulatorUrl: emulator.url, api, shards, close },
      async settles(until) {
        const deadline = performance.now() + SETTLE_MS;
        const share = SHARD_COUNT / nodes.length;
        while (!until.aborted && performance.now() < deadline) {
          const owned = await shards();
          const counts = nodes.map((node) => owned.get(node.name)?.size ?? 0);
          const all = counts.reduce((sum, count) => sum + count, 0);
          if (all === SHARD_COUNT && counts.every((count) => count > share / 2)) return;
          await pause(LOOK_MS, until);
        }
      },
    };
  } catch (error) {
    await close();
    throw signal.aborted ? interrupted() : error;
  }
}

async function startPostgres(dataDir: string): Promise<EmbeddedPostgres> {
  try {
    return await startEmbeddedPostgres({ dataDir, log: silentLog, settings: CONNECTIONS });
  } catch (error) {
    throw new CommandFault(EXIT.unavailable, error instanceof Error ? error.message : "Postgres did not start");
  }
}

/** Beside the nodes, so that it outlives them, and the settings by which they take it for Apple and Google. */
async function startEmulator(
  folder: string,
  signal: AbortSignal,
  started: (process: DemoProcess) => void,
): Promise<{ readonly url: string; readonly settings: Readonly<Record<string, string>> }> {
  const emulator = startProcess(folder, "emulator", [COMMAND, "emulator", "--json", "--port", "0"], {});
  started(emulator);
  const record = await untilUp(
    emulator,
    () => {
      const [line = "", ...more] = readFileSync(join(emulator.folder, "log"), "utf8").split("\n");
      return more.length > 0 && line.startsWith("{") ? (JSON.parse(line) as EmulatorRecord) : null;
    },
    signal,
  );
  return { url: record.url, settings: emulatorSettings(record) };
}

/** All different, though none is taken yet. A killed node's stays free: the system gives these to nobody else. */
async function freePorts(count: number): Promise<string[]> {
  const ports = new Set<string>();
  while (ports.size < count) ports.add(String(await freePort(null)));
  return [...ports];
}

/** `0-12,40` as the cluster's API writes it. */
function readRanges(text: string): ReadonlySet<number> {
  const ranges = text.split(",").filter(Boolean);
  return new Set(
    ranges.flatMap((range) => {
      const [from = 0, to = from] = range.split("-").map(Number);
      return Array.from({ length: to - from + 1 }, (_, index) => from + index);
    }),
  );
}
