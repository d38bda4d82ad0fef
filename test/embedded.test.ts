// limit: 300 s
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { findPlace } from "../persistence/embedded-place.ts";
import { childrenOf, signal, startOf } from "../persistence/embedded-process.ts";
import { endServer } from "../persistence/embedded-server.ts";
import {
  ask,
  closeHomes,
  endUser,
  killUser,
  openFolder,
  pidOf,
  ROOT,
  start,
  startUser,
} from "./helpers/embedded-home.ts";
import { eventually } from "./helpers/eventually.ts";

test.after.each(() => closeHomes());

test("it starts in an empty folder, and again with what it held, on the same port", async () => {
  const home = openFolder();
  const first = await start(home);
  assert.is(first.adopted, false);
  assert.is(first.note, null);
  await ask(first.url, "create table page (id int); insert into page values (7)");
  await first.stop();
  assert.is(pidOf(home), null);
  const again = await start(home);
  assert.is(again.url, first.url);
  assert.equal([...(await ask(again.url, "select id from page"))], [{ id: 7 }]);
  await again.stop();
});

test("a process killed leaves its server running, which the next one adopts and stops", async () => {
  const home = openFolder();
  const user = await startUser(home);
  await ask(user.url, "create table page (id int); insert into page values (7)");
  const pid = pidOf(home);
  await killUser(user);
  assert.ok(pid !== null && startOf(pid) !== null);
  const next = await start(home);
  assert.is(next.adopted, true);
  assert.is(next.url, user.url);
  assert.is(pidOf(home), pid);
  assert.equal([...(await ask(next.url, "select id from page"))], [{ id: 7 }]);
  await next.stop();
  assert.is(startOf(pid), null);
});

test("a left-behind server that hangs is ended, and what it had committed is there", async () => {
  const home = openFolder();
  const user = await startUser(home);
  await ask(user.url, "create table page (id int); insert into page values (7)");
  const pid = pidOf(home)!;
  await killUser(user);
  for (const id of [pid, ...childrenOf(pid)]) signal(id, "SIGSTOP");
  const next = await start(home);
  assert.is(next.adopted, false);
  assert.is.not(pidOf(home), pid);
  assert.equal([...(await ask(next.url, "select id from page"))], [{ id: 7 }]);
  await next.stop();
});

test("a server killed under its owner comes back at the same address", async () => {
  const home = openFolder();
  const { url, stop } = await start(home);
  await ask(url, "create table page (id int); insert into page values (7)");
  const pid = pidOf(home)!;
  await endServer(pid, "SIGKILL", 3_000);
  const rows = await eventually(
    "the server is back",
    () => ask(url, "select id from page").catch(() => undefined),
    10_000,
  );
  assert.equal([...rows], [{ id: 7 }]);
  assert.is.not(pidOf(home), pid);
  await stop();
  assert.is(pidOf(home), null);
});

test("a second process on the folder uses the server, and its end does not end it", async () => {
  const home = openFolder();
  const owner = await start(home);
  const second = await startUser(home);
  assert.is(second.adopted, true);
  assert.is(second.url, owner.url);
  await endUser(second);
  assert.equal([...(await ask(owner.url, "select 1 as one"))], [{ one: 1 }]);
  await owner.stop();
});

test("a second process goes on with a server of its own when the owner ends", async () => {
  const home = openFolder();
  const owner = await startUser(home);
  const second = await start(home);
  assert.is(second.adopted, true);
  await endUser(owner);
  await eventually(
    "the second process has started it",
    () => ask(second.url, "select 1").catch(() => undefined),
    10_000,
  );
  await second.stop();
  assert.is(pidOf(home), null);
});

test("of processes that start at the same instant one starts the server and all use it", async () => {
  const home = openFolder();
  const together = await Promise.all([startUser(home), startUser(home), startUser(home)]);
  assert.equal(together.map((user) => user.adopted).sort(), [false, true, true]);
  assert.is(new Set(together.map((user) => user.url)).size, 1);
  for (const user of together) await endUser(user);
  await eventually("nothing of it is left", () => pidOf(home) === null, 10_000);
});

