/** Rows of what is to leave by a gateway: claimed once, a gateway's share at a time, ended once, and kept for a week. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { acceptPages } from "../persistence/acceptance.ts";
import { claimDispatches, recordDispatches } from "../persistence/dispatches.ts";
import { dispatchBacklog } from "../persistence/gauges.ts";
import { deleteEndedDispatches, endLostDispatches } from "../persistence/retention.ts";
import { trace } from "../persistence/trace.ts";
import { openDispatches } from "./helpers/dispatches.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
await ward.device(await ward.subscriber("5550101"));
const dispatches = openDispatches(sql, ward.siteId);
const { gateway, rowOf, stands } = dispatches;

test.after.each(async () => {
  await sql`truncate premise_core.dispatches, premise_core.output_gateways`;
});
test.after(() => ward.close());

/** A page that somebody is to be told of. */
async function passOn(gatewayId: string, more: Parameters<typeof dispatches.passOn>[2] = {}) {
  const page = pageFor(ward, lab, "5550101");
  await acceptPages(database, "node-a", [page]);
  return dispatches.passOn(gatewayId, page.uniqueId, more);
}

const slots = (...answering: string[]) => ({ answering, each: 4 });

test("an outcome that comes when another has been written down changes nothing", async () => {
  const sent = await passOn(await gateway("Desk"));
  const [late] = await claimDispatches(database, slots(), [], 10);
  assert.equal(await claimDispatches(database, slots(), [], 10), [], "it is claimed");
  await sql`update premise_core.dispatches set claimed_until = now() - interval '1 second'`;
  const [again] = await claimDispatches(database, slots(), [], 10);
  assert.is(again!.id, sent.id);
  const outcome = { code: null, tried: true, retryMs: 60_000 };
  const record = (attempts: number, state: "SENT" | "STORED" | "REFUSED") =>
    recordDispatches(database, [{ id: sent.id, attempts, state, ...outcome }]);
  assert.equal(await record(again!.attempts, "STORED"), [true]);
  assert.equal(await record(late!.attempts, "SENT"), [false]);
  assert.equal(await record(1, "SENT"), [true]);
  assert.equal(await record(1, "REFUSED"), [false]);
  assert.equal(await record(2, "REFUSED"), [false]);
  assert.is(await stands(sent), "SENT 2 null");
});

test("a claim takes the oldest of each gateway, no more than it has places", async () => {
  const [a, b] = [await gateway("A"), await gateway("B")];
  const old = await passOn(a);
  await sql`update premise_core.dispatches set due_at = now() - interval '1 minute'`;
  for (let n = 0; n < 5; n += 1) await passOn(a);
  await passOn(b);
  const claimed = await claimDispatches(database, slots(a, b), [a, a, a, b], 10);
  assert.equal(claimed.map(({ gateway }) => gateway.name).sort(), ["A", "B"]);
  assert.ok(claimed.some(({ id }) => id === old.id));
  assert.equal(await claimDispatches(database, slots(a, b), [a, a, a, a, b, b, b, b], 10), []);
  assert.is((await claimDispatches(database, slots(a, b), [], 3)).length, 3);
});

test("of one gateway the urgent leave first, whatever has waited for longer, and one alone while its server has not answered", async () => {
  const desk = await gateway("Desk");
  const all = [];
  for (const priority of ["low", "medium", "high", "high"] as const) all.push(await passOn(desk, { priority }));
  const [low, medium, high, later] = all.map(({ id }) => id);
  const claims = async (more: readonly string[], flying: number) =>
    (await claimDispatches(database, slots(...more), Array(flying).fill(desk), 10)).map(({ id }) => id).sort();
  assert.equal(await claims([], 0), [high]);
  assert.equal(await claims([], 1), []);
  assert.equal(await claims([desk], 2), [later, medium].sort());
  assert.equal(await claims([desk], 3), [low]);
});

test("what is over goes after a week; what has no gateway any more is ended, not forgotten", async () => {
  const desk = await gateway("Desk");
  const [old, fresh, lost, waiting] = [
    await passOn(desk),
    await passOn(desk),
    await passOn(randomUUID()),
    await passOn(desk),
  ];
  await sql`update premise_core.dispatches set state = 'SENT', done_at = now() - interval '8 days' where id = ${old.id}`;
  await sql`update premise_core.dispatches set state = 'SENT', done_at = now() - interval '6 days' where id = ${fresh.id}`;
  const { rows, failed } = await dispatchBacklog(database);
  assert.equal([rows, failed], [2, 0]);
  assert.equal([await endLostDispatches(database), await deleteEndedDispatches(database)], [1, 1]);
  assert.is(await stands(old), "gone");
  assert.is(await stands(lost), "REFUSED 0 no-gateway");
  assert.is((await dispatchBacklog(database)).failed, 1);
  assert.is((await rowOf(fresh))?.state, "SENT");
  assert.is(await stands(waiting), "STORED 0 null");
  const { events } = (await trace(database, lost.uniqueId))!;
  assert.is(events.find(({ event }) => event === "GATEWAY REFUSED")!.detail, "a gateway that was removed, no-gateway");
});

test.run();
