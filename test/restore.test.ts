// limit: 240 s
/**
 * A drill of docs/operations.md, "Back to a point in time": a hospital at work, its only database lost, and one restored to a minute before
 * everything that was done since. What each host, phone and operator then meets is written down there; here it is seen.
 */
import {
  appendFileSync,
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { freePort } from "../persistence/embedded-server.ts";
import { ServerRefused } from "../sdk/index.ts";
import { copyData, giveToServer } from "./helpers/base-backup.ts";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Hospital, openHospital } from "./helpers/hospital.ts";
import { connectHost, textOf } from "./helpers/host.ts";

const LONG_SECONDS = 600;
const SHORT_SECONDS = 15;
const LIMIT_MS = 30_000;

const home = mkdtempSync(join(tmpdir(), "tocsin-restore-"));
chmodSync(home, 0o711);
const archive = join(home, "archive");
const backup = join(home, "backup");
mkdirSync(archive);
mkdirSync(backup);
const server = await startPostgres({ archive_mode: "on", archive_command: `cp %p ${archive}/%f` });
giveToServer({ data: archive, runAs: server.place.runAs });
const ports = async () => String(await freePort(null));
const hospital: Hospital = await openHospital(
  { TOCSIN_HTTP_PORT: await ports(), TOCSIN_MXPP_PORT: await ports(), TOCSIN_EMULATOR_PORT: await ports() },
  { databaseUrl: server.url },
);
const { node } = hospital;
const timelines = join(node.dataDir, "timelines");

test.after(async () => {
  await hospital.close();
  await server.close();
  rmSync(home, { recursive: true });
});

