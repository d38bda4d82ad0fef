// limit: 300 s, waits
/** Database fails: a node over a real pair of servers, with pages on their way while they are made to fail. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { type Hospital, openHospital } from "./helpers/hospital.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { openPair } from "./helpers/pair.ts";
import { randomFrom } from "./helpers/random.ts";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Longer than a statement may take, so that what waits has been tried and given up. */
const GIVEN_UP_MS = 7_000;
/** Longer than it takes to see that the primary answers nothing, or takes no writes. */
const SEEN_MS = 3_000;
/** Writes are promised within 1 s; a host hears of it by the look of all links, once a second. */
const ACCEPTS_MS = 2_000;
const REFUSED = '"msg":"a database server that takes writes is refused"';

const pair = await openPair();
const hospital = await openHospital({}, { databaseUrl: pair.urls.join(",") });
const host = await hospital.host("lab");
const phone = await hospital.phone();
const { destination } = phone.person;

const said = (event: string) => hospital.node.said().split(`"msg":"${event}"`).length - 1;
async function gauge(of: Hospital, name: string): Promise<number | undefined> {
  const line = new RegExp(`^tocsin_${name}(?:_total)?\\{database="premise"\\} (.*)$`, "m").exec(await of.metrics());
  return line === null ? undefined : Number(line[1]);
}
async function readiness(): Promise<{ status: number; detail: string | null }> {
  const answer = await fetch(`${hospital.node.run().url}/readyz`);
  const body = (await answer.json()) as { checks: { name: string; detail: string | null }[] };
  return { status: answer.status, detail: body.checks.find(({ name }) => name === "database")!.detail };
}

type Fault = {
  readonly fault: () => Promise<unknown>;
  readonly waitsMs: number;
  /** What is to be seen meanwhile. */
  readonly during?: () => Promise<unknown>;
  readonly mend: () => Promise<unknown>;
};

/** Pages handed in while a fault lasts hear nothing until `mend` is over, and are then accepted. */
async function pagesWait({ fault, waitsMs, during = async () => {}, mend }: Fault): Promise<void> {
  const before = await host.sends({ destination });
  await host.awaits(before, "QUEUED");
  await fault();
  const ids: string[] = [];
  for (let n = 0; n < 20; n += 1) {
    ids.push(await host.sends({ destination, priority: n % 2 === 0 ? "high" : "low" }));
    await sleep(waitsMs / 20);
  }
  await during();
  for (const id of ids) assert.equal(host.statuses(id), [], "nothing is told of a page that is not committed");
  await mend();
  for (const id of ids) await host.awaits(id, "QUEUED", { within: 15_000 });
  for (const id of ids) assert.is(host.statuses(id).filter((status) => status === "ACCEPTED").length, 1);
  const written = await pair.sql()<{ n: number }[]>`
    select count(*)::integer as n from premise_core.messages where tracking_id = any (string_to_array(${ids.join()}, ','))`;
  assert.is(written[0]!.n, ids.length, "each is there once");
  await eventually("the node is ready again", async () => (await readiness()).status === 200);
}

test("database fails: while its synchronous standby is lost pages wait, it is told, and they are accepted when the standby is back", () =>
  pagesWait({
    fault: pair.killStandby,
    waitsMs: GIVEN_UP_MS,
    async during() {
      assert.is(said("commits hang: pages wait at their hosts"), 1);
      assert.is(said("a standby that commits wait for is missing"), 1);
      assert.equal(await readiness(), { status: 503, detail: "commits hang" });
      assert.is(await gauge(hospital, "database_up"), 0);
      assert.is(await gauge(hospital, "database_standbys_required"), 1);
      assert.is(await gauge(hospital, "database_standbys_in_sync"), 0);
      assert.ok((await gauge(hospital, "database_commits_waiting"))! > 0);
    },
    mend: pair.startStandby,
  }));

test("database fails: pages that wait for a lost standby are accepted when the primary is told to wait for none", async () => {
  await pagesWait({ fault: pair.killStandby, waitsMs: SEEN_MS, mend: pair.dropStandby });
  await eventually("no standby is asked for", async () => (await gauge(hospital, "database_standbys_required")) === 0);
  await pair.startStandby();
});

test("database fails: demoted in place, its sessions stay open and pages wait until it takes writes again", () =>
  pagesWait({
    fault: pair.demoteInPlace,
    waitsMs: SEEN_MS,
    during: async () => assert.equal(await readiness(), { status: 503, detail: "no writable server" }),
    mend: pair.raiseAgain,
  }));

test("database fails: pages handed in while the primary is frozen are accepted by its promoted standby, and the thawed one is refused", async () => {
  await pagesWait({ fault: async () => pair.freezePrimary(), waitsMs: SEEN_MS, mend: pair.promote });
  pair.thawPrimary();
  await eventually("it is refused", async () => (await gauge(hospital, "database_servers_refused")) === 1);
  assert.is(await gauge(hospital, "database_timeline"), 2);
  assert.is(hospital.node.said().split(REFUSED).length - 1, 1, "told once");
  assert.is(said("the primary has moved"), 1);
});

test(`database fails: pages flow while the primary is killed and its standby promoted; none accepted is lost, none is doubled (SEED=${seed})`, async () => {
  await hospital.close();
  await pair.rebuildOld();
  const ordeal = await openOrdeal({
    databaseUrl: pair.urls.join(","),
    random: randomFrom(seed),
    hosts: 2,
    phones: 6,
    pagesPerSecond: 60,
  });
  const { node } = ordeal.hospital;
  const accepts = (more: number) => {
    const before = ordeal.history.accepted();
    return eventually("pages are accepted", () => ordeal.history.accepted() >= before + more);
  };
  try {
    await accepts(100);
    await pair.killPrimary();
    await sleep(2_000);
    const before = ordeal.history.accepted();
    const promoted = await pair.promote();
    await eventually("pages are accepted again", () => ordeal.history.accepted() > before);
    const took = performance.now() - promoted;
    assert.ok(took < ACCEPTS_MS, `a host heard ACCEPTED ${Math.round(took)} ms after the promotion`);
    await accepts(100);

    await pair.startOldAgain();
    await eventually(
      "the old one is refused",
      async () => (await gauge(ordeal.hospital, "database_servers_refused")) === 1,
    );
    await accepts(100);

    // Started anew with nobody there but the old one, it waits.
    await node.kills();
    await pair.killPrimary();
    const told = node.said().split(REFUSED).length;
    const starting = node.starts();
    starting.catch(() => {});
    await eventually("it refuses it by what it kept", () => node.said().split(REFUSED).length > told);
    await sleep(2_000);
    await pair.startPrimary();
    await starting;
    await accepts(100);
    await ordeal.heals(60_000);
    assert.equal(ordeal.history.faults().slice(0, 10), []);
    const there = await pair.sql()`select from premise_core.messages where origin like 'host-%'`;
    assert.ok(there.length >= ordeal.history.accepted());
  } finally {
    await ordeal.close();
  }
});

test.after(async () => {
  await hospital.close();
  await pair.close();
});
test.run();
