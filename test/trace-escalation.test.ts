/** What the trace of a page says at each step of its rule, taken by real message actors on a real database. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { UniqueId } from "../domain.ts";
import { trace } from "../persistence/trace.ts";
import { openDrivenWard } from "./helpers/driven-ward.ts";
import { MESSAGE_KEY } from "./helpers/ward.ts";

const driven = await openDrivenWard();
const { openNode, person, groupOf, toPerson, ruled, pages, hears, childrenOf, columnsOf, says, misses } = driven;
const { database } = driven.ward;
// The ward's pages get their ids by this key.
await driven.ward.sql`update premise_core.install set message_key = ${MESSAGE_KEY}`;
test.after.each(driven.endNodes);
test.after(() => driven.ward.close());

async function traced(which: string) {
  const found = await trace(database, which);
  assert.ok(found);
  return found;
}
const kinOf = async (id: UniqueId) =>
  (await traced(id)).family.map(({ uniqueId, relation, why }) => [uniqueId, relation, why]);

test("each step is foretold, seen from the page and from those it was passed on to, and ends in FAILED at its last deadline", async () => {
  const node = openNode();
  const [ada, ben, cem, dee] = [await person(), await person(), await person(), await person()];
  const rule = await ruled([
    { kind: "GROUP", groupId: await groupOf(ben, cem) },
    toPerson(dee),
    { kind: "GATEWAY", gatewayId: randomUUID(), address: "x@example.org" },
  ]);
  const id = await pages(node, ada, rule);
  await hears(id, "ENROUTE");
  const { tracking_id: trackingId } = await columnsOf(id);
  const first = await traced(id);
  assert.match(
    first.why,
    / If nobody fetches it by .* it goes to the group \S+, then to \d+, then by a gateway that is no more; then FAILED\.$/,
  );
  assert.equal([first.next!.at, first.family], [first.deadlines!.device, []]);

  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const second = await traced(id);
  assert.match(
    second.why,
    /^Passed on to the group \S+ \d s ago \(step 1 of 3 of the rule\), 0 of 2 pages fetched, none answered yet; .* If nobody answers by/,
  );
  assert.equal([second.next!.at, second.finished], [second.deadlines!.step, false]);
  const group = await childrenOf(id);
  const byFirst = "this page was passed on to it by step 1 of the rule";
  assert.equal(
    second.family.map(({ destination, relation, why }) => [destination, relation, why]),
    [ben, cem].map(({ destination }) => [destination, "child", byFirst]),
  );

  await misses(node, id, "step_deadline");
  await hears(id, "ESCALATED ESCALATED");
  const [last] = (await childrenOf(id)).filter(({ id: child }) => !group.some((one) => one.id === child));
  assert.equal((await kinOf(id)).at(-1), [last!.id, "child", "this page was passed on to it by step 2 of the rule"]);
  const child = await traced(last!.id);
  assert.match(child.why, new RegExp(`passed on from ${id} by step 2 of its rule`));
  assert.match(child.why, /the host is told FAILED\.$/);
  assert.equal(
    (await kinOf(last!.id)).map(([, relation]) => relation),
    ["parent", "sibling", "sibling"],
  );
  assert.is((await traced(String(trackingId))).uniqueId, id, "the page itself is meant by its trackingId");

  await misses(node, id, "step_deadline");
  await hears(id, "SKIPPED FAILED");
  const end = await traced(id);
  assert.match(end.why, /^Failed \d s ago: passed on, and answered by nobody in time; a phone can still fetch it/);
  assert.equal(end.events.map(({ event }) => event).slice(-4), ["ESCALATED", "ESCALATED", "SKIPPED", "FAILED"]);
  assert.is(end.finished, false, "those it was passed on to may still answer");
});

test("an answer of one it was passed on to is the page's, and ends it", async () => {
  const node = openNode();
  const [ada, ben] = [await person(), await person()];
  const id = await pages(node, ada, await ruled([toPerson(ben)]));
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const [child] = await childrenOf(id);
  await says(node, ben, child!.id, "READ");
  assert.match((await traced(id)).why, /^Passed on to \d+ .* 1 of 1 page fetched, none answered yet/);
  await says(node, ben, child!.id, "ACKNOWLEDGED");
  const { why, next, finished } = await traced(id);
  assert.match(why, new RegExp(`^Answered by ${ben.destination}, to whom it was passed on`));
  assert.equal([next, finished], [null, true]);
});

test("reminders are counted of those that the device's group allows, and the next is foretold", async () => {
  const node = openNode();
  const ada = await person();
  const id = await pages(node, ada, "Alert");
  await hears(id, "ENROUTE");
  await says(node, ada, id, "READ");
  assert.match(
    (await traced(id)).why,
    /^Read \d s ago, no answer yet.* If nobody answers by .* \(in \d+ (s|min)\), the host is told FAILED\.$/,
  );
  await driven.ward.sql`update premise_core.messages set due_at = now() - interval '1 ms' where unique_id = ${id}`;
  const due = (await driven.due(id))!;
  assert.ok(node.drive(due));
  await hears(id, "PUSH");
  assert.match(
    (await traced(id)).why,
    /^Read \d s ago, reminded 1 of 10 times, no answer yet; reminded in (60|59|58) s/,
  );
});

test.run();
