/** A Tocsin node as a process of its own, started the way an operator does, with settings in its environment. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Run } from "../../cli/server.ts";
import { eventually } from "./eventually.ts";
import { leaks, marked, NAME_MARK, TEXT_MARK } from "./secrets.ts";

export type NodeProcess = {
  readonly name: string;
  readonly dataDir: string;
  readonly adminKey: string;
  /** What it wrote to run.json; of the latest start. */
  run(): Run;
  /** Everything it has logged and printed, and its arguments, over all starts. */
  said(): string;
  pid(): number;
  /** As if its machine lost power. */
  kills(): Promise<void>;
  /** As its operator would; its exit code. */
  stops(): Promise<number | null>;
  /** @param program where the main.ts of another version is, that is to take its place */
  starts(program?: string): Promise<void>;
  freezes(): void;
  thaws(): void;
  /** Resolves with the exit code when the process ends. */
  ended(): Promise<number | null>;
  /** @throws Error when what it printed, counted or pushed holds a text, a name or a secret. */
  close(): Promise<void>;
};

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const START_MS = 60_000;
const SHOWING_MS = 2_000;

/**
 * Every port is any free one unless `settings` say otherwise.
 * @param options `openFilesMax`: how many files its machine lets it open; `program`: where its main.ts is; `upMs`: how long a start may take
 */
export async function startNode(
  settings: Readonly<Record<string, string>> = {},
  options: {
    readonly openFilesMax?: number | undefined;
    readonly program?: string | undefined;
    readonly upMs?: number;
  } = {},
): Promise<NodeProcess> {
  const { openFilesMax, program: own = ROOT, upMs = START_MS } = options;
  const dataDir = settings.TOCSIN_DATA_DIR ?? mkdtempSync(join(tmpdir(), "tocsin-node-"));
  const adminKey = settings.TOCSIN_ADMIN_KEY ?? randomBytes(18).toString("base64url");
  const name = settings.TOCSIN_NODE ?? "test-node";
  let said = "";
  let child: ChildProcess | null = null;
  let ended: Promise<number | null> = Promise.resolve(null);
  let run: Run | null = null;

  async function starts(from = own): Promise<void> {
    const clean = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("TOCSIN_")));
    // One that another version does not know it would refuse.
    const known = readFileSync(join(from, "settings.ts"), "utf8");
    const usual = {
      TOCSIN_NODE: name,
      TOCSIN_DATA_DIR: dataDir,
      TOCSIN_MXPP_PORT: "0",
      TOCSIN_HTTP_PORT: "0",
      TOCSIN_METRICS_PORT: "0",
      TOCSIN_EMULATOR_PORT: "0",
      TOCSIN_ADMIN_KEY: adminKey,
      TOCSIN_SEED: "none",
      TOCSIN_SYNTHETIC_SECONDS: "0",
      TOCSIN_LOG_LEVEL: "debug",
    };
    const limited = openFilesMax === undefined ? [] : ["prlimit", `--nofile=${openFilesMax}:${openFilesMax}`];
    const [program, ...args] = [...limited, process.execPath, "main.ts"];
    const started = spawn(program!, args, {
      cwd: from,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...clean,
        ...Object.fromEntries(Object.entries(usual).filter(([setting]) => known.includes(setting))),
        ...settings,
      },
    });
    child = started;
    said += readFileSync(`/proc/${started.pid}/cmdline`, "latin1");
    let over = false;
    ended = new Promise((resolve) => {
      started.on("exit", (code) => {
        over = true;
        resolve(code);
      });
    });
    for (const stream of [started.stdout!, started.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said += text;
      });
    }
    run = await eventually(
      `node ${name} is up`,
      async () => {
        if (over) return { failed: true } as const;
        const text = await readFile(join(dataDir, "run.json"), "utf8").catch(() => null);
        const found = text === null ? null : (JSON.parse(text) as Run);
        return found !== null && found.pid === started.pid ? found : undefined;
      },
      upMs,
    )
      .catch((error: Error): never => {
        throw new Error(`${error.message}:\n${said.slice(-4_000)}`);
      })
      .then((found) => {
        if ("failed" in found) throw new Error(`node ${name} did not start:\n${said.slice(-4_000)}`);
        return found;
      });
  }

  async function end(how: NodeJS.Signals): Promise<number | null> {
    child?.kill(how);
    return ended;
  }
  process.on("exit", () => child?.kill("SIGKILL"));

  await starts();
  return {
    name,
    dataDir,
    adminKey,
    run: () => run!,
    said: () => said,
    pid: () => child!.pid!,
    async kills() {
      await end("SIGKILL");
    },
    stops: () => end("SIGTERM"),
    starts,
    freezes: () => void child?.kill("SIGSTOP"),
    thaws: () => void child?.kill("SIGCONT"),
    ended: () => ended,
    async close() {
      // While it still runs: what it counts, and what it sent to push services where those are its own emulator.
      const shown = child === null || child.exitCode !== null ? [] : await Promise.all(showings(run).map(textAt));
      await end("SIGTERM");
      rmSync(dataDir, { recursive: true, force: true });
      const secrets = [
        marked("a page's text", TEXT_MARK),
        marked("a person's name", NAME_MARK),
        ...(adminKey === "" ? [] : [{ what: "the key of the admin API", value: adminKey }]),
      ];
      const found = leaks(
        [
          { place: "what it printed, or its arguments", bytes: Buffer.from(said) },
          { place: "its metrics, or the pushes it sent", bytes: Buffer.from(shown.join("\n")) },
        ],
        secrets,
      );
      if (found.length > 0) throw new Error(`node ${name}: ${found.join("; ")}`);
    },
  };
}

function showings(run: Run | null): string[] {
  const { metricsUrl = null, emulatorUrl = null } = run ?? {};
  return [metricsUrl, emulatorUrl === null ? null : `${emulatorUrl}/pushes`].filter((url) => url !== null);
}

/** "" where nobody answers: it was frozen, or is at its end. */
async function textAt(url: string): Promise<string> {
  return fetch(url, { signal: AbortSignal.timeout(SHOWING_MS) }).then(
    (answer) => answer.text(),
    () => "",
  );
}
