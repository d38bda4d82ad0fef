// limit: 120 s, waits
/** What a look at a server makes of one that is well, but not for everything that is asked. */

import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openDatabase } from "../persistence/database.ts";
import { type PostgresServer, startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { recordLog } from "./helpers/log-record.ts";

let server: PostgresServer;
const closers: (() => Promise<void>)[] = [];
test.before(async () => {
  server = await startPostgres();
});
test.after.each(async () => {
  for (const close of closers.splice(0)) await close();
});
test.after(() => server.close());

/** The server as a role that is no superuser reaches it. */
async function asPlainRole(...statements: readonly string[]): Promise<string> {
  const sql = postgres(server.url, { max: 1, onnotice: () => {} });
  for (const statement of ["create role plain login password 'plain'", ...statements]) await sql.unsafe(statement);
  closers.push(async () => {
    await sql.unsafe("drop owned by plain");
    await sql.unsafe("drop role plain");
    await sql.end();
  });
  const url = new URL(server.url);
  url.username = "plain";
  url.password = "plain";
  return url.href;
}

function open(url: string) {
  const { log, lines } = recordLog();
  const database = openDatabase(
    { name: "core", urls: [url], node: "test", connectionsMax: 2, timelineFile: null },
    { log },
  );
  closers.unshift(database.close);
  return { database, lines };
}

test("a server whose standbys may not be looked at is used all the same", async () => {
  const url = await asPlainRole("revoke select on pg_stat_replication from public");
  const { database } = open(url);
  await database.untilUp(5_000);
  await eventually("it was looked at again", async () => database.servers().servers[0]!.at, 2_000);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  assert.is(database.isUp(), true);
});

test("why a server is not used is said once, without the password", async () => {
  const { database, lines } = open(await asPlainRole().then((url) => url.replace(":plain@", ":wrong@")));
  await database.untilUp(3_000).then(
    () => assert.unreachable("it let us in"),
    () => {},
  );
  const said = lines.filter(({ event }) => event === "a database server cannot be used");
  assert.is(said.length, 1);
  assert.is(said[0]!.fields.code, "28P01");
  assert.not.match(JSON.stringify(lines), "wrong");
});

test.run();
