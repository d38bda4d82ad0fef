/** A real HAProxy in front of nodes, with the configuration that is recommended (deploy/haproxy.cfg), its names and ports filled in. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../persistence/embedded-server.ts";
import { eventually } from "./eventually.ts";
import { loosen, openGuardian } from "./guardian.ts";
import type { NodeProcess } from "./node.ts";

export type Haproxy = {
  /** Where host systems connect. */
  readonly mxppPort: number;
  /** -1: the nodes have no certificates. */
  readonly mxppTlsPort: number;
  /** Where phones fetch. */
  readonly url: string;
  /** What it has printed: servers that went and came. */
  said(): string;
  close(): Promise<void>;
};

/** Where it connects to the nodes from: trust this address, and no other of 127.0.0.0/8 is a balancer's. */
export const HAPROXY_ADDRESS = "127.0.0.9";

// The shell is its parent and ends it when this process closes the shell's input, exits or is killed.
const RUN = `
haproxy -db -f "$1" </dev/null 2>&1 &
balancer=$!
cat >/dev/null
kill -TERM $balancer 2>/dev/null
wait $balancer 2>/dev/null
`;

/** @throws Error when this machine has no haproxy */
export async function startHaproxy(nodes: readonly NodeProcess[]): Promise<Haproxy> {
  if (spawnSync("haproxy", ["-v"], { timeout: 5_000 }).status !== 0) {
    throw new Error(
      "this test needs haproxy on the PATH (Debian, Ubuntu: apt-get install haproxy); script/test installs it",
    );
  }
  const tls = nodes.some((node) => node.run().mxppTls !== null);
  const ports = { "8091": await freePort(null), "20000": await freePort(null), "20001": await freePort(null) };
  const folder = mkdtempSync(join(tmpdir(), "tocsin-haproxy-"));
  const guardian = openGuardian('rm -rf "$1"', [folder]);
  const file = join(folder, "haproxy.cfg");
  writeFileSync(file, filledIn(nodes, ports));

  const shell: ChildProcess = spawn("sh", ["-c", RUN, "sh", file], {
    cwd: folder,
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
    env: { PATH: process.env.PATH, ...(tls ? { NODES_TLS: "1" } : {}) },
  });
  let said = "";
  shell.stdout!.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  loosen(shell);
  async function close(): Promise<void> {
    shell.ref();
    shell.stdin?.end();
    if (shell.exitCode === null) await once(shell, "exit");
    await guardian.close();
  }
  await eventually("HAProxy takes connections", () => takesConnections(ports["20000"])).catch(async (error) => {
    await close();
    throw new Error(`haproxy did not start:\n${said.slice(-4_000)}`, { cause: error });
  });
  return {
    mxppPort: ports["20000"],
    mxppTlsPort: tls ? ports["20001"] : -1,
    url: `${tls ? "https" : "http"}://127.0.0.1:${ports["8091"]}`,
    said: () => said,
    close,
  };
}

type Ports = Readonly<Record<"8091" | "20000" | "20001", number>>;

/** Servers the test has no nodes for are left out. */
function filledIn(nodes: readonly NodeProcess[], ports: Ports): string {
  const lines = readFileSync(new URL("../../deploy/haproxy.cfg", import.meta.url), "utf8").split("\n");
  return lines
    .flatMap((line) => {
      if (line.trim() === "defaults") return [line, `    source ${HAPROXY_ADDRESS}`];
      if (line.trim() === "parse-resolv-conf") return [];
      const bound = /^(\s+bind) :(\d+)(.*)$/.exec(line);
      if (bound !== null) return [`${bound[1]} 127.0.0.1:${ports[bound[2] as keyof Ports]}${bound[3]}`];
      const server = /^(\s+server tocsin-(\d)) tocsin-\d:(\d+)(.*)$/.exec(line);
      if (server === null) return [line];
      const run = nodes[Number(server[2]) - 1]?.run();
      if (run === undefined) return [];
      const own = { "8091": Number(new URL(run.url).port), "20000": run.mxpp?.port, "20001": run.mxppTls?.port };
      return [`${server[1]} 127.0.0.1:${own[server[3] as keyof Ports] ?? 1}${server[4]}`];
    })
    .join("\n");
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
