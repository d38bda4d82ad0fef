// limit: 300 s, waits
/**
 * A service stops or fails: a push worker that hangs or throws, a sweep that throws, a host listener that dies; and the web server
 * fails: its listener is closed under the node, goes deaf, or finds its port taken by somebody else. Each is restarted; a node whose
 * service keeps failing withdraws and another drives its pages, and a node that is alone goes on with what it has.
 */
import { Agent, get } from "node:http";
import { connect, createServer, type Server } from "node:net";
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
const webPort = Number(new URL(node.run().url).port);
/** Beside it from the first test that needs another. */
let second: NodeProcess | null = null;

const strikes = (orders: Parameters<typeof affliction.strikes>[1]) => affliction.strikes(node.pid(), orders);
const restarts = async (service: string) =>
  metric(await hospital.metrics(), `tocsin_service_restarts_total{service="${service}"`);

/** Of one caller's kept connection, as balancers keep theirs. */
const kept = new Agent({ keepAlive: true, maxSockets: 1 });
type Check = { readonly name: string; readonly ok: boolean; readonly detail: string | null };
type Readiness = { readonly status: number; readonly checks: readonly Check[]; readonly why: string };
async function readiness(agent?: Agent): Promise<Readiness> {
  return await new Promise((resolve, reject) => {
    const request = get(`${node.run().url}/readyz`, { agent: agent ?? false, timeout: 3_000 }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      answer.on("end", () => {
        const { checks } = JSON.parse(text) as { checks: Check[] };
        const why = checks.flatMap(({ ok, detail }) => (ok ? [] : [detail])).join("; ");
        resolve({ status: answer.statusCode!, checks, why });
      });
    });
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("no answer")));
  });
}
const isReady = async () => (await readiness()).status === 200;
const isMute = () =>
  readiness().then(
    () => false,
    () => true,
  );
/** To a new connection: those there were before may live on. */
const isClosed = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(false)).on("error", () => resolve(true));
    socket.on("connect", () => socket.destroy());
  });

/** The phone looks by itself; no push is waited for. */
const fetches = async (trackingId: string) => (await phone.fetches()).some((page) => page.Text === textOf(trackingId));
async function arrives(): Promise<string> {
  const page = await host.sends({ destination, priority: "high" });
  await phone.expectsPage(textOf(page), { within: 25_000 });
  return page;
}

type Seen = { readonly name: string; readonly shards: number; readonly state: string; readonly why: string | null };
/** What the second node says, which is well all the time. */
async function asked(path: string): Promise<Record<string, never>> {
  const answer = await fetch(`${second!.run().url}/api/v1${path}`, {
    headers: { authorization: `Bearer ${node.adminKey}` },
  });
  return (await answer.json()) as Record<string, never>;
}
async function seen(name: "first" | "second"): Promise<Seen> {
  const { nodes } = (await asked("/cluster")) as unknown as { nodes: Seen[] };
  return nodes.find((one) => one.name === name)!;
}
async function whoFailed(trackingId: string): Promise<string> {
  const { events } = (await asked(`/messages/${trackingId}/trace`)) as unknown as {
    events: { event: string; node: string }[];
  };
  return events.find(({ event }) => event === "FAILED")!.node;
}

test("web server fails: a listener that is closed under the node comes back at its port within seconds, and phones fetch", async () => {
  const page = await host.sends({ destination });
  await host.expects(page, "ACCEPTED");
  strikes({ close: [webPort] });
  await eventually("nobody listens", isMute, 2_000);
  await eventually("it answers again", isReady, 5_000);
  assert.ok(await fetches(page));
  await host.awaits(page, "ENROUTE");
  assert.is(await restarts("http"), 1);
});

test("web server fails: one that takes connections and answers nothing is replaced", async () => {
  strikes({ deafen: [webPort] });
  await eventually("it answers no more", isMute, 5_000);
  await eventually("it answers again", isReady, 20_000);
  const page = await host.sends({ destination });
  await eventually("the phone has it", () => fetches(page));
  assert.is(await restarts("http"), 2);
});

