/** Folders with an embedded Postgres, used by this process and by others. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import postgres from "postgres";
import { silentLog } from "../../log.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../persistence/embedded.ts";
import { findPlace, relocatedFolder } from "../../persistence/embedded-place.ts";
import { childrenOf, signal } from "../../persistence/embedded-process.ts";
import { endServer, findRunning } from "../../persistence/embedded-server.ts";

export const isRoot = process.getuid?.() === 0;
export const ROOT = join(import.meta.dirname, "../..");
const homes: string[] = [];
const users: User[] = [];

/** A data folder that the server's own user can reach. */
export function openFolder(mode = 0o755): string {
  const home = mkdtempSync(join(tmpdir(), "tocsin-embedded-"));
  chmodSync(home, mode);
  homes.push(home);
  return home;
}

export function start(dataDir: string, settings: Record<string, string> = {}): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ dataDir, log: silentLog, settings });
}

export async function ask(url: string, text: string): Promise<Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, fetch_types: false, onnotice: () => {} });
  try {
    return await sql.unsafe(text);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

export type User = {
  readonly child: ChildProcess;
  readonly url: string;
  readonly adopted: boolean;
  readonly note: string | null;
};

/** Another process that uses the folder's server until its input ends or it is killed. */
export async function startUser(dataDir: string, options: SpawnOptions & { script?: string } = {}): Promise<User> {
  const { script = join(ROOT, "test/helpers/embedded-user.ts"), ...more } = options;
  const child = spawn(process.execPath, [script, dataDir], { ...more, stdio: ["pipe", "pipe", "inherit"] });
  const line = await Promise.race([
    once(createInterface({ input: child.stdout! }), "line"),
    once(child, "exit").then(([code]) => Promise.reject(new Error(`the other process ended with ${code}`))),
  ]);
  const user = { child, ...(JSON.parse(line[0]) as Omit<User, "child">) };
  users.push(user);
  return user;
}

export async function endUser({ child }: User): Promise<void> {
  child.stdin?.end();
  if (child.exitCode === null) await once(child, "exit");
}

export async function killUser({ child }: User): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "exit");
}

export function pidOf(dataDir: string): number | null {
  return findRunning(findPlace(dataDir))?.pid ?? null;
}

/** Ends and removes everything opened here; for after each test. */
export async function closeHomes(more: readonly string[] = []): Promise<void> {
  for (const user of users.splice(0)) if (user.child.exitCode === null) user.child.kill("SIGKILL");
  for (const home of homes.splice(0)) {
    const folders = [join(home, "postgres"), relocatedFolder(home), ...more];
    for (const folder of folders.filter((place) => existsSync(join(place, "data/postmaster.pid")))) {
      const pid = Number(readFileSync(join(folder, "data/postmaster.pid"), "utf8").split("\n")[0]);
      for (const id of [pid, ...childrenOf(pid)]) signal(id, "SIGCONT");
      await endServer(pid, "SIGQUIT", 3_000);
    }
    for (const folder of [...folders, home]) rmSync(folder, { recursive: true, force: true });
  }
}
