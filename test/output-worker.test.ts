// limit: 120 s
/** What is to leave by a gateway: sent once, tried again while there is time, told as what became of it, and never held up by another's. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openBus } from "../cluster/bus.ts";
import { SHARD_COUNT, type Shard, systemClock } from "../domain.ts";
import { addressFor } from "../gateways/mail-address.ts";
import type { Dispatch, DispatchOutcome } from "../gateways/output/gateway.ts";
import { openOutputs } from "../gateways/output/outputs.ts";
import { openOutputWorker } from "../gateways/output/worker.ts";
import { silentMeter } from "../meter.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { DISPATCHES_LANE } from "../persistence/dispatches.ts";
import { dispatchBacklog } from "../persistence/gauges.ts";
import { trace } from "../persistence/trace.ts";
import { openDispatches, TAKEN } from "./helpers/dispatches.ts";
import { eventually } from "./helpers/eventually.ts";
import { recordLog } from "./helpers/log-record.ts";
import { type MailServer, openMailServer } from "./helpers/mail-server.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
await ward.device(await ward.subscriber("5550101"));
const dispatches = openDispatches(sql, ward.siteId);
const { gateway, rowOf, stands, becomes } = dispatches;
const SHARDS = Array.from({ length: SHARD_COUNT }, (_, n) => n as Shard);

const ends: (() => Promise<unknown>)[] = [];
test.after.each(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await sql`truncate premise_core.dispatches, premise_core.output_gateways`;
});
test.after(() => ward.close());

async function mailServer(): Promise<MailServer> {
  const server = await openMailServer();
  ends.push(server.close);
  return server;
}

/** A page that somebody is to be told of. */
async function passOn(gatewayId: string, more: Parameters<typeof dispatches.passOn>[2] = {}) {
  const page = pageFor(ward, lab, "5550101");
  await acceptPages(database, "node-a", [page]);
  return dispatches.passOn(gatewayId, page.uniqueId, more);
}

/** A node's ways out; with what its operator reads. */
function node(shards: readonly Shard[] = SHARDS) {
  const { log, lines } = recordLog();
  const bus = openBus(null, { log });
  const counted: string[] = [];
  const meter = {
    ...silentMeter,
    count: (metric: string, labels: object = {}) => void counted.push([metric, ...Object.values(labels)].join(" ")),
  };
  const ports = { premise: database, membership: { shards: () => shards }, bus, log, meter, clock: systemClock };
  return { lines, bus, counted, ports };
}
async function openNode(shards?: readonly Shard[]) {
  const own = node(shards);
  const outputs = await openOutputs({ secretsDir: null }, own.ports);
  ends.push(outputs.close);
  return { ...own, outputs };
}

test("what is due is sent, written down and told in the page's trace", async () => {
  const server = await mailServer();
  const sent = await passOn(await gateway("Desk", server.port));
  const { counted, lines } = await openNode();
  await becomes(sent, `SENT 1 ${TAKEN}`);
  const { done_at, claimed_until } = (await rowOf(sent))!;
  assert.ok(done_at !== null && claimed_until === null);
  assert.equal(server.mails.length, 1);
  assert.match(server.mails[0]!.headers["message-id"]!, sent.id);
  const { events } = (await trace(database, sent.uniqueId))!;
  assert.equal(
    events.filter(({ event }) => event.startsWith("GATEWAY")).map(({ event, detail }) => `${event}: ${detail}`),
    ["GATEWAY ASKED: Desk (SMTP)", "GATEWAY SENT: Desk (SMTP), attempt 1, 250 2.0.0 queued as 4XyZ1"],
  );
  assert.equal(counted, ["dispatches SMTP sent 250"]);
  assert.equal(
    lines.filter(({ level }) => level === "warn" || level === "error"),
    [],
  );
});

test("a hint makes a node look, at once and each time", async () => {
  let looks = 0;
  const own = node();
  const premise: typeof database = {
    ...database,
    run(build, deadlineMs, urgent) {
      looks += 1;
      return database.run(build, deadlineMs, urgent);
    },
  };
  const outputs = await openOutputs({ secretsDir: null }, { ...own.ports, premise });
  ends.push(outputs.close);
  // Without them ten looks take ten seconds.
  const hinted = async () => {
    own.bus.publish(DISPATCHES_LANE);
    return looks >= 10;
  };
  await eventually("it has looked ten times", hinted, 8_000);
});

test("many nodes at once send each mail once", async () => {
  const server = await mailServer();
  const desk = await gateway("Desk", server.port);
  const all = await Promise.all(Array.from({ length: 40 }, () => passOn(desk)));
  await Promise.all(Array.from({ length: 4 }, () => openNode()));
  await eventually("all are sent", async () => (await dispatchBacklog(database)).rows === 0, 30_000);
  const ids = server.mails.map(({ headers }) => headers["message-id"]!.slice(1, 37));
  assert.equal(ids.sort(), all.map(({ id }) => id).sort());
});

