/** What a test file left behind, found and ended, so that no file disturbs the next. Linux only; elsewhere nothing is found. */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { commandOf, signal, startOf } from "../../persistence/embedded-process.ts";

const GRACE_MS = 4_000;
const RELOCATED = "/var/lib/tocsin";

/**
 * Waits a moment for processes that are ending anyhow, kills the others.
 * @param mark a NAME=value of the environment they inherited; @param folder a temp folder named in their command line
 * @returns their command lines
 */
export async function leftovers(mark: string, folder: string): Promise<string[]> {
  const until = performance.now() + GRACE_MS;
  let found = find(mark, folder);
  while (found.length > 0 && performance.now() < until) {
    await sleep(50);
    found = find(mark, folder);
  }
  const commands = found.map((pid) => commandOf(pid) ?? String(pid));
  for (const pid of found) signal(pid, "SIGKILL");
  return commands.map((command) => command.split("\n")[0]?.slice(0, 200) ?? "");
}

/** A Postgres whose user could not reach the temp folder lives elsewhere; its data go when the folder does. */
export function removeRelocated(folder: string): void {
  for (const home of relocated(folder)) rmSync(home, { recursive: true, force: true });
}

function find(mark: string, folder: string): number[] {
  if (!existsSync("/proc")) return [];
  const places = [folder, ...relocated(folder)].map((place) => `${place}/`);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && startOf(pid) !== null)
    .filter((pid) => has(pid, mark) || places.some((place) => commandOf(pid)?.includes(place) === true));
}

function has(pid: number, mark: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark);
  } catch {
    return false;
  }
}

function relocated(folder: string): string[] {
  if (!existsSync(RELOCATED)) return [];
  return readdirSync(RELOCATED)
    .map((name) => join(RELOCATED, name))
    .filter((home) => {
      const owner = join(home, "folder");
      return existsSync(owner) && `${readFileSync(owner, "utf8").trim()}/`.startsWith(`${folder}/`);
    });
}
