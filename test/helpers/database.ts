/** Real Postgres for tests: empty databases on a server shared by the run, and servers of a test's own to break. */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type EmbeddedPlace, findPlace } from "../../persistence/embedded-place.ts";
import { childrenOf, signal } from "../../persistence/embedded-process.ts";
import {
  askServer,
  EMBEDDED_USER,
  endServer,
  findRunning,
  freePort,
  launch,
  makeData,
  passwordOf,
} from "../../persistence/embedded-server.ts";
import { eventually } from "./eventually.ts";
import { openGuardian } from "./guardian.ts";

export type TestDatabase = { url: string; close(): Promise<void> };
export type PostgresServer = {
  /** Of an empty database; the same over every restart. */
  readonly url: string;
  readonly port: number;
  readonly place: EmbeddedPlace;
  /** Of the server's first process; throws while it does not run. */
  readonly pid: number;
  /** As if its machine lost power: every process of it is gone at once. */
  kill(): Promise<void>;
  /** As by its administrator: sessions are ended, data written. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** It keeps its connections and answers nothing. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
};

const LIMIT_MS = 20_000;
const DATABASE = "test";

// The server may be frozen, so its processes are woken first. Ended orderly it removes its shared memory; where it was
// killed before, that is done here.
const END_SERVER = `
lock="$1/data/postmaster.pid"
if [ -f "$lock" ]; then
  pid=$(head -n 1 "$lock")
  if grep -aqF "$1/data" "/proc/$pid/cmdline" 2>/dev/null; then
    children=
    for stat in /proc/[0-9]*/stat; do
      read -r id name state parent rest 2>/dev/null <"$stat" && [ "$parent" = "$pid" ] && children="$children $id"
    done
    kill -CONT $pid $children 2>/dev/null
    kill -QUIT $pid
    for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      [ -f "$lock" ] || break
      sleep 0.05
    done
    [ -f "$lock" ] && kill -KILL $pid $children 2>/dev/null
  fi
  [ -f "$lock" ] && sed -n 7p "$lock" | { read -r key memory && ipcrm -m "$memory" 2>/dev/null; }
fi
rm -rf "$1" "$2"
`;

/**
 * @param settings by their names in postgresql.conf, beside those of the embedded server
 * @param make makes its data; without it they are new ones
 */
export async function startPostgres(
  settings: Readonly<Record<string, string>> = {},
  make: (place: EmbeddedPlace) => Promise<void> = (place) => makeData(place, AbortSignal.timeout(LIMIT_MS)),
): Promise<PostgresServer> {
  const home = mkdtempSync(join(tmpdir(), "tocsin-postgres-"));
  chmodSync(home, 0o755); // the server's own user must pass
  const place = findPlace(home);
  const guardian = openGuardian(END_SERVER, [place.folder, home]);
  const port = await freePort(null);

  function running(): number {
    const server = findRunning(place);
    if (server === null) throw new Error("this Postgres does not run");
    return server.pid;
  }
  function tellAll(name: NodeJS.Signals): void {
    const pid = running();
    for (const id of [pid, ...childrenOf(pid)]) signal(id, name);
  }
  async function start(): Promise<void> {
    await launch(place, port, settings, AbortSignal.timeout(LIMIT_MS));
    const url = urlOf("postgres");
    await eventually(
      "the test's Postgres takes sessions",
      async () => (await askServer(url, DATABASE, 3_000)) === "ready",
      LIMIT_MS,
    );
  }
  function urlOf(database: string): string {
    return `postgres://${EMBEDDED_USER}:${passwordOf(place)}@127.0.0.1:${port}/${database}`;
  }

  try {
    await make(place);
    await start();
  } catch (error) {
    await guardian.close();
    throw error;
  }
  return {
    url: urlOf(DATABASE),
    port,
    place,
    get pid() {
      return running();
    },
    kill: () => endServer(running(), "SIGKILL", 5_000),
    stop: () => endServer(running(), "SIGINT", 5_000),
    start,
    freeze: () => tellAll("SIGSTOP"),
    thaw: () => tellAll("SIGCONT"),
    close: () => guardian.close(),
  };
}

/** For databases that live as long as a test: what they lose by a power cut is no loss. */
export function startSharedPostgres(): Promise<PostgresServer> {
  return startPostgres({ fsync: "off", full_page_writes: "off", max_connections: "300" });
}

let shared: Promise<PostgresServer> | null = null;

async function sharedUrl(): Promise<string> {
  const given = process.env.TEST_POSTGRES_URL;
  if (given !== undefined) return given;
  shared ??= startSharedPostgres(); // ends with this process
  return (await shared).url;
}

/** A new empty database on the run's Postgres, or, in a test file run alone, on one that ends with it. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const server = await sharedUrl();
  const name = `t_${randomBytes(8).toString("hex")}`;
  await command(server, `create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, close: () => command(server, `drop database if exists ${name} with (force)`) };
}

async function command(url: string, text: string): Promise<void> {
  const sql = postgres(url, { max: 1, connect_timeout: 10, fetch_types: false, onnotice: () => {} });
  try {
    await sql.unsafe(text);
  } finally {
    await sql.end({ timeout: 1 });
  }
}
