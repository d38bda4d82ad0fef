/** A process that may open no further file or socket goes on with those it has. */
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openTestDatabase } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";

const PROGRAM = fileURLToPath(new URL("./helpers/starved-process.ts", import.meta.url));

test("one that loses its session to look at the database by, and can open no other, keeps its pool", async () => {
  const place = await openTestDatabase();
  const sql = postgres(place.url, { max: 1 });
  const child = spawn("sh", ["-c", 'ulimit -n 64; exec "$0" "$@"', process.execPath, PROGRAM, place.url], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const words: unknown[] = [];
  child.on("message", (word) => void words.push(word));
  try {
    await eventually("it has nothing left to open", () => words.includes("starved"), 15_000);
    const ends = await sql`
      select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tocsin probe starved'`;
    assert.ok(ends.length > 0);
    await sleep(2_000);
    child.send("how is it");
    await eventually("it says how it is", () => words.length > 1, 10_000);
    assert.is(words.at(-1), "well");
  } finally {
    child.kill("SIGKILL");
    await ended;
    await sql.end({ timeout: 1 });
    await place.close();
  }
});

test.run();
