// limit: 300 s
/** Operators who follow pages on real nodes: over the death of the server they ask, and whichever node has the pages. */
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine } from "./helpers/command-line.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Hospital, openHospital } from "./helpers/hospital.ts";
import { connectHost, type Host } from "./helpers/host.ts";
import { type NodeProcess, startNode } from "./helpers/node.ts";
import { phoneOf } from "./helpers/phone.ts";

const WITHIN_MS = 40_000;
const STATUSES = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "ACKNOWLEDGED"];
let hospital: Hospital;
let second: NodeProcess;
let host: Host;
const { starts, close } = openCommandLine();
test.before(async () => {
  hospital = await openHospital({ TOCSIN_NODE: "first" });
  const { databaseUrl, node } = hospital;
  second = await startNode({
    TOCSIN_NODE: "second",
    TOCSIN_PREMISE_DATABASE_URL: databaseUrl,
    TOCSIN_ADMIN_KEY: node.adminKey,
  });
  await hospital.knows("elsewhere");
  host = await connectHost({ port: second.run().mxpp!.port, name: "elsewhere" });
});
test.after(async () => {
  close();
  await host.closes();
  await second.close();
  await hospital.close();
});

/** Typed beside the first node. */
function types(...words: string[]) {
  const { dataDir, adminKey } = hospital.node;
  return starts([...words, "--data-dir", dataDir, "--key", adminKey, "--json"]);
}

test("trace --follow goes on through a kill -9 and a restart at another port, and tells no step twice", async () => {
  const phone = await hospital.phone();
  const elsewhere = phoneOf({ url: second.run().url }, phone.registration);
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const following = types("trace", trackingId, "--follow");
  const told = () => following.records().map(({ event }) => String(event));
  await eventually("ENROUTE is told", () => told().includes("ENROUTE"), WITHIN_MS);
  const was = hospital.node.run().url;
  await hospital.node.kills();
  await eventually("it says so", () => following.err().includes("trying again"), WITHIN_MS);
  // What happens meanwhile happens at the other node.
  const [page] = await elsewhere.fetches();
  await elsewhere.confirms([page!.UniqueId]);
  await host.awaits(trackingId, "DELIVERED");
  await hospital.node.starts();
  assert.is.not(hospital.node.run().url, was);
  await eventually("DELIVERED is told", () => told().includes("DELIVERED"), WITHIN_MS);
  await elsewhere.answers(page!, "ACKNOWLEDGED");
  const { code, err } = await following.ended;
  assert.is(code, 0, err);
  assert.match(err, /trying again\n.*there again/);
  const ids = following.records().flatMap(({ id }) => (id === undefined ? [] : [id]));
  assert.is(new Set(ids).size, ids.length);
  assert.equal(
    told().filter((event) => STATUSES.includes(event)),
    STATUSES,
  );
  const { status, next } = following.records().at(-1)!;
  assert.equal([status, next], ["ACKNOWLEDGED", null]);
});

test("tail shows what becomes of pages that come in at two nodes, each change once, over a restart of the server it asks", async () => {
  const phone = await hospital.phone();
  const here = await hospital.host("here");
  const tail = types("tail", "--destination", phone.person.destination);
  const shown = () => tail.records().map(({ trackingId, status }) => `${trackingId} ${status}`);
  // It begins when it has begun: until then a page may go by.
  const first = await eventually(
    "it has begun",
    async () => {
      const trackingId = await here.sends({ destination: phone.person.destination });
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      return shown().some((line) => line.startsWith(trackingId)) && trackingId;
    },
    WITHIN_MS,
  );
  const other = await host.sends({ destination: phone.person.destination });
  const all = (trackingId: string) => ["ACCEPTED", "QUEUED", "ENROUTE"].map((status) => `${trackingId} ${status}`);
  const sees = (trackingId: string) =>
    eventually(`${trackingId} is shown`, () => all(trackingId).every((line) => shown().includes(line)), WITHIN_MS);
  await sees(other);
  await hospital.node.kills();
  const meanwhile = await host.sends({ destination: phone.person.destination });
  await host.awaits(meanwhile, "ENROUTE");
  await hospital.node.starts();
  await sees(meanwhile);
  tail.child.kill("SIGINT");
  const { code } = await tail.ended;
  assert.is(code, 130);
  assert.is(new Set(shown()).size, shown().length);
  assert.ok(first);
});

test("tail --stuck shows a page that nobody drives until somebody does", async () => {
  const sql = postgres(hospital.databaseUrl, { max: 1, onnotice: () => {} });
  const phone = await hospital.phone();
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const due = (at: string) => sql`
    update premise_core.messages set due_at = now() + ${at}::text::interval, device_deadline = now() - interval '1 minute', version = version + 1
    where tracking_id = ${trackingId}`;
  await due("1 hour");
  const stuck = types("tail", "--stuck");
  const shown = () => stuck.records().map((page) => [page.trackingId, page.stuck]);
  await eventually("it is shown", () => shown().length === 1, WITHIN_MS);
  await due("0 s");
  await host.awaits(trackingId, "FAILED");
  await eventually("it is gone", () => shown().length === 2, WITHIN_MS);
  assert.equal(shown(), [
    [trackingId, true],
    [trackingId, false],
  ]);
  stuck.child.kill("SIGINT");
  assert.is((await stuck.ended).code, 130);
  await sql.end({ timeout: 1 });
});

test.run();
