// limit: 180 s
/** Test pages on real nodes: there and back, in nobody's list, nobody else's to use, and an alarm when they stay away. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { SiteId } from "../domain.ts";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { SYNTHETIC_ADDRESS, syntheticOrigin } from "../persistence/synthetic.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost } from "./helpers/host.ts";
import { type NodeProcess, startNode } from "./helpers/node.ts";
import { registerPhone } from "./helpers/phone.ts";

const EVERY = { TOCSIN_SYNTHETIC_SECONDS: "1" };
const FOUND_MS = 20_000;
const hospital = await openHospital(EVERY);
const { operator } = hospital;
const origin = syntheticOrigin(hospital.siteId as SiteId);
const sql = postgres(hospital.databaseUrl, { max: 2, onnotice: () => {} });
const more: NodeProcess[] = [];
test.after(async () => {
  await sql.end({ timeout: 1 });
  await hospital.close();
  for (const node of more) await node.close();
});

/** The value of a line of metrics, 0 where it is not there. */
function readingOf(metrics: string, line: string): number {
  const found = metrics.split("\n").find((one) => one.startsWith(`${line} `));
  return found === undefined ? 0 : Number(found.slice(line.length + 1));
}
const DELIVERED = 'tocsin_synthetic_pages_total{outcome="delivered"}';
const OVERDUE = "tocsin_synthetic_overdue_seconds";
const metricsOf = async (node: NodeProcess) => (await fetch(node.run().metricsUrl!)).text();
const delivered = async (node: NodeProcess) => readingOf(await metricsOf(node), DELIVERED);

test("a site's test pages come back and are counted by themselves, and no push service hears of them", async () => {
  const metrics = await eventually(
    "test pages come back",
    async () => {
      const read = await hospital.metrics();
      return readingOf(read, DELIVERED) >= 2 && read;
    },
    FOUND_MS,
  );
  assert.is(readingOf(metrics, OVERDUE), 0);
  for (const status of ["ACCEPTED", "QUEUED", "DELIVERED"])
    assert.ok(readingOf(metrics, `tocsin_synthetic_page_seconds_count{status="${status}"}`) >= 2, status);
  for (const other of [
    "pages_total{",
    "statuses_total{",
    "page_status_seconds",
    "host_notifications_total{",
    "push_outcomes_total{",
  ])
    assert.not.match(metrics, new RegExp(`^tocsin_${other}`, "m"), other);
  assert.equal(await hospital.pushes(), []);
});

test("they are in no list unless asked for, and what they go by is nobody's to see, change or remove", async () => {
  const lists = await Promise.all(
    ["messages", "messages?stuck=true", "host-systems", "subscribers", "devices"].map((path) =>
      operator("GET", `/${path}`),
    ),
  );
  for (const { body } of lists) assert.equal(body.items, []);
  assert.is((await operator("GET", "/messages/last/trace")).status, 404);

  const { body } = await operator("GET", "/messages?synthetic=true");
  const [first] = body.items as unknown as {
    uniqueId: string;
    trackingId: string;
    origin: string;
    destination: string;
  }[];
  assert.equal([first!.origin, first!.destination], [origin, SYNTHETIC_ADDRESS]);
  for (const which of [first!.uniqueId, first!.trackingId])
    assert.is((await operator("GET", `/messages/${which}/trace`)).status, 200, which);

  const ids = async (table: string) =>
    (await sql<{ id: string }[]>`select id from ${sql(`premise_core.${table}`)} where synthetic`).map(({ id }) => id);
  const [host] = await ids("host_systems");
  const [subscriber] = await ids("subscribers");
  const [device] = await ids("devices");
  for (const [method, path, body] of [
    ["GET", `/host-systems/${host}`],
    ["PATCH", `/host-systems/${host}`, { name: "mine" }],
    ["DELETE", `/host-systems/${host}`],
    ["GET", `/subscribers/${subscriber}`],
    ["POST", `/subscribers/${subscriber}/registration-code`],
    ["DELETE", `/devices/${device}`],
  ] as const)
    assert.is((await operator(method, path, body)).status, 404, `${method} ${path}`);
});