test("twenty gateways whose servers hang leave places for one whose server answers", async () => {
  const [hangs, well] = [await mailServer(), await mailServer()];
  hangs.ails("hangs");
  for (let n = 0; n < 20; n += 1) {
    const desk = await gateway(`Hangs ${n}`, hangs.port);
    for (let page = 0; page < 4; page += 1) await passOn(desk);
  }
  await openNode();
  await eventually("each is asked", () => hangs.open() >= 20, 20_000);
  const desk = await gateway("Desk", well.port);
  const all = await Promise.all(Array.from({ length: 12 }, () => passOn(desk)));
  for (const sent of all) await becomes(sent, `SENT 1 ${TAKEN}`);
});

/** As after so many tries in vain: the next would be half a minute later and more. */
async function tried(of: { id: string }): Promise<void> {
  await sql`update premise_core.dispatches set attempts = 8 where id = ${of.id}`;
}

test("greylisted it is tried again later, and the trace says when", async () => {
  const server = await mailServer();
  server.answers({ "RCPT TO": [451] });
  const sent = await passOn(await gateway("Desk", server.port));
  await tried(sent);
  const { counted } = await openNode();
  await becomes(sent, "STORED 9 451 4.7.1");
  const { due_at, claimed_until } = (await rowOf(sent))!;
  assert.ok(due_at.getTime() > Date.now() && claimed_until === null);
  const { events } = (await trace(database, sent.uniqueId))!;
  assert.match(
    events.find(({ event }) => event === "GATEWAY RETRIED")!.detail!,
    /^Desk \(SMTP\), attempt 9, 451 4\.7\.1, again at /,
  );
  assert.ok((await dispatchBacklog(database)).oldestSeconds > 0);
  await sql`update premise_core.dispatches set due_at = now()`;
  await becomes(sent, `SENT 10 ${TAKEN}`);
  assert.equal(counted, ["dispatches SMTP retried 451", "dispatches SMTP sent 250"]);
  assert.is(server.mails.length, 1);
});

test("a mail that will never be taken is refused at once, and an operator told, without its address", async () => {
  const server = await mailServer();
  server.answers({ "RCPT TO": [550] });
  const sent = await passOn(await gateway("Desk", server.port));
  const { lines, counted } = await openNode();
  await becomes(sent, "REFUSED 1 550 5.1.1");
  const told = lines.filter(({ level }) => level === "error");
  assert.equal(told.length, 1);
  assert.equal([told[0]!.fields.gateway, told[0]!.fields.code], ["Desk", "550 5.1.1"]);
  assert.not.match(JSON.stringify(lines), "@");
  assert.equal(counted, ["dispatches SMTP refused 550"]);
});

test("what no try could make in time ends as EXPIRED, with what was said last", async () => {
  const gone = await gateway("Gone");
  const [soon, past] = [await passOn(gone, { seconds: 25 }), await passOn(gone, { seconds: -1 })];
  await tried(soon);
  await openNode();
  await becomes(past, "EXPIRED 0 null");
  await becomes(soon, "EXPIRED 9 connection-refused");
});

test("an address that no mail can go to is refused, and one by the destination is made of the page's", async () => {
  const server = await mailServer();
  const desk = await gateway("Desk", server.port);
  const bad = await passOn(desk, { address: "desk@hospital.example, other@evil.example" });
  const made = await passOn(desk, { address: "{destination}@pager.example" });
  await openNode();
  await becomes(bad, "REFUSED 1 bad-address");
  await becomes(made, `SENT 1 ${TAKEN}`);
  assert.equal(
    server.mails.map(({ to }) => to),
    [["5550101@pager.example"]],
  );
});

test("nobody is told of a page that has been answered, recalled or deleted meanwhile", async () => {
  const server = await mailServer();
  const desk = await gateway("Desk", server.port);
  const [answered, replied, recalled, deleted, chat, family] = await Promise.all(
    Array.from({ length: 6 }, () => passOn(desk)),
  );
  await sql`update premise_core.messages set answer = 'ACKNOWLEDGED' where unique_id = ${answered!.uniqueId}`;
  await sql`update premise_core.messages set replied_at = now() where unique_id = ${replied!.uniqueId}`;
  await sql`update premise_core.messages set outcome = 'RECALLED' where unique_id = ${recalled!.uniqueId}`;
  await sql`delete from premise_core.messages where unique_id = ${deleted!.uniqueId}`;
  await sql`update premise_core.messages set status = 4, fetched_by = array[gen_random_uuid()], timeout_user = null where unique_id = ${chat!.uniqueId}`;
  // Somebody it was passed on to has answered.
  const child = await passOn(desk);
  await sql`update premise_core.messages set step = 1 where unique_id = ${family!.uniqueId}`;
  await sql`update premise_core.messages set parent_id = ${family!.uniqueId}, answer = 'ACKNOWLEDGED' where unique_id = ${child.uniqueId}`;
  const { counted, lines } = await openNode();
  for (const each of [answered, replied, recalled, deleted, chat, family, child])
    await becomes(each!, "EXPIRED 0 settled");
  assert.equal(server.sessions(), 0);
  assert.equal(counted, Array(7).fill("dispatches SMTP settled settled"));
  assert.equal(
    lines.filter(({ level }) => level === "error"),
    [],
  );
});

