// limit: 240 s
/**
 * The web server fails: its listener is closed under the node, goes deaf, or finds its port taken by somebody else. It comes back
 * at the same port; where it cannot, the node withdraws and another drives its pages.
 */
import { Agent, get } from "node:http";
import { createServer, type Server } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { type NodeProcess, startNode } from "./helpers/node.ts";
import { metric } from "./helpers/process-facts.ts";
import { openAffliction } from "./helpers/service-affliction.ts";

const affliction = openAffliction();
const hospital = await openHospital({ TOCSIN_NODE: "first", ...affliction.settings });
const { node } = hospital;
const host = await hospital.host("lab");
const phone = await hospital.phone();
const { destination } = phone.person;
const port = Number(new URL(node.run().url).port);

let other: NodeProcess | null = null;
/** Of one caller's kept connection, as balancers keep theirs. */
const kept = new Agent({ keepAlive: true, maxSockets: 1 });
type Readiness = { readonly ready: boolean; readonly checks: { name: string; ok: boolean; detail: string | null }[] };
async function readiness(agent?: Agent): Promise<Readiness & { readonly status: number }> {
  return await new Promise((resolve, reject) => {
    const request = get(`${node.run().url}/readyz`, { agent: agent ?? false, timeout: 3_000 }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode!, ...(JSON.parse(text) as Readiness) }));
    });
    request.on("error", reject);
    request.on("timeout", () => request.destroy(new Error("no answer")));
  });
}
const fetches = async (trackingId: string) => (await phone.fetches()).some((page) => page.Text === textOf(trackingId));
const shardsOf = async (name: string) => {
  const { body } = await hospital.operator("GET", "/cluster");
  const nodes = body.nodes as unknown as { name: string; shards: number; state: string; why: string | null }[];
  return nodes.find((one) => one.name === name);
};

test("an HTTP listener that is closed under the node comes back at its port within seconds, and phones fetch", async () => {
  const page = await host.sends({ destination });
  await host.expects(page, "ACCEPTED");
  affliction.strikes(node.pid(), { close: [port] });
  await eventually(
    "nobody listens",
    async () =>
      readiness().then(
        () => false,
        () => true,
      ),
    2_000,
  );
  await eventually("it answers again", async () => (await readiness()).status === 200, 5_000);
  assert.ok(await fetches(page));
  await host.awaits(page, "ENROUTE");
  assert.is(metric(await hospital.metrics(), 'tocsin_service_restarts_total{service="http"'), 1);
});

test("one that takes connections and answers nothing is replaced", async () => {
  affliction.strikes(node.pid(), { deafen: [port] });
  await eventually(
    "it answers no more",
    async () =>
      readiness().then(
        () => false,
        () => true,
      ),
    5_000,
  );
  await eventually("it answers again", async () => (await readiness()).status === 200, 20_000);
  const page = await host.sends({ destination });
  await eventually("the phone has it", () => fetches(page));
  assert.is(metric(await hospital.metrics(), 'tocsin_service_restarts_total{service="http"'), 2);
});

test("while somebody else has its port the node withdraws and says why, another drives its pages, and it comes back", async () => {
  // What happened before counts for two minutes.
  const second = await startNode({
    TOCSIN_NODE: "second",
    TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
    TOCSIN_ADMIN_KEY: node.adminKey,
  });
  other = second;
  await eventually("both drive shards", async () => ((await shardsOf("second"))?.shards ?? 0) > 64, 30_000);
  assert.is((await readiness(kept)).status, 200);

  affliction.strikes(node.pid(), { close: [port] });
  const thief: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  });
  await eventually(
    "somebody else has the port",
    () =>
      new Promise<boolean>((resolve) => {
        thief.once("error", () => resolve(false));
        thief.listen(port, "127.0.0.1", () => resolve(true));
      }),
  );
  const seen = async () => {
    const answer = await fetch(`${second.run().url}/api/v1/cluster`, {
      headers: { authorization: `Bearer ${node.adminKey}` },
    });
    return (await answer.json()) as { nodes: { name: string; shards: number; state: string; why: string | null }[] };
  };
  const withdrawn = await eventually(
    "the other owns every shard",
    async () => {
      const { nodes } = await seen();
      const first = nodes.find((one) => one.name === "first")!;
      return first.shards === 0 && nodes.find((one) => one.name === "second")!.shards === 256 ? first : undefined;
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
  const failed = await host.awaits(page, "FAILED", { within: 15_000 });
  assert.ok(failed);
  const trace = await fetch(`${second.run().url}/api/v1/messages/${page}/trace`, {
    headers: { authorization: `Bearer ${node.adminKey}` },
  });
  const events = ((await trace.json()) as { events: { event: string; node: string }[] }).events;
  assert.is(events.find(({ event }) => event === "FAILED")!.node, "second");

  await new Promise((resolve) => thief.close(resolve));
  await eventually("it is ready again", async () => (await readiness()).status === 200, 20_000);
  await eventually("it drives shards again", async () => ((await shardsOf("first"))?.shards ?? 0) > 64, 30_000);
  const after = await host.sends({ destination });
  await eventually("the phone fetches from it", () => fetches(after));
});

test.after(async () => {
  await other?.close();
  kept.destroy();
  await hospital.close();
  affliction.close();
});
test.run();