test("making the data cut short by a kill is done again", async () => {
  const home = openFolder();
  const child = spawn(process.execPath, [join(ROOT, "test/helpers/embedded-user.ts"), home], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  const begun = () => {
    const draft =
      readdirSync(home).includes("postgres") &&
      readdirSync(join(home, "postgres")).find((name) => name.startsWith("initdb."));
    return draft !== undefined && draft !== false && existsSync(join(home, "postgres", draft, "data/base"));
  };
  await eventually("the data are half made", begun);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.not.ok(existsSync(join(home, "postgres/data")));
  const { url, stop } = await start(home);
  assert.equal([...(await ask(url, "select 1 as one"))], [{ one: 1 }]);
  await stop();
  assert.equal(readdirSync(join(home, "postgres")).sort(), ["data", "password", "port", "server.log"]);
});

test("data that are not whole are set aside, not destroyed", async () => {
  const home = openFolder();
  mkdirSync(join(home, "postgres/data/base"), { recursive: true });
  const place = findPlace(home);
  if (place.runAs !== null) chownSync(place.data, place.runAs.uid, place.runAs.gid);
  const { url, stop } = await start(home);
  assert.equal([...(await ask(url, "select 1 as one"))], [{ one: 1 }]);
  await stop();
  assert.is(readdirSync(join(home, "postgres")).filter((name) => name.startsWith("data.unusable-")).length, 1);
});

test("a lock file whose pid has passed to another process keeps nobody from starting", async () => {
  const home = openFolder();
  await (await start(home)).stop();
  const { data, runAs } = findPlace(home);
  const bystander = spawn("sleep", ["60"], { ...runAs, cwd: "/", stdio: "ignore" });
  const lock = join(data, "postmaster.pid");
  writeFileSync(
    lock,
    [bystander.pid, data, 1_700_000_000, 5432, "", "127.0.0.1", "  1234567         0", "ready   ", ""].join("\n"),
    { mode: 0o600 },
  );
  if (runAs !== null) chownSync(lock, runAs.uid, runAs.gid);
  try {
    const { stop } = await start(home);
    await stop();
    assert.is(bystander.exitCode ?? bystander.signalCode, null);
  } finally {
    bystander.kill("SIGKILL");
  }
});

test("an owner file left by a dead process, or by an earlier life of the same pid, is taken over", async () => {
  const home = openFolder();
  const gone = spawn("true");
  await once(gone, "exit");
  for (const left of [{ pid: gone.pid, started: "x" }, { pid: process.pid, started: "earlier" }, "nonsense"]) {
    mkdirSync(join(home, "postgres"), { recursive: true });
    writeFileSync(join(home, "postgres/owner"), JSON.stringify(left));
    const { stop } = await start(home);
    await stop();
    assert.is(pidOf(home), null); // only an owner stops it
  }
});

test("a port that has been taken meanwhile is not insisted on", async () => {
  const home = openFolder();
  const first = await start(home);
  await first.stop();
  const squatter = createServer().listen(Number(new URL(first.url).port), "127.0.0.1");
  await once(squatter, "listening");
  const again = await start(home);
  assert.is.not(again.url, first.url);
  await again.stop();
  squatter.close();
});

test("a start that fails says why, in the server's own words, and leaves nothing behind", async () => {
  const home = openFolder();
  await (await start(home)).stop();
  const failed = await start(home, { shared_buffers: "plenty" }).catch((error: Error) => error);
  assert.instance(failed, Error);
  assert.match((failed as Error).message, /invalid value for parameter "shared_buffers": "plenty"/);
  assert.not.ok(existsSync(join(home, "postgres/owner")));
  await (await start(home)).stop();
});

test.run();
