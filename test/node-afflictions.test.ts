// limit: 180 s
/** A node whose clock is wrong or jumps, and one whose event loop stands still, while pages are under way. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as rest } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { connectHost } from "./helpers/host.ts";
import { startNode } from "./helpers/node.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { metric } from "./helpers/process-facts.ts";
import { randomFrom } from "./helpers/random.ts";

const HOUR_MS = 3_600_000;
const folder = mkdtempSync(join(tmpdir(), "tocsin-clock-"));
const file = join(folder, "offset");
const clockBecomes = (ms: number) => writeFileSync(file, String(ms));
// Wrong from its first moment: what it signs for the push services is signed under this clock.
clockBecomes(HOUR_MS);

const server = await startPostgres();
const ordeal = await openOrdeal({
  databaseUrl: server.url,
  random: randomFrom(Number(process.env.SEED ?? 9)),
  hosts: 2,
  phones: 8,
  pagesPerSecond: 40,
  settings: {
    NODE_OPTIONS: `--import=${new URL("helpers/affliction.mjs", import.meta.url).href}`,
    AFFLICTION_CLOCK: file,
    TOCSIN_LOG_LEVEL: "info",
  },
});
const { hospital, history } = ordeal;
const { node } = hospital;
const pid = node.pid();
const sql = postgres(server.url, { max: 2, onnotice: () => {} });
const host = await hospital.host("lab");
const away = await hospital.phone();

/** Each 100 ms, whether the lease of this node was good on the database's clock. */
const leases: boolean[] = [];
let looking = true;
const looked = (async () => {
  for (; looking; await rest(100)) {
    const [row] = await sql<{ good: boolean }[]>`
      select lease_until > clock_timestamp() as good from premise_core.nodes where name = ${node.name} and state <> 'DEAD'`;
    leases.push(row?.good === true);
  }
})();

async function goesOn(): Promise<void> {
  const before = history.accepted();
  await eventually("pages are accepted", () => history.accepted() > before + 20, 15_000);
}
const isReady = async () => (await fetch(`${node.run().url}/readyz`)).status === 200;
const nowHere = async () =>
  (await sql<{ now: number }[]>`select extract(epoch from clock_timestamp())::double precision * 1000 as now`)[0]!.now;
const accepted = async (provider: string) =>
  metric(await hospital.metrics(), `tocsin_push_outcomes_total{provider="${provider}",outcome="accepted"`);

test("a node that starts with its clock an hour ahead says so, and both push services take what it signs", async () => {
  await goesOn();
  for (const provider of ["FCM", "APNS"]) {
    await eventually(`${provider} has taken pushes`, async () => (await accepted(provider)) > 5, 15_000);
  }
  const said = /"level":50[^\n]*"aheadMs":(-?\d+)[^\n]*clock is wrong/.exec(node.said());
  assert.ok(said !== null, "an error in its log");
  assert.ok(Math.abs(Number(said[1]) - HOUR_MS) < 1_000, `by ${said[1]} ms`);
  assert.is(/[^\n]*push refused/.exec(node.said().slice(said.index))?.[0], undefined);
});

for (const [what, offset] of [
  ["an hour behind", -HOUR_MS],
  ["an hour ahead", HOUR_MS],
  ["later than pages are kept", 100 * HOUR_MS],
  ["right again", 0],
] as const) {
  test(`a node whose clock jumps until it is ${what} goes on as if nothing were`, async () => {
    const renewals = leases.length;
    const pushed = { FCM: await accepted("FCM"), APNS: await accepted("APNS") };
    clockBecomes(offset);
    await rest(700);
    await goesOn();

    const begun = performance.now();
    const unfetched = await host.sends({ destination: away.person.destination, timeoutDeviceSeconds: 3 });
    const kept = await host.sends({ destination: away.person.destination });
    const refused = await host.sends({ destination: "000" });
    await host.sends({ destination: away.person.destination, trackingId: kept, text: "again" });
    const dates = [
      ...(await host.expects(kept, "ACCEPTED", "QUEUED")),
      await host.awaits(refused, "FAILED"),
      await host.awaits(unfetched, "FAILED", { within: 15_000 }),
    ];
    assert.ok(performance.now() - begun > 2_900, "given up no sooner than its time");
    const now = await nowHere();
    for (const { at, status } of dates) assert.ok(Math.abs(at - now) < 30_000, `${status} is dated ${now - at} ms ago`);
    assert.not.ok(host.statuses(kept).includes("FAILED"), "and no other with it");

    for (const provider of ["FCM", "APNS"] as const)
      await eventually(`${provider} takes pushes`, async () => (await accepted(provider)) > pushed[provider], 15_000);
    assert.equal(history.disorders().slice(0, 5), []);
    assert.not.ok(leases.slice(renewals).includes(false), "its lease held all the time");
    assert.ok(await isReady());
  });
}

