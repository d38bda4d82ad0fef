/** A process that may open no more files, beside a healthy server. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openTestDatabase } from "./helpers/database.ts";

const FILES_MAX = 64;

/** Opens one connection, takes every file there is, asks for a second connection, and lets the files go. */
const CHILD = `
  const { closeSync, openSync } = await import("node:fs");
  const { openDatabase } = await import(process.argv[1] + "/persistence/database.ts");
  const { silentLog } = await import(process.argv[1] + "/log.ts");
  const database = openDatabase({ name: "core", urls: [process.argv[2]], node: "files", connectionsMax: 3 }, { log: silentLog });
  let changes = 0;
  await database.untilUp(10000);
  database.onChange(() => changes++);
  await database.run((sql) => sql\`select 1\`);
  const files = [];
  try { for (;;) files.push(openSync("/dev/null")); } catch {}
  const both = [database.run((sql) => sql\`select pg_sleep(0.3)\`), database.run((sql) => sql\`select 1\`)];
  const ends = (await Promise.allSettled(both)).map(({ status, reason }) => reason ? reason.name + " " + reason.unknown : status);
  for (const file of files) closeSync(file);
  const after = (await Promise.allSettled([1, 2, 3].map(() => database.run((sql) => sql\`select 1\`)))).map(({ status }) => status);
  await database.close();
  console.log(JSON.stringify({ ends, after, changes, files: files.length > 0 }));
`;

test("a connection that cannot be opened for want of files was not sent, and those there are go on", async () => {
  const server = await openTestDatabase();
  try {
    const limited = `ulimit -n ${FILES_MAX} && exec "$0" "$@"`;
    const child = spawn(
      "sh",
      [
        "-c",
        limited,
        process.execPath,
        "--input-type=module",
        "-e",
        CHILD,
        join(import.meta.dirname, ".."),
        server.url,
      ],
      { stdio: ["ignore", "pipe", "inherit"], timeout: 30_000, killSignal: "SIGKILL" },
    );
    assert.equal(JSON.parse(await text(child.stdout)), {
      ends: ["fulfilled", "DatabaseDown false"],
      after: ["fulfilled", "fulfilled", "fulfilled"],
      changes: 0,
      files: true,
    });
  } finally {
    await server.close();
  }
});

test.run();
