/** A real redis-server of a test's own, to break as well as to use. It keeps nothing over a restart. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
  start(): Promise<void>;
  close(): Promise<void>;
};

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
export async function startRedis(): Promise<RedisServer> {
  if (spawnSync("redis-server", ["--version"], { timeout: 5_000 }).status !== 0) {
    throw new Error(
      "this test needs redis-server on the PATH (Debian, Ubuntu: apt-get install redis-server); script/test installs it",
    );
  }
  const folder = mkdtempSync(join(tmpdir(), "tocsin-redis-"));
  const guardian = openGuardian('rm -rf "$1"', [folder]);
  const port = await freePort(null);
  const logFile = join(folder, "redis.log");
  const options = Object.entries({
    port: String(port),
    bind: "127.0.0.1",
    dir: folder,
    logfile: logFile,
    save: "",
    appendonly: "no",
    "maxmemory-policy": "noeviction",
    daemonize: "no",
  }).flatMap(([name, value]) => [`--${name}`, value]);
  let running: { shell: ChildProcess; pid: number } | null = null;

  async function start(): Promise<void> {
    if (running !== null) throw new Error("this Redis runs already");
    const shell = spawn("sh", ["-c", RUN, "sh", ...options], {
      cwd: folder,
      detached: true,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const [said] = (await once(shell.stdout, "data")) as [Buffer];
    loosen(shell);
    running = { shell, pid: Number(said.toString().trim()) };
    try {
      await eventually("the test's Redis answers", () => ping(port), 5_000);
    } catch (error) {
      await end("SIGKILL");
      throw new Error(`redis-server did not start:\n${readFileSync(logFile, "utf8").slice(-2_000)}`, { cause: error });
    }
  }

  async function end(how: "SIGKILL" | "SIGTERM"): Promise<void> {
    if (running === null) throw new Error("this Redis does not run");
    const { shell, pid } = running;
    running = null;
    shell.ref();
    process.kill(pid, how);
    if (how === "SIGTERM") await eventually("the test's Redis stops", async () => !(await ping(port)), 5_000);
    shell.stdin?.end();
    if (shell.exitCode === null) await once(shell, "exit");
  }

  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      if (running === null) throw new Error("this Redis does not run");
      return running.pid;
    },
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    start,
    async close() {
      if (running !== null) await end("SIGKILL");
      await guardian.close();
    },
  };
}

function ping(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: 1_000 });
    socket.on("connect", () => socket.write("PING\r\n"));
    socket.on("data", (chunk) => finish(chunk.toString().startsWith("+PONG")));
    socket.on("error", () => finish(false));
    socket.on("timeout", () => finish(false));
    socket.on("close", () => finish(false));
    function finish(answer: boolean): void {
      socket.destroy();
      resolve(answer);
    }
  });
}
