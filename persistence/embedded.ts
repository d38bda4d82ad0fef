/**
 * The Postgres that comes with Tocsin, for a start without any server installed. It outlives the process that started it
 * when that is killed, and is then adopted by the next one, so that a crash costs no recovery.
 *
 *                   owner                                            another process owns the folder
 *   looking ─ nothing runs ────► makes data ► launches ─► ready       waits for its server ─► ready (adopted)
 *      ├───── it answers ────────────────────────────────► ready
 *      ├───── starting or ending ► waits ► looking
 *      └───── silent for 3 s ────► ended ► looking
 *   ready ─── server died ───────► launches on the same port ► ready
 *      └───── stop() ────────────► server ended (owner only) ► stopped
 *
 * A process that does not own the folder never ends or repairs its server; when the owner is gone it becomes the owner.
 */
import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { faultFields, type Log } from "../log.ts";
import { claimOwnership, type Ownership } from "./embedded-owner.ts";
import { type EmbeddedPlace, findPlace } from "./embedded-place.ts";
import { startOf } from "./embedded-process.ts";
import {
  askServer,
  disownStaleLock,
  EMBEDDED_USER,
  endServer,
  findRunning,
  freePort,
  hasItsBinaries,
  launch,
  makeData,
  passwordOf,
  type RunningServer,
} from "./embedded-server.ts";

export type EmbeddedPostgres = {
  /** `postgres://user:password@127.0.0.1:port/database`; stays the same until stop. */
  readonly url: string;
  /** Whether the server ran already. */
  readonly adopted: boolean;
  /** What the start should tell the operator, or null. */
  readonly note: string | null;
  /** Ends the server when this process owns it; else only lets go of it. */
  stop(): Promise<void>;
};
export type EmbeddedOptions = {
  /** TOCSIN_DATA_DIR. */
  dataDir: string;
  log: Log;
  databaseName?: string;
  /** Server settings beside our own, by their names in postgresql.conf. */
  settings?: Readonly<Record<string, string>>;
};

const START_DEADLINE_MS = 20_000;
const SILENCE_LIMIT_MS = 3_000;
const WATCH_INTERVAL_MS = 500;
const RELAUNCH_PAUSE_LIMIT_MS = 5_000;
const STOP_STEP_LIMIT_MS = 4_000;
const LOG_SIZE_LIMIT_BYTES = 4 * 1024 * 1024;

/** @throws Error after 20 s, or sooner with the reason and the last lines of the server's log */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const databaseName = options.databaseName ?? "tocsin";
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(databaseName)) throw new Error(`"${databaseName}" is no name for a database`);
  const place = findPlace(options.dataDir);
  const settings = options.settings ?? {};
  const look: Look = { place, databaseName, settings, ownership: claimOwnership(place.folder), port: null };
  try {
    const { server, adopted } = await reachReady(look, AbortSignal.timeout(START_DEADLINE_MS));
    const watch = watchServer(look, server, options.log);
    return { url: urlOf(place, server.port, databaseName), adopted, note: place.note, stop: watch.stop };
  } catch (error) {
    look.ownership?.release();
    throw error;
  }
}

type Look = {
  readonly place: EmbeddedPlace;
  readonly databaseName: string;
  readonly settings: Readonly<Record<string, string>>;
  ownership: Ownership | null;
  /** The port to come back on; null: the one of last time if it is free. */
  port: number | null;
};
type ReadyServer = { readonly pid: number; readonly port: number };

async function reachReady(look: Look, deadline: AbortSignal): Promise<{ server: ReadyServer; adopted: boolean }> {
  const { place } = look;
  const launched = new Set<number>();
  let launchFaults = 0;
  let silentSince: number | null = null;
  let state = "it did not answer";
  while (!deadline.aborted) {
    look.ownership ??= claimOwnership(place.folder);
    const owns = look.ownership?.holds() === true;
    const running = findRunning(place);
    if (running === null && owns) {
      try {
        launched.add((await launchOn(look, deadline)).pid);
      } catch (error) {
        // a port taken in the meantime, or remains of a killed server not yet gone
        if (++launchFaults === 4 || deadline.aborted) throw error;
        await sleep(250);
      }
    } else if (running === null) {
      state = "another process owns its folder and has not started it";
      await sleep(50);
    } else if (owns && !launched.has(running.pid) && !hasItsBinaries(running)) {
      await endServer(running.pid, "SIGINT", STOP_STEP_LIMIT_MS);
    } else {
      const url = running.port === null ? null : urlOf(place, running.port, "postgres");
      const asked = performance.now();
      const answer = url === null ? "busy" : await askServer(url, look.databaseName, SILENCE_LIMIT_MS);
      if (answer === "ready" && running.port !== null) {
        return { server: { pid: running.pid, port: running.port }, adopted: !launched.has(running.pid) };
      }
      state = answer === "busy" ? "it is still starting or recovering" : "it is silent";
      silentSince = answer === "silent" ? (silentSince ?? asked) : null;
      const silent_ms = silentSince === null ? 0 : performance.now() - silentSince;
      if (owns && silent_ms >= SILENCE_LIMIT_MS - 100) {
        await endServer(running.pid, "SIGQUIT", 500);
        silentSince = null;
      } else {
        await sleep(25);
      }
    }
  }
  throw new Error(
    `the embedded Postgres in ${place.folder} was not ready within ${START_DEADLINE_MS / 1000} s: ${state}`,
  );
}

