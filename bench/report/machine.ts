/** What a run was taken on; figures of two machines, or of one that did something else meanwhile, are not to be compared. */
import { spawnSync } from "node:child_process";
import { statfsSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir, totalmem } from "node:os";

export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMb: number;
  readonly node: string;
  /** Processes that ran or waited over the last minute, before the run. */
  readonly loadBefore: number;
  /** Whether Postgres' data lie in memory, where a commit costs nothing. */
  readonly dataInMemory: boolean;
};

const TMPFS = 0x01021994;

export function machineFacts(): Machine {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryMb: Math.round(totalmem() / 2 ** 20),
    node: process.version,
    loadBefore: Math.round(loadavg()[0]! * 100) / 100,
    dataInMemory: statfsSync(tmpdir()).type === TMPFS,
  };
}

/** As git has it, with a `+` where files have changed since; null outside a repository. */
export function commitOf(root: string): string | null {
  const git = (...args: string[]) => spawnSync("git", ["-C", root, ...args], { encoding: "utf8", timeout: 10_000 });
  const head = git("rev-parse", "--short=12", "HEAD");
  if (head.status !== 0) return null;
  return head.stdout.trim() + (git("status", "--porcelain").stdout.trim() === "" ? "" : "+");
}
