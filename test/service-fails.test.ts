// limit: 300 s
/**
 * A service stops or fails: a push worker that hangs or throws, a sweep that throws, a host listener that dies. Each is restarted;
 * a node whose service keeps failing withdraws and is not ready, and a node that is alone goes on with what it has.
 */
import { connect } from "node:net";
import { setTimeout as rest } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, textOf } from "./helpers/host.ts";
import { type NodeProcess, startNode } from "./helpers/node.ts";
import { metric } from "./helpers/process-facts.ts";
import { openAffliction } from "./helpers/service-affliction.ts";

const affliction = openAffliction();
const hospital = await openHospital({ TOCSIN_NODE: "first", ...affliction.settings });
const { node } = hospital;
const host = await hospital.host("lab");
const phone = await hospital.phone();
const { destination } = phone.person;
let other: NodeProcess | null = null;
phone.wakesOnPush(node.run().emulatorUrl);

const strikes = (orders: Parameters<typeof affliction.strikes>[1]) => affliction.strikes(node.pid(), orders);
const restarts = async (service: string) =>
  metric(await hospital.metrics(), `tocsin_service_restarts_total{service="${service}"`);
type Check = { readonly name: string; readonly ok: boolean; readonly detail: string | null };
async function readiness() {
  const answer = await fetch(`${node.run().url}/readyz`);
  const { checks } = (await answer.json()) as { checks: Check[] };
  return { status: answer.status, why: checks.flatMap(({ ok, detail }) => (ok ? [] : [detail])).join("; ") };
}
/** To a new connection: those there were before may live on. */
const isClosed = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(false)).on("error", () => resolve(true));
    socket.on("connect", () => socket.destroy());
  });
async function arrives(): Promise<string> {
  const page = await host.sends({ destination, priority: "high" });
  await phone.expectsPage(textOf(page), { within: 25_000 });
  return page;
}

test("a host listener that dies comes back at its port; connected hosts notice nothing, and new ones are let in", async () => {
  const { port } = node.run().mxpp!;
  await arrives();
  strikes({ close: [port] });
  await eventually("it is closed", () => isClosed(port), 3_000);
  // Over the connection that was there before, with its listener away.
  await host.awaits(await arrives(), "DELIVERED");
  const late = await eventually("a host is let in", () => connectHost({ port, name: "lab" }), 5_000);
  const page = await late.sends({ destination });
  await late.expects(page, "ACCEPTED");
  await late.closes();
  await host.awaits(await arrives(), "DELIVERED");
  assert.ok((await restarts("mxpp")) >= 1);
});

test("the metrics listener comes back at its port, and the node is ready all the time", async () => {
  const port = Number(new URL(node.run().metricsUrl!).port);
  await eventually("the node is ready", async () => (await readiness()).status === 200);
  strikes({ close: [port] });
  await eventually("it is closed", () => isClosed(port), 3_000);
  assert.equal(await readiness(), { status: 200, why: "" });
  await eventually("it is back", async () => !(await isClosed(port)), 5_000);
  await eventually("it was restarted", async () => (await restarts("metrics")) === 1);
});

test("a push worker that hangs is left behind for a new one, and the page it held up arrives", async () => {
  strikes({ hang: ["claimDuePushes"] });
  // So that the round that hangs has begun.
  await rest(1_000);
  const page = await host.sends({ destination, priority: "high" });
  await host.expects(page, "ACCEPTED", "QUEUED", "ENROUTE");
  await rest(2_000);
  assert.is(
    phone.pages().some((one) => one.Text === textOf(page)),
    false,
    "it waits",
  );
  strikes({});
  await phone.expectsPage(textOf(page), { within: 25_000 });
  assert.is(await restarts("push GCM urgent"), 1);
  await eventually("the node is ready", async () => (await readiness()).status === 200);
});

test("a node alone whose push workers keep failing says so, and mends when they do", async () => {
  strikes({ throw: ["claimDuePushes"] });
  await eventually("it is not ready", async () => (await readiness()).status === 503, 20_000);
  assert.match((await readiness()).why, "push GCM urgent: keeps failing");
  // Alone, it keeps its shards: a page that nobody can be woken for is fetched all the same, and told.
  const page = await host.sends({ destination });
  await host.expects(page, "ACCEPTED", "QUEUED", "ENROUTE");
  const found = (await phone.fetches()).find((one) => one.Text === textOf(page))!;
  await phone.confirms([found.UniqueId]);
  await host.awaits(page, "DELIVERED");
  strikes({});
  await eventually("it is ready again", async () => (await readiness()).status === 200, 20_000);
  await host.awaits(await arrives(), "DELIVERED");
});

test("a node whose sweep keeps failing gives its shards to another, which does what is due, and takes them back", async () => {
  other = await startNode({
    TOCSIN_NODE: "second",
    TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
    TOCSIN_ADMIN_KEY: node.adminKey,
  });
  const shards = async () => metric(await hospital.metrics(), "tocsin_shards");
  await eventually("both drive shards", async () => (await shards()) < 200, 30_000);
  // Fetched only by itself: what is due for it is due by its row.
  await phone.switchesOff();
  const page = await host.sends({ destination, timeoutDeviceSeconds: 20 });
  await host.expects(page, "ACCEPTED", "QUEUED", "ENROUTE");
  strikes({ throw: ["dueMessages"] });
  await eventually("it drives none", async () => (await shards()) === 0, 20_000);
  assert.match((await readiness()).why, "sweep: keeps failing");
  assert.match((await readiness()).why, "service sweep keeps failing");
  await host.awaits(page, "FAILED", { within: 30_000 });
  const { body } = await hospital.operator("GET", `/messages/${page}/trace`);
  const events = body.events as unknown as { event: string; node: string }[];
  assert.is(events.find(({ event }) => event === "FAILED")!.node, "second");
  strikes({});
  await eventually("it drives shards again", async () => (await shards()) > 64, 30_000);
  assert.is((await readiness()).status, 200);
});

test.after(async () => {
  await other?.close();
  await hospital.close();
  affliction.close();
});
test.run();
