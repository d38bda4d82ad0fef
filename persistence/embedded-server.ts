/**
 * One Postgres server process on a place: making its data, starting, asking, ending it. Nothing here decides; see
 * `embedded.ts`. The binaries are driven directly, not through the npm package's own class: that one can neither adopt a
 * server which outlived its process nor run binaries from another folder, and it hides why a start failed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import type { EmbeddedPlace } from "./embedded-place.ts";
import { childrenOf, commandOf, signal, startOf } from "./embedded-process.ts";

export const EMBEDDED_USER = "tocsin";

/**
 * Fit for pages: what is committed is on the disk. Kept small, since it shares the machine with us, and its log silent
 * about statements and values, since they may hold page text. Little WAL between checkpoints keeps recovery short.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "100",
  shared_buffers: "128MB",
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  min_wal_size: "64MB",
  max_wal_size: "256MB",
  max_parallel_workers_per_gather: "0",
  jit: "off",
  timezone: "UTC",
  log_timezone: "UTC",
  log_min_messages: "log",
  log_min_error_statement: "panic",
  log_error_verbosity: "terse",
  log_checkpoints: "off",
};

/** A server found on the place's data; `ready` as its own lock file says. */
export type RunningServer = { readonly pid: number; readonly port: number | null };
/** `busy`: it lives but takes no connections yet, or no longer. */
export type ServerAnswer = "ready" | "busy" | "silent";

/** Makes the database folder unless it is there. It appears under its name only when whole, so a cut-off one is redone. */
export async function makeData(place: EmbeddedPlace, signalEnd: AbortSignal): Promise<void> {
  for (const name of readdirSync(place.folder))
    if (name.startsWith("initdb.")) await removeDraft(join(place.folder, name));
  if (existsSync(join(place.data, "global/pg_control"))) return;
  if (existsSync(place.data)) renameSync(place.data, `${place.data}.unusable-${Date.now()}`);
  const password = passwordOf(place) ?? makePassword(place);
  const draft = join(place.folder, `initdb.${process.pid}`);
  mkdirSync(draft, { mode: 0o700 });
  const passwordFile = join(draft, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (place.runAs !== null) for (const path of [draft, passwordFile]) chownSync(path, place.runAs.uid, place.runAs.gid);
  const options = [
    "--encoding=UTF8",
    "--locale=C",
    "--auth=scram-sha-256",
    `--username=${EMBEDDED_USER}`,
    "--no-instructions",
  ];
  const said: Buffer[] = [];
  const child = spawn(place.initdb, ["-D", join(draft, "data"), `--pwfile=${passwordFile}`, ...options], {
    ...processOptions(place),
    signal: signalEnd,
    killSignal: "SIGKILL",
    stdio: ["ignore", "ignore", "pipe"],
  });
  child.stderr?.on("data", (chunk: Buffer) => said.push(chunk));
  const code = await endOf(child);
  if (code !== 0) {
    const why = Buffer.concat(said).toString("utf8").trim().split("\n").slice(-5).join("\n");
    throw new Error(`the embedded Postgres could not make its data (initdb ended with ${code}):\n${why}`);
  }
  renameSync(join(draft, "data"), place.data);
  rmSync(draft, { recursive: true, force: true });
}

/** The initdb of a killed process may still be writing there; without its folder it ends, but not at once. */
async function removeDraft(path: string): Promise<void> {
  for (let attempt = 0; attempt < 40 && existsSync(path); attempt++) {
    if (attempt > 0) await sleep(50);
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // something was written meanwhile; what is left at last is removed by the next start
    }
  }
}

/**
 * Starts the server and returns once it takes connections.
 * @throws Error with the last lines of the server's log
 */
