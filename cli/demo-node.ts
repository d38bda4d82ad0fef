/** A process of the demo: a node, or the push emulator, started as an operator would start it, in a folder of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pause } from "./backoff.ts";
import { CommandFault, EXIT } from "./exit.ts";
import { printable } from "./output.ts";
import { type Run, readRun } from "./server.ts";

export type DemoProcess = {
  readonly name: string;
  readonly folder: string;
  readonly child: ChildProcess;
  alive(): boolean;
  /** As if its machine lost power. */
  kill(): void;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
};
export type DemoNode = DemoProcess & { readonly run: Run };

const HERE = new URL("./", import.meta.url);
const MAIN = fileURLToPath(new URL("../main.ts", HERE));
const COMPILED = fileURLToPath(new URL("../node_modules/.cache/compiled", HERE));
const START_MS = 60_000;
const LOOK_MS = 50;
/** Of a line of a log that is shown. */
const LINE_MAX = 400;

/**
 * @param args of Node: the program and its own
 *
 * Its own settings alone: neither this process's nor those of a `.env` in the folder where the demo was typed.
 */
export function startProcess(
  folder: string,
  name: string,
  args: readonly string[],
  settings: Readonly<Record<string, string>>,
): DemoProcess {
  const own = join(folder, name);
  mkdirSync(own, { mode: 0o700 });
  const log = openSync(join(own, "log"), "a", 0o600);
  const inherited = Object.entries(process.env).filter(([key]) => !key.startsWith("TOCSIN_"));
  const child = spawn(process.execPath, [...args], {
    cwd: own,
    // A group of its own: at Ctrl-C it is the demo that ends it.
    detached: true,
    stdio: ["ignore", log, log],
    env: { NODE_COMPILE_CACHE: COMPILED, ...Object.fromEntries(inherited), TOCSIN_DATA_DIR: own, ...settings },
  });
  closeSync(log);
  let over = false;
  const ended = new Promise<void>((resolve) => {
    for (const event of ["exit", "error"] as const) {
      child.once(event, () => {
        over = true;
        resolve();
      });
    }
  });
  return {
    ...{ name, folder: own, child, ended },
    alive: () => !over,
    kill: () => void child.kill("SIGKILL"),
  };
}

/**
 * Asks again and again until there is an answer.
 * @throws CommandFault with the last line of the process's log when it ends first, when it takes too long, and when interrupted
 */
export async function untilUp<T>(process: DemoProcess, look: () => T | null, signal: AbortSignal): Promise<T> {
  const until = performance.now() + START_MS;
  for (;;) {
    const found = look();
    if (found !== null) return found;
    if (signal.aborted) throw interrupted();
    if (!process.alive()) throw fault(process, "did not start");
    if (performance.now() > until) throw fault(process, `did not start within ${START_MS / 1_000} s`);
    await pause(LOOK_MS, signal);
  }
}

export async function startNode(
  folder: string,
  name: string,
  settings: Readonly<Record<string, string>>,
  signal: AbortSignal,
  started: (process: DemoProcess) => void,
): Promise<DemoNode> {
  const process = startProcess(folder, name, [MAIN], { TOCSIN_NODE: name, ...settings });
  started(process);
  const run = await untilUp(
    process,
    () => {
      const found = readRun(process.folder);
      return found?.pid === process.child.pid ? found : null;
    },
    signal,
  );
  return { ...process, run };
}

export function interrupted(): CommandFault {
  return new CommandFault(EXIT.interrupted, "the demo was ended before it was over");
}

function fault(process: DemoProcess, what: string): CommandFault {
  const last = readFileSync(join(process.folder, "log"), "utf8").trimEnd().split("\n").at(-1) ?? "";
  const line = printable(last).slice(0, LINE_MAX);
  return new CommandFault(EXIT.unavailable, `${process.name} ${what}${line === "" ? "" : `: ${line}`}`);
}