async function onServer<T>(use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(server.url, { max: 1, fetch_types: false, onnotice: () => {} });
  try {
    return await use(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const traceOf = (uniqueId: string) => hospital.operator("GET", `/messages/${uniqueId}/trace`);
const reachHost = (name: string) => connectHost({ port: node.run().mxpp!.port, name });

/** The server is lost with its data; what is put in its place is the backup, with the log up to a moment. */
async function loseAndRestore(moment: string): Promise<void> {
  await server.kill();
  rmSync(server.place.data, { recursive: true });
  cpSync(backup, server.place.data, { recursive: true });
  writeFileSync(join(server.place.data, "recovery.signal"), "");
  appendFileSync(
    join(server.place.data, "postgresql.auto.conf"),
    `\nrestore_command = 'cp ${archive}/%f %p'\nrecovery_target_time = '${moment}'\nrecovery_target_action = 'promote'\n`,
  );
  giveToServer(server.place);
  await server.start();
  await eventually(
    "the restored server takes writes",
    () => onServer(async (sql) => (await sql`select where not pg_is_in_recovery()`).length === 1),
    LIMIT_MS,
  );
}

test("a database that was restored to a minute ago goes on from there: nothing of before is lost, what was done since is done again or brought again", async () => {
  await hospital.knows("lab");
  let host = await reachHost("lab");
  await onServer((sql) => copyData(sql, server.place.data, backup));

  // Before the moment: one page is read, two wait for phones that are off, one of them with little time left.
  const [read, waits, hurries] = [await hospital.phone(), await hospital.phone(), await hospital.phone()];
  read.wakesOnPush(node.run().emulatorUrl);
  const sends = (phone: typeof read, timeoutDeviceSeconds = LONG_SECONDS) =>
    host.sends({ destination: phone.person.destination, timeoutDeviceSeconds });
  const before = await sends(read);
  await read.reads(await read.expectsPage(textOf(before)));
  await host.awaits(before, "READ");
  const waiting = await sends(waits);
  await host.awaits(waiting, "ENROUTE");
  const hurried = await sends(hurries, SHORT_SECONDS);
  const hurriedAt = performance.now();
  await host.awaits(hurried, "ENROUTE");
  const moment = await onServer(async (sql) => {
    const [row] = await sql<{ at: string }[]>`select clock_timestamp()::text as at, pg_sleep(0.2)`;
    return row!.at;
  });

  // Since then: both are delivered, a page comes and goes, a phone registers.
  for (const phone of [waits, hurries]) {
    const pages = await phone.fetches();
    assert.is(pages.length, 1);
    await phone.confirms([pages[0]!.UniqueId]);
  }
  assert.equal(await waits.fetches(), []);
  await host.awaits(waiting, "DELIVERED");
  await host.awaits(hurried, "DELIVERED");
  const sentAt = Date.now();
  const late = await host.sends({ destination: read.person.destination, timeoutDeviceSeconds: LONG_SECONDS, sentAt });
  const lost = await read.expectsPage(textOf(late));
  await read.reads(lost);
  await host.awaits(late, "READ");
  const stranger = await hospital.phone();
  const deliveredId = await onServer(async (sql) => {
    const [row] = await sql<{ id: string }[]>`
      select unique_id as id from premise_core.messages where tracking_id = ${waiting}`;
    return row!.id;
  });
  await onServer(async (sql) => {
    const [row] = await sql<{ file: string }[]>`select pg_walfile_name(pg_switch_wal()) as file`;
    await eventually(
      "the log is in the archive",
      async () => (await sql`select from pg_stat_archiver where last_archived_wal >= ${row!.file}`).length === 1,
      LIMIT_MS,
    );
  });

  // As the page for operators says: all nodes are stopped, the database is restored, the nodes are started.
  await read.switchesOff();
  const pushesBefore = (await hospital.pushes(waits.registration.notificationAddress)).length;
  assert.ok(pushesBefore > 0);
  await host.closes();
  assert.is(await node.stops(), 0);
  const timelineBefore = readFileSync(timelines, "utf8").split(" ")[1]!.trim();
  await loseAndRestore(moment);
  await new Promise((resolve) => setTimeout(resolve, SHORT_SECONDS * 1_000 - (performance.now() - hurriedAt)));
  await node.starts();
  assert.ok(Number(readFileSync(timelines, "utf8").split(" ")[1]) > Number(timelineBefore), "a timeline of its own");

  // What was read before the moment stays so.
  host = await reachHost("lab");
  assert.is(
    (await onServer((sql) => sql`select from premise_core.messages where tracking_id = ${before} and status = 5`))
      .length,
    1,
  );
  assert.equal(await read.fetches(), [], "the page read before is not shown again, and the later one is not known");

  // What was delivered since is delivered again, under the same id.
  // With its next wake-up, 30 s after the last one before the moment.
  await eventually(
    "the phone is woken again",
    async () => (await hospital.pushes(waits.registration.notificationAddress)).length > 0,
    40_000,
  );
  const [again, ...more] = await waits.fetches();
  assert.equal([again?.Text, again?.UniqueId, more.length], [textOf(waiting), deliveredId, 0]);
  await waits.confirms([deliveredId]);
  await host.awaits(waiting, "DELIVERED");

  // Where its time ran out meanwhile its host hears FAILED, and then what is true.
  await host.awaits(hurried, "FAILED");
  const [overdue] = await hurries.fetches();
  assert.is(overdue?.Text, textOf(hurried));
  await hurries.confirms([overdue!.UniqueId]);
  await host.awaits(hurried, "DELIVERED");
  assert.ok(host.statuses(hurried).indexOf("FAILED") < host.statuses(hurried).lastIndexOf("DELIVERED"));

  // A page accepted since then is gone. Its phone's receipts do no harm; brought again it is the same page under the same id.
  assert.is((await traceOf(lost.UniqueId)).status, 404);
  await read.reports(lost.UniqueId, "READ");
  assert.equal(host.statuses(late), []);
  await host.sends({
    trackingId: late,
    destination: read.person.destination,
    timeoutDeviceSeconds: LONG_SECONDS,
    sentAt,
  });
  await host.awaits(late, "ENROUTE");
  assert.equal(
    (await read.fetches()).map(({ UniqueId }) => UniqueId),
    [lost.UniqueId],
  );

  // A phone that registered since then is unknown, and hears so.
  const refused = await stranger.fetches().then(
    () => null,
    (error: unknown) => error,
  );
  assert.instance(refused, ServerRefused);
  assert.is((refused as ServerRefused).httpStatus, 401);
  await host.closes();
});

test("a server restored to before a promotion that the archive knows nothing of is refused until its operator says so", async () => {
  assert.is(await node.stops(), 0);
  const [system, timeline] = readFileSync(timelines, "utf8").trim().split(" ");
  writeFileSync(timelines, `${system} ${Number(timeline) + 1}\n`);
  const said = node.said().length;
  const starting = node.starts().catch((error: Error) => error);
  await eventually("the node says why it waits", () => /is refused/.test(node.said().slice(said)), LIMIT_MS);
  assert.match(node.said().slice(said), /older timeline/);
  await node.kills();
  assert.instance(await starting, Error, "it did not come up");
  rmSync(timelines);
  await node.starts();
  assert.is(readFileSync(timelines, "utf8").trim(), `${system} ${timeline}`);
  const phone = await hospital.phone();
  const host = await reachHost("lab");
  await host.awaits(await host.sends({ destination: phone.person.destination }), "ENROUTE");
  await host.closes();
});

test.run();