test("an outside host cannot speak as their host system, nor page their phone; an outside phone cannot be it", async () => {
  const { siteId } = hospital;
  const refused = await operator("POST", "/host-systems", {
    name: `${origin}x`,
    siteId,
    allowedAddresses: ["127.0.0.1"],
  });
  assert.is(refused.status, 400);
  const { port } = hospital.node.run().mxpp!;
  const stranger = await connectHost({ port, name: origin });
  const page = await stranger.sends({ destination: SYNTHETIC_ADDRESS });
  assert.is((await stranger.awaits(page, "FAILED")).reason, "unknown origin");
  await stranger.closes();
  const lab = await hospital.host("lab");
  for (const destination of [SYNTHETIC_ADDRESS, SYNTHETIC_ADDRESS.toLowerCase()])
    assert.is((await lab.awaits(await lab.sends({ destination }), "FAILED")).reason, "unknown destination");
  const code = (
    await sql<{ code: Buffer }[]>`select registration_code_hash as code from premise_core.subscribers where synthetic`
  )[0]!;
  await registerPhone({
    ...{ url: hospital.node.run().url, siteId, destination: SYNTHETIC_ADDRESS },
    registrationCode: code.code.toString("hex"),
  }).then(
    () => assert.unreachable("somebody has become the test phone"),
    (error: Error) => assert.match(error.message, "401"),
  );
});

test("a push queue that stands still is an outage: the gauge rises and one line says so, and another when it is over", async () => {
  const { node } = hospital;
  const lines = (event: string) => node.said().split(event).length - 1;
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const holding = sql.begin(async (transaction) => {
    await transaction`lock table core.message_queue in access exclusive mode`;
    await held;
  });
  try {
    await eventually("the gauge rises", async () => readingOf(await hospital.metrics(), OVERDUE) > 11, 30_000);
    assert.is(lines("the test page of a site did not come back"), 1);
    assert.is((await fetch(`${node.run().url}/healthz`)).status, 200);
  } finally {
    release();
    await holding;
  }
  const before = await delivered(node);
  await eventually("test pages come back again", async () => (await delivered(node)) > before, 60_000);
  const metrics = await hospital.metrics();
  assert.is(readingOf(metrics, OVERDUE), 0);
  const [late, lost] = ["late", "lost"].map((outcome) =>
    readingOf(metrics, `tocsin_synthetic_pages_total{outcome="${outcome}"}`),
  );
  assert.ok(late! + lost! >= 1, `late ${late}, lost ${lost}`);
  assert.is(lines("the test page of a site did not come back"), 1);
  assert.is(lines("the test pages of a site come back again"), 1);
});

test("of several nodes one sends a site's test pages, and another in its place soon after it died", async () => {
  const settings = { ...EVERY, TOCSIN_NODE: "other", TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl };
  const other = await startNode({ ...settings, TOCSIN_ADMIN_KEY: hospital.node.adminKey });
  more.push(other);
  const nodes = [hospital.node, other];
  await eventually(
    "both drive shards",
    async () => {
      const { body } = await operator("GET", "/cluster");
      const seen = body.nodes as unknown as { shards: number }[];
      return seen.length === 2 && seen.every(({ shards }) => shards > 85);
    },
    40_000,
  );
  await sleep(1_500);
  const before = await Promise.all(nodes.map(delivered));
  await sleep(3_500);
  const after = await Promise.all(nodes.map(delivered));
  const senders = nodes.filter((_, index) => after[index]! > before[index]!);
  assert.is(senders.length, 1, `${before} became ${after}`);
  const [survivor] = nodes.filter((node) => node !== senders[0]);
  const had = await delivered(survivor!);
  await senders[0]!.kills();
  await eventually("the other sends them", async () => (await delivered(survivor!)) > had + 1, 15_000);
});

test("without a plain port they go over TLS; with neither, the start says that there are none", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-test-pages-"));
  const authority = await makeAuthority("Hospital CA");
  const { certificate, key } = await issueCertificate(authority, { names: ["pages.example"], kind: "server" });
  const files = { TOCSIN_TLS_CERT_FILE: join(folder, "cert.pem"), TOCSIN_TLS_KEY_FILE: join(folder, "key.pem") };
  writeFileSync(files.TOCSIN_TLS_CERT_FILE, certificate);
  writeFileSync(files.TOCSIN_TLS_KEY_FILE, key);
  for (const node of [hospital.node, ...more]) await node.stops();
  const place = { ...EVERY, TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl, TOCSIN_MXPP_PORT: "-1" };
  const secured = await startNode({ ...place, ...files, TOCSIN_NODE: "secured", TOCSIN_MXPP_TLS_PORT: "0" });
  more.push(secured);
  await eventually("test pages come back over TLS", async () => (await delivered(secured)) >= 1, FOUND_MS);
  const deaf = await startNode({ ...place, TOCSIN_NODE: "deaf" });
  more.push(deaf);
  assert.is(deaf.said().split("no test pages").length - 1, 1);
  rmSync(folder, { recursive: true, force: true });
});

test.run();
