/**
 * What the system knows of a process by its id. A pid alone proves nothing: it is reused after a restart, and a dead
 * process nobody reaped (containers often have no init) still answers to signal 0. So a process is its pid, the time it
 * started and its command line. Linux reads /proc; elsewhere `ps` says the same.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

const hasProc = existsSync("/proc/self/stat");
/** Start times count from the boot, so one is only unique together with it. */
const boot = hasProc ? readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim() : "";

function procStat(pid: number): { state: string; parent: number; started: string } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // the command's name stands in parentheses and may hold anything, so fields are counted from the last one
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", parent: Number(fields[1]), started: fields[19] ?? "" };
  } catch {
    return null;
  }
}

function ps(pid: number, column: string): string | null {
  const asked = spawnSync("ps", ["-o", `${column}=`, "-p", String(pid)], { encoding: "utf8", timeout: 2_000 });
  return asked.status === 0 && asked.stdout.trim() !== "" ? asked.stdout.trim() : null;
}

/** When the process started, in the system's own spelling; null when there is none, or only its unreaped remains. */
export function startOf(pid: number): string | null {
  if (!hasProc) return ps(pid, "lstart");
  const stat = procStat(pid);
  return stat === null || stat.state === "Z" || stat.state === "X" ? null : `${boot} ${stat.started}`;
}

/** The process' command line, its arguments set apart by spaces; null when it cannot be read. */
export function commandOf(pid: number): string | null {
  if (!hasProc) return ps(pid, "command");
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    return null;
  }
}

/** Ids of the processes this one started and that are its children still. */
export function childrenOf(pid: number): number[] {
  if (!hasProc) {
    const asked = spawnSync("pgrep", ["-P", String(pid)], { encoding: "utf8", timeout: 2_000 });
    return asked.stdout.split("\n").filter(Boolean).map(Number);
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((id) => procStat(id)?.parent === pid);
}

/** Sends a signal; a process that has gone meanwhile is no fault. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