test("a page that was declined, or only fetched, is still told of: its rule may be for just that", async () => {
  const server = await mailServer();
  const desk = await gateway("Desk", server.port);
  const [declined, fetched] = [await passOn(desk), await passOn(desk)];
  await sql`update premise_core.messages set answer = 'IGNORED' where unique_id = ${declined.uniqueId}`;
  await sql`update premise_core.messages set status = 5 where unique_id = ${fetched.uniqueId}`;
  await openNode();
  for (const each of [declined, fetched]) await becomes(each, `SENT 1 ${TAKEN}`);
});

test("a server that hangs holds up nothing of another gateway, however much waits for it", async () => {
  const [hanging, well] = [await mailServer(), await mailServer()];
  hanging.ails("silent");
  const [dead, desk] = [await gateway("Dead", hanging.port), await gateway("Desk", well.port)];
  await sql`insert into premise_core.dispatches (id, unique_id, gateway_id, address, expires_at)
    select gen_random_uuid(), gen_random_uuid(), ${dead}, 'a@b.example', now() + interval '1 hour' from generate_series(1, 500)`;
  // With a page each, or nobody would be told of them.
  const waiting = pageFor(ward, lab, "5550101");
  await acceptPages(database, "node-a", [waiting]);
  await sql`update premise_core.dispatches set unique_id = ${waiting.uniqueId}`;
  await openNode();
  await eventually("it is at the one that hangs", () => hanging.sessions() === 1);
  const good = await Promise.all(Array.from({ length: 10 }, () => passOn(desk)));
  for (const each of good) await becomes(each, `SENT 1 ${TAKEN}`);
  assert.ok(hanging.open() <= 1, "one place, for as long as it has not answered");
});

test("a node that drives no pages sends none, and one that closes gives back what it has not sent", async () => {
  const server = await mailServer();
  const desk = await gateway("Desk", server.port);
  const sent = await passOn(desk);
  await openNode([]);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.is(await stands(sent), "STORED 0 null");
  server.ails("silent");
  const { outputs } = await openNode();
  await eventually("it is at it", () => server.sessions() === 1);
  await outputs.close();
  assert.is(await stands(sent), "STORED 1 no-answer");
  server.ails("well");
  await openNode();
  await becomes(sent, `SENT 2 ${TAKEN}`);
});

test("what came of a mail is written down also where the database was away at that moment", async () => {
  const server = await mailServer();
  const sent = await passOn(await gateway("Desk", server.port));
  let away = 0;
  const own = node();
  const outputs = await openOutputs(
    { secretsDir: null },
    {
      ...own.ports,
      premise: {
        ...database,
        async run(build, deadlineMs, urgent) {
          if (server.mails.length > 0 && away < 3) {
            away += 1;
            throw new Error("away");
          }
          return database.run(build, deadlineMs, urgent);
        },
      },
    },
  );
  ends.push(outputs.close);
  await becomes(sent, `SENT 1 ${TAKEN}`);
  assert.equal([away, server.mails.length], [3, 1]);
});

test("a gateway whose code throws costs its dispatch a claim, and no other anything", async () => {
  const [a, b] = [await gateway("A"), await gateway("B")];
  const [bad, good] = [await passOn(a), await passOn(b)];
  const { lines, ports } = node();
  const send = async (_settings: unknown, { id }: Dispatch): Promise<DispatchOutcome> => {
    if (id === bad.id) throw new Error("a fault of ours");
    return { kind: "accepted", code: "250", providerId: null };
  };
  const worker = openOutputWorker(
    { SMTP: { addressFor, prepare: async () => {}, send } },
    { ...ports, random: () => 0.5 },
  );
  ends.push(worker.close);
  await becomes(good, "SENT 1 250");
  assert.is(await stands(bad), "STORED 0 null");
  assert.ok(lines.some(({ event }) => event.startsWith("dispatch interrupted")));
  assert.is(worker.loop.failingSince(), null);
});

test.run();
