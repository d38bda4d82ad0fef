/** The tests' own tools: what they break must break, and what they start must end. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startOf } from "../persistence/embedded-process.ts";
import { openTestDatabase, startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { startRedis } from "./helpers/redis.ts";

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, connect_timeout: 3, fetch_types: false, onnotice: () => {} });
  try {
    return [...(await sql.unsafe(text))];
  } finally {
    await sql.end({ timeout: 1 });
  }
}

test("test databases are empty, apart from each other, and gone when closed", async () => {
  const [a, b] = await Promise.all([openTestDatabase(), openTestDatabase()]);
  await query(a.url, "create table only_in_a ()");
  assert.equal(await query(b.url, "select 1 from pg_class where relname = 'only_in_a'"), []);
  const left = postgres(a.url, { max: 1, onnotice: () => {} });
  await left`select 1`;
  await Promise.all([a.close(), b.close()]); // with a session still open
  await left.end({ timeout: 1 });
  const gone = await query(a.url, "select 1").catch((error: { code?: string }) => error.code);
  assert.is(gone, "3D000");
});

test("a Postgres of one's own keeps what was committed over kill and stop, and its address", async () => {
  const server = await startPostgres();
  await query(server.url, "create table page (id int)");
  const before = server.pid;
  await query(server.url, "insert into page values (1)");
  await server.kill();
  assert.is(await connects(server.port), false);
  assert.throws(() => server.pid, /does not run/);
  await server.start();
  assert.is.not(server.pid, before);
  await query(server.url, "insert into page values (2)");
  await server.stop();
  assert.is(await connects(server.port), false);
  await server.start();
  assert.equal(await query(server.url, "select id from page order by id"), [{ id: 1 }, { id: 2 }]);
  const last = server.pid;
  await server.close();
  assert.is(startOf(last), null);
});

test("a frozen Postgres takes connections and answers nothing until thawed", async () => {
  const server = await startPostgres();
  const sql = postgres(server.url, { max: 1, fetch_types: false });
  await sql`select 1`;
  server.freeze();
  let answered = false;
  const asked = sql`select 1`.then(() => {
    answered = true;
  });
  assert.is(await connects(server.port), true);
  await sleep(300);
  assert.is(answered, false);
  server.thaw();
  await asked;
  await sql.end();
  await server.close();
});

test("a Redis forgets all when killed, keeps its address, and evicts nothing", async () => {
  const server = await startRedis();
  assert.match(await redis(server.port, "CONFIG GET maxmemory-policy"), "noeviction");
  assert.match(await redis(server.port, "SET a 1"), "+OK");
  await server.kill();
  assert.is(await connects(server.port), false);
  await server.start();
  assert.match(await redis(server.port, "GET a"), "$-1");
  await server.stop();
  assert.is(await connects(server.port), false);
  await server.start();
  await server.close();
  assert.is(await connects(server.port), false);
});

async function redis(port: number, command: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(`${command}\r\n`);
  const [answer] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return answer.toString();
}

test("whatever a process started ends when the process is killed", async () => {
  const helpers = join(import.meta.dirname, "helpers");
  const script = `
    import { startPostgres } from "${helpers}/database.ts";
    import { startRedis } from "${helpers}/redis.ts";
    const postgres = await startPostgres();
    const redis = await startRedis();
    postgres.freeze();
    console.log(JSON.stringify([postgres.pid, postgres.port, redis.port]));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const [pid, postgresPort, redisPort] = JSON.parse(line) as [number, number, number];
  assert.ok(startOf(pid) !== null && (await connects(redisPort)));
  child.kill("SIGKILL");
  await eventually("its Postgres is gone", async () => startOf(pid) === null && !(await connects(postgresPort)));
  await eventually("its Redis is gone", async () => !(await connects(redisPort)));
});

test("eventually gives what the probe found, and asks again until then", async () => {
  let asked = 0;
  const found = await eventually("three were asked", async () => (++asked < 3 ? undefined : { asked }));
  assert.equal(found, { asked: 3 });
  assert.is(await eventually("zero is an answer", () => 0), 0);
});

test("eventually fails with the sentence of what did not come about, and why", async () => {
  const never = () => Promise.reject(new Error("no route"));
  const failed = await eventually("the phone has the page", never, 60).catch((error: Error) => error);
  assert.instance(failed, Error);
  assert.match((failed as Error).message, /^within 60 ms it did not come about that the phone has the page/);
  assert.is(((failed as Error).cause as Error).message, "no route");
  const hanging = await eventually("it answers", () => new Promise<true>(() => {}), 60).catch((error: Error) => error);
  assert.match((hanging as Error).message, "it answers");
});

test.run();
