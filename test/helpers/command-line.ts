/** The `tocsin` command as it is typed: each in a process of its own, in a folder of its own, without this process's settings. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ENTRY = join(import.meta.dirname, "../../cli/tocsin.js");

export type Ended = { readonly code: number | null; readonly out: string; readonly err: string };
export type Typed = {
  readonly child: ChildProcess;
  /** What it has written so far. */
  out(): string;
  err(): string;
  /** Its lines of JSON so far. */
  records(): Record<string, unknown>[];
  readonly ended: Promise<Ended>;
};
export type Typing = {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Another Node than this one, and its flags. */
  readonly node?: readonly [string, ...string[]];
};

export type CommandLine = {
  readonly folder: string;
  /** TOCSIN_DATA_DIR of every command; not there at first. */
  readonly dataDir: string;
  starts(args: readonly string[], typing?: Typing): Typed;
  runs(args: readonly string[], typing?: Typing): Promise<Ended>;
  /** Makes the commands believe in a server: what is not given is not there. */
  serverRuns(run: object): void;
  /** Takes the data folder away. */
  forgets(): void;
  /** Kills what still runs and removes the folder. */
  close(): void;
};

export function openCommandLine(): CommandLine {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-cli-"));
  const dataDir = join(folder, "data");
  const children = new Set<ChildProcess>();

  function starts(args: readonly string[], { stdin = "", env = {}, node = [process.execPath] }: Typing = {}): Typed {
    const [binary, ...flags] = node;
    const kept = Object.entries(process.env).filter(([name]) => !/^(TOCSIN_|NODE_OPTIONS$|FORCE_COLOR$)/.test(name));
    const child = spawn(binary, [...flags, ENTRY, ...args], {
      cwd: folder,
      env: { ...Object.fromEntries(kept), TOCSIN_DATA_DIR: dataDir, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    children.add(child);
    child.stdin.end(stdin);
    const written = { out: "", err: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      written.out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      written.err += text;
    });
    return {
      child,
      out: () => written.out,
      err: () => written.err,
      records: () => recordsOf(written.out),
      ended: new Promise((resolve) => {
        child.once("close", (code) => {
          children.delete(child);
          resolve({ code, ...written });
        });
      }),
    };
  }

  return {
    folder,
    dataDir,
    starts,
    runs: (args, typing) => starts(args, typing).ended,
    serverRuns(run) {
      mkdirSync(dataDir, { recursive: true });
      const bare = {
        node: "n1",
        url: "http://127.0.0.1:9",
        mxpp: null,
        mxppTls: null,
        metricsUrl: null,
        emulatorUrl: null,
      };
      writeFileSync(
        join(dataDir, "run.json"),
        JSON.stringify({ pid: process.pid, ...bare, adminKey: "the-key", ...run }),
      );
    },
    forgets: () => rmSync(dataDir, { recursive: true, force: true }),
    close() {
      for (const child of children) child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Whole lines of JSON. */
export function recordsOf(out: string): Record<string, unknown>[] {
  return out
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
