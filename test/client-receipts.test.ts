/** What a phone says of its pages, when it says it happened, and what its host is told of that. */
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readSaidAt } from "../gateways/client/bodies.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";

for (const [at, ms] of [
  ["2026-11-21T10:00:00Z", Date.UTC(2026, 10, 21, 10)],
  ["2026-11-21T10:00:00.250Z", Date.UTC(2026, 10, 21, 10) + 250],
  ["2026-11-21T10:00Z", Date.UTC(2026, 10, 21, 10)],
  ["2026-11-21T12:30:00+02:30", Date.UTC(2026, 10, 21, 10)],
  [1_795_255_200_000, 1_795_255_200_000],
  [0, 0],
  [-1e300, -1e300],
  ["2026-11-21T10:00:00", null], // whose ten o'clock?
  ["2026-11-21", null],
  ["2026-13-41T99:00:00Z", null],
  ["10:00", null],
  ["Sat, 21 Nov 2026 10:00:00 GMT", null],
  ["1795255200000", null],
  ["", null],
  [Number.POSITIVE_INFINITY, null],
  [Number.NaN, null],
  [undefined, null],
] as const) {
  test(`a phone's time ${JSON.stringify(at) ?? "left out"} is ${ms === null ? "taken for none" : "read"}`, () => {
    assert.is(readSaidAt(at), ms);
  });
}

const hospital = await openHospital();
const host = await hospital.host("lab");
const phone = await hospital.phone();
const { vendorId, deviceToken } = phone.registration;

type Report = { uniqueId: string; status: string; at?: unknown; clientId?: string };

async function setStatus(...statuses: Report[]): Promise<{ status: number; results: [string, string][] }> {
  const answer = await fetch(`${hospital.node.run().url}/ClientMessaging/V2/SetStatus`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${deviceToken}` },
    body: JSON.stringify({ vendorId, statuses }),
  });
  const { Results = [] } = (await answer.json()) as { Results?: { UniqueId: string; Result: string }[] };
  return { status: answer.status, results: Results.map((one) => [one.UniqueId, one.Result]) };
}

async function pageGiven(): Promise<{ trackingId: string; uniqueId: string; acceptedAt: number }> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  const [accepted] = await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const page = (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId));
  return { trackingId, uniqueId: page!.UniqueId, acceptedAt: accepted!.at };
}

const eventOf = (uniqueId: string, event: string) =>
  eventually(`${event} is in the trace`, async () => {
    const { body } = await hospital.operator("GET", `/messages/${uniqueId}/trace`);
    return (body.events as unknown as { event: string; at: string; detail: string }[]).find(
      (one) => one.event === event,
    );
  });

test("the host is told when the phone says it happened, and the history keeps that beside the server's own time", async () => {
  const { trackingId, uniqueId } = await pageGiven();
  await new Promise((resolve) => setTimeout(resolve, 400));
  const readAt = Date.now() - 200;
  const sentAt = Date.now();
  await setStatus({ uniqueId, status: "READ", at: new Date(readAt).toISOString(), clientId: "1" });
  const told = await host.awaits(trackingId, "READ");
  assert.is(told.at, readAt);
  const event = await eventOf(uniqueId, "READ");
  assert.ok(Date.parse(event.at) >= sentAt, "our own time");
  assert.is(event.detail, `${vendorId}, at ${new Date(readAt).toISOString()} by its own clock`);
});

test("a phone's clock that goes ahead or far behind is held between the page's acceptance and now", async () => {
  for (const [at, bound] of [
    [new Date(Date.now() + 3_600_000).toISOString(), "now"],
    [Date.now() + 60_000, "now"],
    [8.64e15, "now"],
    [1e300, "now"],
    ["9999-12-31T23:59:59Z", "now"],
    ["2001-01-01T00:00:00Z", "accepted"],
    ["0000-01-01T00:00:00Z", "accepted"],
    [-1e300, "accepted"],
    [0, "accepted"],
    ["noon", "now"],
    [undefined, "now"],
  ] as const) {
    const { trackingId, uniqueId, acceptedAt } = await pageGiven();
    const before = Date.now();
    const { results } = await setStatus({ uniqueId, status: "ACKNOWLEDGED", at });
    const after = Date.now();
    assert.equal(results, [[uniqueId, "recorded"]], String(at));
    const told = await host.awaits(trackingId, "ACKNOWLEDGED");
    if (bound === "now") assert.ok(told.at >= before && told.at <= after, `${at}: told ${told.at}, now ${after}`);
    else assert.is(told.at, acceptedAt, String(at));
  }
});

test("what a phone says of an hour ago raises no alarm about a host that is told at once", async () => {
  const { trackingId, uniqueId } = await pageGiven();
  const sql = postgres(hospital.databaseUrl, { max: 1, onnotice: () => {} });
  await sql`update premise_core.messages set accepted_at = accepted_at - interval '1 hour' where unique_id = ${uniqueId}`;
  await setStatus({ uniqueId, status: "READ", at: Date.now() - 1_800_000 });
  // Rows are kept for half a minute after they were told.
  const [written] = await sql`select extract(epoch from now() - min(at))::integer as age from premise_core.host_outbox`;
  assert.ok(written!.age < 600, `the oldest row of the outbox seems ${written!.age} s old`);
  await sql.end();
  const told = await host.awaits(trackingId, "READ");
  assert.ok(told.at < Date.now() - 1_700_000);
});

test("results stand in the order of what was asked, known, unknown and said twice alike", async () => {
  const [one, two] = [await pageGiven(), await pageGiven()];
  const nowhere = randomUUID();
  const asked: [string, string, string][] = [
    [two.uniqueId, "READ", "recorded"],
    [nowhere, "READ", "unknown"],
    [one.uniqueId.toUpperCase(), "DELIVERED", "recorded"],
    [two.uniqueId, "DELIVERED", "repeated"],
    [one.uniqueId, "READ", "recorded"],
    [one.uniqueId, "READ", "repeated"],
    [nowhere, "ACKNOWLEDGED", "unknown"],
    [two.uniqueId, "IGNORED", "recorded"],
    [two.uniqueId, "ACKNOWLEDGED", "repeated"],
  ];
  const { results } = await setStatus(...asked.map(([uniqueId, status]) => ({ uniqueId, status })));
  assert.equal(
    results,
    asked.map(([uniqueId, , result]) => [uniqueId.toLowerCase(), result]),
  );
  await host.awaits(two.trackingId, "IGNORED");
  await host.awaits(one.trackingId, "READ");
  assert.equal(host.statuses(one.trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"]);
  assert.equal(host.statuses(two.trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "READ", "IGNORED"]);
});

test("the same clientId again, at once and later, is a repeat and tells the host nothing new", async () => {
  const { trackingId, uniqueId } = await pageGiven();
  const report = { uniqueId, status: "ACKNOWLEDGED", at: Date.now() - 1, clientId: randomUUID() };
  assert.equal((await setStatus(report, report)).results, [
    [uniqueId, "recorded"],
    [uniqueId, "repeated"],
  ]);
  const replays = await Promise.all(Array.from({ length: 10 }, () => setStatus({ ...report, at: 0 })));
  assert.ok(replays.every(({ status, results }) => status === 200 && results[0]![1] === "repeated"));
  await host.awaits(trackingId, "ACKNOWLEDGED");
  const { trackingId: last } = await pageGiven(); // whatever was to be told before is told by now
  assert.ok(host.statuses(last).includes("ENROUTE"));
  assert.equal(host.statuses(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "ACKNOWLEDGED"]);
});

test.after(() => hospital.close());
test.run();
