/** What becomes of a page that nobody fetches or answers in time, driven by real message actors on a real database. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type SubscriberId, shardOf } from "../domain.ts";
import type { RuleStep } from "../persistence/escalation-rules.ts";
import { takeSteps } from "../persistence/escalations.ts";
import { openDrivenWard } from "./helpers/driven-ward.ts";
import { eventually } from "./helpers/eventually.ts";

const driven = await openDrivenWard();
const { openNode, person, groupOf, toPerson, ruled, pages, events, details, told, hears, childrenOf, columnsOf } =
  driven;
const { says, due, sweeps, misses, dueIn } = driven;
const { database, sql, siteId } = driven.ward;
test.after.each(driven.endNodes);
test.after(() => driven.ward.close());

test("a page nobody fetches in time goes to the next person, as a page of their own under the same trackingId; their answer ends it", async () => {
  const node = openNode();
  const [ada, ben] = [await person(), await person(2)];
  const id = await pages(node, ada, await ruled([toPerson(ben)]));
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const [child, ...more] = await childrenOf(id);
  assert.equal([child!.destination, more.length], [ben.destination, 0]);
  assert.is(child!.shard, shardOf(ben.subscriberId));
  assert.is(child!.trackingId, (await columnsOf(id)).tracking_id);
  assert.is(child!.id.slice(0, 19), id.slice(0, 19), "found beside its parent");
  await hears(child!.id, "ENROUTE");
  assert.equal(await told(child!.id), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE"], "it has not failed");
  const waits = (await dueIn(id))!;
  assert.ok(waits > 195 && waits <= 200, `the step's deadline: ${waits} s`);

  await says(node, ben, child!.id, "ACKNOWLEDGED");
  await misses(node, id, "step_deadline");
  await hears(id, "ANSWERED");
  assert.equal((await told(id)).includes("FAILED"), false, "somebody has answered for it");
  assert.equal(await told(child!.id), ["ACCEPTED", "QUEUED", "ENROUTE", "ACKNOWLEDGED"]);
});

test("a page that was delivered and not answered goes to a group: each with a device, not its recipient again, one status each", async () => {
  const node = openNode();
  const [ada, ben, cem, dee] = [await person(), await person(), await person(), await person(0)];
  const group = await groupOf(ada, ben, cem, dee);
  const id = await pages(node, ada, await ruled([{ kind: "GROUP", groupId: group }, toPerson(ben)]));
  await says(node, ada, id, "DELIVERED");
  await misses(node, id, "user_deadline");
  await hears(id, "ESCALATED");
  const children = await childrenOf(id);
  assert.equal(
    children.map(({ destination }) => destination),
    [ben.destination, cem.destination],
  );
  assert.match((await details(id, "ESCALATED"))[0]!, /^step 1: group [0-9a-f-]{36}, to 2 people$/);
  for (const child of children) await hears(child.id, "ENROUTE");

  await misses(node, id, "step_deadline");
  await hears(id, "SKIPPED FAILED");
  assert.match((await details(id, "SKIPPED"))[0]!, /nobody there who has a device and not the page/);
  assert.equal((await childrenOf(id)).length, 2, "Ben has it already");
  assert.equal((await told(id)).slice(-2), ["DELIVERED", "FAILED"]);
});

test("steps that reach nobody (an empty group, oneself, somebody who is gone, a gateway that is gone) are passed over at once, each noted, and then the host hears FAILED", async () => {
  const node = openNode();
  const ada = await person();
  const nobody = { ...(await person()), subscriberId: randomUUID() as SubscriberId };
  const id = await pages(
    node,
    ada,
    await ruled([
      { kind: "GROUP", groupId: await groupOf() },
      toPerson(ada),
      toPerson(nobody),
      { kind: "GATEWAY", gatewayId: randomUUID(), address: "x@example.org" },
      { kind: "DEVICES" },
    ]),
  );
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "SKIPPED SKIPPED SKIPPED SKIPPED SKIPPED FAILED");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "FAILED"]);
  assert.equal(await childrenOf(id), []);
  assert.match((await details(id, "FAILED"))[0]!, /passed on, and answered by nobody in time/);
});

test("a process that dies between two steps leaves the next one due", async () => {
  const node = openNode();
  const [ada, ben] = [await person(), await person()];
  const id = await pages(node, ada, await ruled([toPerson(ada), toPerson(ben)]));
  await hears(id, "ENROUTE");
  const { version } = await columnsOf(id);
  const first = {
    uniqueId: id,
    version,
    number: 1,
    step: { ...toPerson(ada), waitSeconds: null } as RuleStep,
    urgent: false,
  };
  const [skipped] = await takeSteps(database, "node-lost", [first]);
  assert.is(skipped!.kind, "skipped");
  const found = await due(id);
  assert.ok(found !== undefined, "it is due at once");
  openNode("node-b").drive(found!);
  await hears(id, "SKIPPED ESCALATED");
  assert.equal(
    (await childrenOf(id)).map(({ destination }) => destination),
    [ben.destination],
  );
});

test("two owners at once take one step between them, and nobody is paged twice", async () => {
  const nodes = [openNode("node-a"), openNode("node-b"), openNode("node-c")];
  for (let round = 0; round < 5; round += 1) {
    const [ada, ben, cem] = [await person(), await person(), await person()];
    const id = await pages(
      nodes[0]!,
      ada,
      await ruled([{ kind: "GROUP", groupId: await groupOf(ben, cem) }, toPerson(ben)]),
    );
    await hears(id, "ENROUTE");
    await sql`update premise_core.messages set due_at = now(), device_deadline = now() where unique_id = ${id}`;
    const found = (await due(id))!;
    for (const node of nodes) node.drive(found);
    await hears(id, "ESCALATED");
    await eventually("all have ended", () => nodes.every((node) => node.depths().step === 0));
    const steps = (await events(id)).filter((event) => event === "ESCALATED" || event === "SKIPPED");
    assert.equal(steps, ["ESCALATED"]);
    assert.equal((await childrenOf(id)).length, 2);
  }
});

test("a page for one device of somebody goes to their others first, which are woken, and the rule goes on from there", async () => {
  const node = openNode();
  const [ada, ben] = [await person(2), await person()];
  const id = await pages(node, ada, await ruled([{ kind: "DEVICES" }, toPerson(ben)]), { deviceId: ada.devices[0]! });
  await hears(id, "ENROUTE");
  assert.equal(
    node.asked.map(({ deviceId }) => deviceId),
    [ada.devices[0]],
  );
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED PUSH");
  assert.equal(new Set(node.asked.slice(1).map(({ deviceId }) => deviceId)), new Set(ada.devices));
  await says(node, ada, id, "DELIVERED", 1);
  const { device_id: only, status } = await columnsOf(id);
  assert.equal([only, status], [null, 4]);
  await misses(node, id, "step_deadline");
  await hears(id, "ESCALATED");
  assert.equal(
    (await childrenOf(id)).map(({ destination }) => destination),
    [ben.destination],
  );
});

test("once all of somebody's devices have it, declining it brings the next step at once, and no reminder", async () => {
  const node = openNode();
  const [ada, ben] = [await person(2), await person()];
  const type = await ruled([{ kind: "DEVICES" }, toPerson(ben)], true);
  const id = await pages(node, ada, type, { deviceId: ada.devices[0]! });
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED PUSH");
  await says(node, ada, id, "IGNORED", 1);
  assert.ok((await dueIn(id))! <= 0, "due at once");
  node.drive((await due(id))!);
  await hears(id, "IGNORED ESCALATED");
  assert.is((await childrenOf(id)).length, 1);
});

test("a page that was declined is passed on at once where its site says so, whatever other devices do then; else the host decides", async () => {
  const node = openNode();
  const [ada, ben] = [await person(2), await person()];
  const declined = await pages(node, ada, await ruled([toPerson(ben)], true));
  await hears(declined, "ENROUTE");
  await says(node, ada, declined, "IGNORED");
  assert.ok((await dueIn(declined))! <= 0, "due at once");
  node.drive((await due(declined))!);
  await hears(declined, "ESCALATED");
  const waits = await dueIn(declined);
  await says(node, ada, declined, "READ", 1);
  assert.ok(Math.abs((await dueIn(declined))! - waits!) < 5, "the step's deadline stands");
  await misses(node, declined, "step_deadline");
  await hears(declined, "FAILED");
  assert.equal((await told(declined)).slice(-2), ["IGNORED", "FAILED"]);

  const left = await pages(node, ada, await ruled([toPerson(ben)], false));
  await hears(left, "ENROUTE");
  await says(node, ada, left, "IGNORED");
  await says(node, ada, left, "READ", 1);
  assert.is(await dueIn(left), null);
});

test("an answer ends the chain wherever it comes from, and one that comes after FAILED is told all the same", async () => {
  const node = openNode();
  const [ada, ben, cem] = [await person(), await person(), await person()];
  const messageType = await ruled([toPerson(ben), toPerson(cem)]);
  const id = await pages(node, ada, messageType);
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  await says(node, ada, id, "ACKNOWLEDGED");
  await sweeps(node, id);
  await hears(id, "ACKNOWLEDGED ANSWERED");
  assert.is(await dueIn(id), null, "late, and in time: nobody else is paged");

  const late = await pages(node, ada, messageType);
  await hears(late, "ENROUTE");
  await misses(node, late, "device_deadline");
  await hears(late, "ESCALATED");
  await misses(node, late, "step_deadline");
  await hears(late, "ESCALATED ESCALATED");
  await misses(node, late, "step_deadline");
  await hears(late, "FAILED");
  await says(node, ada, late, "DELIVERED");
  await says(node, ada, late, "ACKNOWLEDGED");
  assert.equal(await told(late), ["ACCEPTED", "QUEUED", "ENROUTE", "FAILED", "DELIVERED", "ACKNOWLEDGED"]);
  await sweeps(node, late);
  await hears(late, "ANSWERED");
  assert.is(await dueIn(late), null);
});

test("who was passed a page is reminded and fails by their own deadlines, and passes nothing on", async () => {
  const node = openNode();
  const [ada, ben, cem] = [await person(), await person(), await person()];
  const id = await pages(node, ada, await ruled([toPerson(ben), toPerson(cem)]));
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const child = (await childrenOf(id))[0]!.id;
  await hears(child, "ENROUTE");
  await misses(node, child, "device_deadline");
  await hears(child, "FAILED");
  assert.equal(await childrenOf(child), []);
  assert.equal((await told(id)).includes("FAILED"), false, "the page itself still has a step to go");
});

test("of a group whoever answers first settles it for the others and for the page: nobody is reminded, passed the page or told FAILED any more", async () => {
  const node = openNode();
  const [ada, ben, cem] = [await person(), await person(), await person()];
  const messageType = await ruled([{ kind: "GROUP", groupId: await groupOf(ben, cem) }]);
  const id = await pages(node, ada, messageType);
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const [first, second] = await childrenOf(id);
  for (const child of [first!, second!]) await hears(child.id, "ENROUTE");
  await says(node, cem, second!.id, "DELIVERED");
  await says(node, ben, first!.id, "ACKNOWLEDGED");
  await sweeps(node, first!.id);
  await hears(second!.id, "DELIVERED ANSWERED");
  assert.equal(await told(second!.id), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
  assert.is(await dueIn(second!.id), null);
  await hears(id, "ESCALATED ANSWERED");
  await misses(node, id, "step_deadline");
  await hears(id, "ESCALATED ANSWERED WAIT");

  // The one it was for answers late, and late is before the others.
  const late = await pages(node, ada, messageType);
  await hears(late, "ENROUTE");
  await misses(node, late, "device_deadline");
  await hears(late, "ESCALATED");
  await says(node, ada, late, "ACKNOWLEDGED");
  const children = await childrenOf(late);
  for (const child of children) await hears(child.id, "ENROUTE");
  for (const child of children) {
    // Whichever is looked at first, of all of them.
    await misses(node, child.id, "device_deadline");
    await hears(child.id, child === children[0] ? "ENROUTE ANSWERED" : "ENROUTE ANSWERED WAIT");
    assert.equal((await told(child.id)).includes("FAILED"), false);
  }
});

test("a step to a gateway leaves a row for it, with the destination in its address", async () => {
  const node = openNode();
  const ada = await person();
  const [gateway] = await sql<{ id: string }[]>`
    insert into premise_core.output_gateways (tenant_id, site_id, name, kind, settings)
    values ('default', ${siteId}, ${randomUUID()}, 'SMTP', '{}') returning id`;
  const id = await pages(
    node,
    ada,
    await ruled([{ kind: "GATEWAY", gatewayId: gateway!.id, address: "{destination}@pager.test" }]),
  );
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const rows = await sql`select address, state from premise_core.dispatches where unique_id = ${id}`;
  assert.equal([...rows], [{ address: `${ada.destination}@pager.test`, state: "STORED" }]);
  await misses(node, id, "step_deadline");
  await hears(id, "FAILED");
});

test.run();