test("no jump brought a page a second wake-up, an end, or another term", async () => {
  assert.match(node.said(), /clock is right again/);
  const strays = await sql`
    select tracking_id, wakeups, outcome, expires_at - accepted_at as kept from premise_core.messages
    where origin like 'host-%' and (wakeups <> 1 or outcome is not null 
      or abs(extract(epoch from expires_at - accepted_at) - 259200) > 0.001
      or abs(extract(epoch from device_deadline - accepted_at) - 600) > 0.001) limit 5`;
  assert.equal([...strays], []);
  const [ended] = await sql<{ n: number }[]>`
    select count(*)::integer as n from premise_core.notifications where state = 'EXPIRED'`;
  assert.is(ended!.n, 0, "no push was given up as too old");
});

test("a node whose event loop is held for five seconds loses its lease, and goes on by itself", async () => {
  for (let round = 0; round < 2; round += 1) {
    const renewals = leases.length;
    process.kill(pid, "SIGUSR2");
    await rest(5_500);
    assert.ok((await fetch(`${node.run().url}/healthz`)).ok);
    await goesOn();
    assert.ok(leases.slice(renewals).includes(false), "it was without a lease");
    await eventually("it is ready again", isReady);
  }
});

test("what comes due while a node stands still is done by another, once, and told when its host is back", async () => {
  const other = await startNode({ TOCSIN_NODE: "other", TOCSIN_PREMISE_DATABASE_URL: server.url });
  try {
    await rest(3_500); // past the time that a new node is given nothing
    const page = await host.sends({ destination: away.person.destination, timeoutDeviceSeconds: 3 });
    await host.expects(page, "ACCEPTED", "QUEUED", "ENROUTE");
    process.kill(pid, "SIGUSR2");
    // Taken for dead, its links were ended: a host that stayed on one would not hear what others' links are given.
    await eventually(
      "its connection is ended",
      () => Promise.race([host.gone.then(() => true), rest(10, false)]),
      20_000,
    );
    const back = await connectHost({ port: node.run().mxpp!.port, name: "lab" });
    // Whose the connection is, its first page says.
    await back.expects(await back.sends({ destination: away.person.destination }), "ACCEPTED");
    await back.awaits(page, "FAILED", { within: 10_000 });
    await goesOn();
    await rest(1_000);
    assert.is(back.statuses(page).filter((status) => status === "FAILED").length, 1);
    await back.closes();
    const ends = await sql<{ node: string }[]>`
      select history.node from premise_core.message_history as history join premise_core.messages using (unique_id)
      where tracking_id = ${page} and event = 'FAILED'`;
    assert.equal(
      ends.map((end) => end.node),
      ["other"],
    );
  } finally {
    await other.stops();
    await other.close();
  }
  await eventually(
    "it drives all shards again",
    async () => {
      const rows = await sql`select from premise_core.shards where owner_boot <> (
      select boot from premise_core.nodes where name = ${node.name} and state = 'LIVE')`;
      return rows.length === 0;
    },
    15_000,
  );
});

test("after all of it every page accepted was shown once and told in order", async () => {
  await ordeal.heals(40_000);
  assert.equal(history.faults().slice(0, 10), []);
  assert.is(node.pid(), pid);
  console.log(`  ${history.pages.size} pages`);
});

test.after(async () => {
  looking = false;
  await looked.catch(() => {});
  await sql.end({ timeout: 1 });
  await ordeal.close();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});
test.run();
