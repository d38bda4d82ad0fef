/** Real Redis servers and sentinels of a test's own, to break as well as to use. A server keeps nothing over a restart. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Redis } from "ioredis";
import { freePort } from "../../persistence/embedded-server.ts";
import { eventually } from "./eventually.ts";
import { loosen, openGuardian } from "./guardian.ts";

export type RedisServer = {
  /** `redis://127.0.0.1:port`; the same over every restart. */
  readonly url: string;
  readonly port: number;
  /** Throws while it does not run. */
  readonly pid: number;
  /** As if its machine lost power. */
  kill(): Promise<void>;
  stop(): Promise<void>;
  /** @param more settings of this start alone */
  start(more?: RedisSettings): Promise<void>;
  /** It keeps its connections and answers nothing. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
};

/** By their names in redis.conf. */
export type RedisSettings = Readonly<Record<string, string>>;

// The shell is the server's parent and ends it when this process closes the shell's input, exits or is killed.
const RUN = `
redis-server "$@" </dev/null >/dev/null 2>&1 &
server=$!
echo $server
cat >/dev/null
kill -KILL $server 2>/dev/null
wait $server 2>/dev/null
`;

/** @throws Error when this machine has no redis-server */
export function startRedis(settings: RedisSettings = {}): Promise<RedisServer> {
  return serve((folder, port, more) => {
    const own = {
      dir: folder,
      port,
      save: "",
      appendonly: "no",
      "maxmemory-policy": "noeviction",
      ...settings,
      ...more,
    };
    return Object.entries(own).flatMap(([name, value]) => [`--${name}`, ...String(value).split(" ")]);
  });
}

/** @param lines of its sentinel.conf, beside where it listens; what it learns it keeps over a restart */
export function startSentinel(lines: readonly string[]): Promise<RedisServer> {
  return serve((folder, port) => {
    const file = join(folder, "sentinel.conf");
    if (!existsSync(file)) writeFileSync(file, `${[`port ${port}`, `dir ${folder}`, ...lines].join("\n")}\n`);
    return [file, "--sentinel"];
  });
}

async function serve(
  command: (folder: string, port: number, more: RedisSettings) => readonly string[],
): Promise<RedisServer> {
  if (spawnSync("redis-server", ["--version"], { timeout: 5_000 }).status !== 0) {
    throw new Error(
      "this test needs redis-server on the PATH (Debian, Ubuntu: apt-get install redis-server); script/test installs it",
    );
  }
  const folder = mkdtempSync(join(tmpdir(), "tocsin-redis-"));
  const guardian = openGuardian('rm -rf "$1"', [folder]);
  const port = await freePort(null);
  const logFile = join(folder, "redis.log");
  const common = ["--bind", "127.0.0.1", "--logfile", logFile, "--daemonize", "no"];
  let running: { shell: ChildProcess; pid: number } | null = null;

  async function start(more: RedisSettings = {}): Promise<void> {
    if (running !== null) throw new Error("this Redis runs already");
    const shell = spawn("sh", ["-c", RUN, "sh", ...command(folder, port, more), ...common], {
      cwd: folder,
      detached: true,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const [said] = (await once(shell.stdout, "data")) as [Buffer];
    loosen(shell);
    running = { shell, pid: Number(said.toString().trim()) };
    try {
      await eventually("the test's Redis answers", () => answers(port), 5_000);
    } catch (error) {
      await end("SIGKILL");
      throw new Error(`redis-server did not start:\n${readFileSync(logFile, "utf8").slice(-2_000)}`, { cause: error });
    }
  }

  async function end(how: "SIGKILL" | "SIGTERM"): Promise<void> {
    const pid = pidOf();
    const { shell } = running!;
    running = null;
    shell.ref();
    process.kill(pid, how);
    if (how === "SIGTERM") await eventually("the test's Redis stops", async () => !(await answers(port)), 5_000);
    shell.stdin?.end();
    if (shell.exitCode === null) await once(shell, "exit");
  }

  function pidOf(): number {
    if (running === null) throw new Error("this Redis does not run");
    return running.pid;
  }

  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return pidOf();
    },
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    start,
    freeze: () => void process.kill(pidOf(), "SIGSTOP"),
    thaw: () => void process.kill(pidOf(), "SIGCONT"),
    async close() {
      if (running !== null) await end("SIGKILL");
      await guardian.close();
    },
  };
}

/** Also by asking for a password. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: 1_000 });
    socket.on("connect", () => socket.write("PING\r\n"));
    socket.on("data", (chunk) => finish(/^(\+PONG|-NOAUTH)/.test(chunk.toString())));
    socket.on("error", () => finish(false));
    socket.on("timeout", () => finish(false));
    socket.on("close", () => finish(false));
    function finish(answer: boolean): void {
      socket.destroy();
      resolve(answer);
    }
  });
}

/** Of this name's connections, as the server sees them; there is one at least. */
export async function portsOf(admin: Redis, name: string): Promise<number[]> {
  const lines = String(await admin.call("CLIENT", "LIST")).split("\n");
  const ports = lines
    .filter((line) => line.includes(` name=${name} `))
    .map((line) => Number(/ addr=[^ ]*:(\d+) /.exec(line)![1]));
  if (ports.length === 0) throw new Error(`no connection is named ${name}`);
  return ports;
}