export async function launch(
  place: EmbeddedPlace,
  port: number,
  settings: Readonly<Record<string, string>>,
  signalEnd: AbortSignal,
): Promise<RunningServer> {
  const logFile = join(place.folder, "server.log");
  const log = openSync(logFile, "a", 0o600);
  const logStart = statSync(logFile).size;
  const options = Object.entries({ ...SETTINGS, ...settings, port: String(port) }).map(
    ([name, value]) => `--${name}=${value}`,
  );
  // a group of its own: Ctrl-C in a terminal must end us first, and the server only when we say so
  const child = spawn(place.postgres, ["-D", place.data, ...options], {
    ...processOptions(place),
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  let ended: string | null = null;
  child.once("error", (error) => {
    ended = error.message;
  });
  child.once("exit", (code, by) => {
    ended = `ended with ${code ?? by}`;
  });
  child.unref();
  while (ended === null && child.pid !== undefined) {
    if (signalEnd.aborted) {
      await endServer(child.pid, "SIGQUIT", 2_000);
      ended = "was not ready in time";
    } else if (lockFile(place)?.status === "ready" && lockFile(place)?.pid === child.pid) {
      return { pid: child.pid, port };
    } else {
      await sleep(10);
    }
  }
  throw new Error(`the embedded Postgres ${ended ?? "did not start"}:\n${tailOf(logFile, logStart)}`);
}

/**
 * The server that runs on the place's data, if one does. A lock file left behind by a dead one is not believed: its pid
 * may be anybody's by now.
 */
export function findRunning(place: EmbeddedPlace): RunningServer | null {
  const lock = lockFile(place);
  if (lock === null || startOf(lock.pid) === null) return null;
  return commandOf(lock.pid)?.includes(` -D ${place.data} `) === true ? { pid: lock.pid, port: lock.port } : null;
}

/** Whether the program the server runs is still on the disk; without it new sessions cannot load their parts. */
export function hasItsBinaries(server: RunningServer): boolean {
  try {
    return !readlinkSync(`/proc/${server.pid}/exe`).endsWith(" (deleted)");
  } catch {
    return true;
  }
}

/**
 * Frees the data of a dead server's lock file, whose pid may be another process by now, or remains nobody has reaped;
 * either would keep a new server from starting. Must only be called while `findRunning` finds nothing. The file is not
 * deleted: by the shared memory it names, the new server makes sure that no process of the old one is left. A lock in its
 * parent's name is taken over by a server.
 */
export function disownStaleLock(place: EmbeddedPlace): void {
  const file = join(place.data, "postmaster.pid");
  if (!existsSync(file)) return;
  const lock = lockFile(place);
  if (lock === null) {
    rmSync(file);
    return;
  }
  const rest = readFileSync(file, "utf8").split("\n").slice(1);
  const handle = openSync(file, constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW);
  writeFileSync(handle, [process.pid, ...rest].join("\n"));
  closeSync(handle);
}

/**
 * Asks for a session and a database of that name, which is made when missing.
 * @throws Error when the server refuses for a reason that waiting does not cure
 */
export async function askServer(url: string, databaseName: string, limit_ms: number): Promise<ServerAnswer> {
  const sql = postgres(url, {
    max: 1,
    connect_timeout: limit_ms / 1000,
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: "tocsin start" },
  });
  const late = sleep(limit_ms, "silent" as const, { ref: false });
  const asked = (async (): Promise<ServerAnswer> => {
    const rows = await sql`select 1 from pg_database where datname = ${databaseName}`;
    if (rows.length === 0) await sql.unsafe(`create database "${databaseName}"`);
    return "ready";
  })();
  try {
    return await Promise.race([asked, late]);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === "57P03" || code === "57P01" || code === "53300") return "busy";
    if (code === "42P04" || code === "23505") return "busy"; // another process made the database this instant: ask again
    if (code === "28P01") throw new Error("the embedded Postgres refuses the password kept beside its data");
    return "silent";
  } finally {
    asked.catch(() => {});
    await sql.end({ timeout: 0 }).catch(() => {});
  }
}

/** Sends the signal, then harder ones: fast, immediate, kill. Returns once nothing of the server is left, or at the limit. */
export async function endServer(pid: number, first: "SIGINT" | "SIGQUIT" | "SIGKILL", limit_ms: number): Promise<void> {
  const order = ["SIGINT", "SIGQUIT", "SIGKILL"] as const;
  for (const name of order.slice(order.indexOf(first))) {
    const processes = [pid, ...childrenOf(pid)];
    // a killed server's children notice only when they next wait, and until they are gone no other server may start
    for (const id of name === "SIGKILL" ? processes : [pid]) signal(id, name);
    const until = performance.now() + limit_ms;
    while (performance.now() < until) {
      if (processes.every((id) => startOf(id) === null)) return;
      await sleep(10);
    }
  }
}

export function passwordOf(place: EmbeddedPlace): string | null {
  const file = join(place.folder, "password");
  return existsSync(file) ? readFileSync(file, "utf8").trim() : null;
}

function makePassword(place: EmbeddedPlace): string {
  const password = randomBytes(24).toString("base64url");
  const file = join(place.folder, "password");
  const handle = openSync(`${file}.draft`, "w", 0o600);
  writeFileSync(handle, password);
  fsyncSync(handle);
  closeSync(handle);
  chmodSync(`${file}.draft`, 0o600);
  renameSync(`${file}.draft`, file);
  return password;
}

/**
 * A free port on loopback, below the range from which the system takes ports for outgoing connections: from that range
 * a client that retries while the server is down can connect to itself and keep the port.
 * @param preferred taken when it is free
 */
export async function freePort(preferred: number | null): Promise<number> {
  const first = 21_000;
  const beyond = 32_768;
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = attempt === 0 && preferred !== null ? preferred : first + Math.floor(Math.random() * (beyond - first));
    if (await canListen(port)) return port;
  }
  throw new Error(`no free port was found between ${first} and ${beyond - 1}`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/** Lines of postmaster.pid: pid, data folder, start, port, socket folder, address, shared memory, status. */
function lockFile(place: EmbeddedPlace): { pid: number; port: number | null; status: string } | null {
  try {
    const lines = readFileSync(join(place.data, "postmaster.pid"), "utf8").split("\n");
    const pid = Number(lines[0]);
    const port = Number(lines[3]);
    return Number.isInteger(pid) && pid > 1
      ? { pid, port: port > 0 ? port : null, status: lines[7]?.trim() ?? "" }
      : null;
  } catch {
    return null;
  }
}

/** Nothing of our environment, which may hold secrets, is given to another user's process. */
function processOptions(place: EmbeddedPlace) {
  return { ...place.runAs, cwd: "/", env: { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" } };
}

function endOf(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, by) => resolve(code ?? by ?? "unknown"));
  });
}

function tailOf(file: string, from: number): string {
  const size = Math.min(statSync(file).size - from, 4_096);
  if (size <= 0) return "(its log is empty)";
  const buffer = Buffer.alloc(size);
  const handle = openSync(file, "r");
  readSync(handle, buffer, 0, size, statSync(file).size - size);
  closeSync(handle);
  return buffer.toString("utf8").trim().split("\n").slice(-10).join("\n");
}