test("service stops or fails: a host listener that dies comes back at its port; connected hosts notice nothing, and new ones are let in", async () => {
  phone.wakesOnPush(node.run().emulatorUrl);
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

test("service stops or fails: the metrics listener comes back at its port, and the node is ready all the time", async () => {
  const port = Number(new URL(node.run().metricsUrl!).port);
  await eventually("the node is ready", isReady);
  strikes({ close: [port] });
  await eventually("it is closed", () => isClosed(port), 3_000);
  const { status, why } = await readiness();
  assert.equal({ status, why }, { status: 200, why: "" });
  await eventually("it is back", async () => !(await isClosed(port)), 5_000);
  await eventually("it was restarted", async () => (await restarts("metrics")) === 1);
});

test("service stops or fails: a push worker that hangs is left behind for a new one, and the page it held up arrives", async () => {
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
  await eventually("the node is ready", isReady);
});

test("service stops or fails: a node alone whose push workers keep failing says so, and mends when they do", async () => {
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
  await eventually("it is ready again", isReady, 20_000);
  await host.awaits(await arrives(), "DELIVERED");
});

test("service stops or fails: a node whose sweep keeps failing gives its shards to another, which does what is due, and takes them back", async () => {
  second = await startNode({
    TOCSIN_NODE: "second",
    TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
    TOCSIN_ADMIN_KEY: node.adminKey,
  });
  const shards = async () => metric(await hospital.metrics(), "tocsin_shards");
  await eventually("both drive shards", async () => (await shards()) < 192, 30_000);
  // Fetched only by itself: what is due for it is due by its row.
  await phone.switchesOff();
  strikes({ throw: ["dueMessages"] });
  const page = await host.sends({ destination, timeoutDeviceSeconds: 4 });
  await host.expects(page, "ACCEPTED", "QUEUED", "ENROUTE");
  await eventually("it drives none", async () => (await shards()) === 0, 20_000);
  assert.match((await readiness()).why, "sweep: keeps failing");
  assert.match((await readiness()).why, "service sweep keeps failing");
  await host.awaits(page, "FAILED", { within: 15_000 });
  assert.is(await whoFailed(page), "second");
  strikes({});
  await eventually("it drives shards again", async () => (await shards()) > 64, 30_000);
  assert.ok(await isReady());
});

test("web server fails: while somebody else has its port the node withdraws and says why, another drives its pages, and it comes back", async () => {
  assert.is((await readiness(kept)).status, 200);
  strikes({ close: [webPort] });
  const thief: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  });
  await eventually(
    "somebody else has the port",
    () =>
      new Promise<boolean>((resolve) => {
        thief.once("error", () => resolve(false));
        thief.listen(webPort, "127.0.0.1", () => resolve(true));
      }),
  );
  const withdrawn = await eventually(
    "the other owns every shard",
    async () => {
      const first = await seen("first");
      return first.shards === 0 && (await seen("second")).shards === 256 ? first : undefined;
    },
    30_000,
  );
  assert.is(withdrawn.state, "DRAINING");
  assert.is(withdrawn.why, "service http keeps failing");
  assert.match(node.said(), /"level":50[^\n]*"service":"http"[^\n]*"why":"EADDRINUSE"[^\n]*service keeps failing/);
  const { status, checks } = await readiness(kept);
  assert.is(status, 503);
  assert.is(checks.find((check) => check.name === "services")!.detail, "http: EADDRINUSE");
  assert.is(checks.find((check) => check.name === "staying")!.detail, "service http keeps failing");
  assert.is(metric(await hospital.metrics(), 'tocsin_service_up{service="http"'), 0);

  // Its host is still connected to it; the page is the other's to drive.
  const page = await host.sends({ destination, timeoutDeviceSeconds: 4 });
  await host.expects(page, "ACCEPTED", "QUEUED", "ENROUTE");
  await host.awaits(page, "FAILED", { within: 15_000 });
  assert.is(await whoFailed(page), "second");

  await new Promise((resolve) => thief.close(resolve));
  await eventually("it is ready again", isReady, 20_000);
  await eventually("it drives shards again", async () => (await seen("first")).shards > 64, 30_000);
  const after = await host.sends({ destination });
  await eventually("the phone fetches from it", () => fetches(after));
});

test.after(async () => {
  await second?.close();
  kept.destroy();
  await hospital.close();
  affliction.close();
});
test.run();
