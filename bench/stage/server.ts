/** The server under measurement: `main.ts` of a checkout, as its users start it, on ports that stay over its restarts. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../persistence/embedded-server.ts";
import { endsWithUs } from "./ends-with-us.ts";

export type Server = {
  readonly mxppPort: number;
  readonly httpsPort: number;
  /** For phones and operators. */
  readonly url: string;
  /** PEM: whom its clients trust. */
  readonly ca: string;
  readonly adminKey: string;
  runs(): boolean;
  /** The last of what it wrote since its latest start. */
  said(): string;
  /** @throws Error when it does not run */
  pid(): number;
  /** Returns at once; see `ready`. */
  starts(): void;
  /** Until /readyz answers 200; ms from `starts` to that answer. */
  ready(limitMs?: number): Promise<number>;
  stops(): Promise<void>;
  kills(): Promise<void>;
};

export type ServerPlace = {
  /** The checkout whose main.ts is run. */
  readonly root: string;
  /** By whether its settings name a certificate. */
  readonly scheme: "https" | "http";
  /** Flags for Node, before main.ts. */
  readonly nodeFlags: readonly string[];
  readonly dataDir: string;
  readonly ca: string;
  readonly settings: Readonly<Record<string, string>>;
};

const READY_MS = 30_000;
const LOOK_MS = 4;
const STOP_MS = 20_000;
const SAID_CHARACTERS = 4_000;
const ADMIN_KEY = "bench-admin-key-of-a-server-on-loopback";

export async function openServer({ root, scheme, nodeFlags, dataDir, ca, settings }: ServerPlace): Promise<Server> {
  const ports = { mxpp: await freePort(null), https: await freePort(null) };
  const url = `${scheme}://127.0.0.1:${ports.https}`;
  let child: ChildProcess | null = null;
  let ended: Promise<void> = Promise.resolve();
  let startedAt = 0;
  let said = "";
  function starts(): void {
    if (child !== null) throw new Error("the server runs already");
    const clean = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(TOCSIN_|NODE_)/.test(key)));
    startedAt = performance.now();
    said = "";
    const started = endsWithUs(
      spawn(process.execPath, [...nodeFlags, join(root, "main.ts")], {
        cwd: dataDir, // no .env of the checkout
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...clean,
          NODE_COMPILE_CACHE: join(root, "node_modules/.cache/compiled"), // as script/bootstrap has it
          TOCSIN_NODE: "bench",
          TOCSIN_DATA_DIR: dataDir,
          TOCSIN_MXPP_PORT: String(ports.mxpp),
          TOCSIN_MXPP_TLS_PORT: "-1",
          TOCSIN_HTTP_PORT: String(ports.https),
          TOCSIN_METRICS_PORT: "0",
          TOCSIN_ADMIN_KEY: ADMIN_KEY,
          TOCSIN_SEED: "none",
          ...withoutTestPages(root),
          TOCSIN_LOG_LEVEL: "warn",
          ...settings,
        },
      }),
    );
    child = started;
    for (const stream of [started.stdout, started.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said = (said + text).slice(-SAID_CHARACTERS);
      });
    }
    ended = new Promise((resolve) => {
      started.on("exit", () => {
        child = null;
        resolve();
      });
    });
  }

  async function ready(limitMs = READY_MS): Promise<number> {
    while (performance.now() - startedAt < limitMs) {
      if (child === null) throw new Error(`the server ended by itself:\n${said}`);
      if (await isReady(url, ca)) return performance.now() - startedAt;
      await sleep(LOOK_MS);
    }
    throw new Error(`the server was not ready within ${limitMs} ms:\n${said}`);
  }

  async function end(how: "SIGTERM" | "SIGKILL"): Promise<void> {
    const killer = setTimeout(() => child?.kill("SIGKILL"), STOP_MS);
    child?.kill(how);
    await ended;
    clearTimeout(killer);
  }

  return {
    mxppPort: ports.mxpp,
    httpsPort: ports.https,
    url,
    ca,
    adminKey: ADMIN_KEY,
    runs: () => child !== null,
    said: () => said,
    pid() {
      if (child?.pid === undefined) throw new Error(`the server ended by itself:\n${said}`);
      return child.pid;
    },
    starts,
    ready,
    stops: () => end("SIGTERM"),
    kills: () => end("SIGKILL"),
  };
}

function isReady(url: string, ca: string): Promise<boolean> {
  const request = url.startsWith("https:") ? requestHttps : requestHttp;
  return new Promise((resolve) => {
    const asking = request(`${url}/readyz`, { ca, agent: false, timeout: 2_000 }, (answer) => {
      answer.resume();
      answer.on("error", () => resolve(false));
      answer.on("end", () => resolve(answer.statusCode === 200));
    });
    asking.on("timeout", () => asking.destroy());
    asking.on("error", () => resolve(false));
    asking.end();
  });
}

/** What is measured are the pages of the load. A checkout to compare with may be of before there were test pages, and refuse the setting. */
function withoutTestPages(root: string): Record<string, string> {
  const name = "TOCSIN_SYNTHETIC_SECONDS";
  return readFileSync(join(root, "settings.ts"), "utf8").includes(name) ? { [name]: "0" } : {};
}