async function launchOn(look: Look, deadline: AbortSignal): Promise<RunningServer> {
  const { place } = look;
  await makeData(place, deadline);
  disownStaleLock(place);
  limitLog(place);
  const portFile = join(place.folder, "port");
  const port = look.port ?? (await freePort(lastPort(portFile)));
  const server = await launch(place, port, look.settings, deadline);
  writeFileSync(portFile, `${port}\n`, { mode: 0o600 });
  return server;
}

function lastPort(file: string): number | null {
  try {
    const port = Number(readFileSync(file, "utf8"));
    return Number.isInteger(port) && port > 1023 && port < 65_536 ? port : null;
  } catch {
    return null;
  }
}

/** Starts a server that died again, on its port, with growing pauses; keeps its log small. */
function watchServer(look: Look, first: ReadyServer, log: Log): { stop(): Promise<void> } {
  const { place } = look;
  const stopping = new AbortController();
  let server = first;
  let pause_ms = WATCH_INTERVAL_MS;
  let turn: Promise<void> | null = null;
  look.port = first.port;

  async function repair(): Promise<void> {
    limitLog(place);
    if (startOf(server.pid) !== null) return;
    look.ownership ??= claimOwnership(place.folder);
    if (look.ownership === null) return;
    log.error({ pid: server.pid }, "embedded Postgres died and is started again");
    try {
      const deadline = AbortSignal.any([stopping.signal, AbortSignal.timeout(START_DEADLINE_MS)]);
      server = (await reachReady(look, deadline)).server;
      pause_ms = WATCH_INTERVAL_MS;
      log.info({ pid: server.pid }, "embedded Postgres is back");
    } catch (error) {
      if (stopping.signal.aborted) return;
      pause_ms = Math.min(pause_ms * 2, RELAUNCH_PAUSE_LIMIT_MS);
      log.error({ ...faultFields(error), nextTry_ms: pause_ms }, "embedded Postgres could not be started again");
    }
  }

  function schedule(): NodeJS.Timeout {
    return setTimeout(() => {
      turn = repair().finally(() => {
        turn = null;
        if (!stopping.signal.aborted) timer = schedule();
      });
    }, pause_ms).unref();
  }
  let timer = schedule();

  let stopped: Promise<void> | null = null;
  async function end(): Promise<void> {
    stopping.abort();
    clearTimeout(timer);
    await turn;
    if (look.ownership?.holds() === true) {
      const running = findRunning(place);
      if (running !== null) await endServer(running.pid, "SIGINT", STOP_STEP_LIMIT_MS);
    }
    look.ownership?.release();
  }
  return {
    stop() {
      stopped ??= end();
      return stopped;
    },
  };
}

/** The server keeps its log open for appending, so it is copied aside and emptied rather than renamed. */
function limitLog(place: EmbeddedPlace): void {
  const file = join(place.folder, "server.log");
  try {
    if (statSync(file).size <= LOG_SIZE_LIMIT_BYTES) return;
    copyFileSync(file, `${file}.1`);
    truncateSync(file);
  } catch {
    // no log yet, or no room for its copy: the next turn tries again
  }
}

function urlOf(place: EmbeddedPlace, port: number, databaseName: string): string {
  const password = passwordOf(place);
  if (password === null)
    throw new Error(`${place.folder}/password is missing; without it the data beside it cannot be used`);
  return `postgres://${EMBEDDED_USER}:${password}@127.0.0.1:${port}/${databaseName}`;
}
