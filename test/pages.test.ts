import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, Receipt } from "../domain.ts";
import { shardOf } from "../domain.ts";
import { BadData } from "../persistence/database.ts";
import type { Device } from "../persistence/devices.ts";
import { inboxes } from "../persistence/inbox.ts";
import { changeMessages, dueMessages } from "../persistence/messages.ts";
import { change, openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
const { accept, history, receipt, recipient, statusesTold } = openPages(ward);

test("an accepted page is written with its history and what its host hears", async () => {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination);
  const [verdict] = await accept(page);
  assert.is(verdict!.kind, "accepted");
  if (verdict?.kind !== "accepted") throw new Error("not accepted");
  assert.equal(
    verdict.targets.map((target) => target.deviceId),
    [deviceId],
  );
  assert.equal(await history(page.uniqueId), ["ACCEPTED", "QUEUED"]);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED"]);
  const [row] = await sql`select shard, version, open from premise_core.messages where unique_id = ${page.uniqueId}`;
  assert.equal({ ...row }, { shard: shardOf(verdict.subscriberId), version: 2, open: true });
});

test("other content under an old trackingId is a new page, and is marked as such", async () => {
  const { destination } = await recipient();
  const first = pageFor(ward, lab, destination, { text: "first" });
  const second = pageFor(ward, lab, destination, { text: "second", trackingId: first.trackingId });
  const [one, two] = [...(await accept(first)), ...(await accept(second))];
  assert.is(one?.kind === "accepted" && one.trackingIdReused, false);
  assert.is(two?.kind === "accepted" && two.trackingIdReused, true);
  assert.is(first.uniqueId.slice(0, 18), second.uniqueId.slice(0, 18));
});

test("a page whose id collides with another's content is refused, never taken for it", async () => {
  const { destination } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  const [verdict] = await accept({ ...page, text: "something else", digest: "00".repeat(32) });
  assert.equal(verdict, { kind: "refused", reason: "digest collision" });
});

test("unknown destinations and recipients without a phone are refused beside pages that are accepted", async () => {
  const { destination } = await recipient();
  const lonely = `556${Math.floor(Math.random() * 1e9)}`;
  await ward.subscriber(lonely);
  const verdicts = await accept(
    pageFor(ward, lab, "nobody"),
    pageFor(ward, lab, destination),
    pageFor(ward, lab, lonely),
  );
  assert.equal(
    verdicts.map((verdict) => (verdict.kind === "refused" ? verdict.reason : verdict.kind)),
    ["unknown destination", "accepted", "no registered device"],
  );
});

test("a text Postgres cannot hold is bad data, not a lost connection", async () => {
  const { destination } = await recipient();
  try {
    await accept(pageFor(ward, lab, destination, { text: "before\u0000after" }));
    assert.unreachable("U+0000 was stored");
  } catch (error) {
    assert.instance(error, BadData);
  }
  assert.is(database.isUp(), true);
});

test("a change is written only while the version is the one it was decided on", async () => {
  const { destination } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  const enroute = change(page.uniqueId, 2, { event: "ENROUTE", transport: "ENROUTE", tell: "ENROUTE", detail: "n1" });
  const results = await Promise.all([1, 2, 3].map(() => changeMessages(database, "node-a", [enroute])));
  assert.is(results.filter(([written]) => written !== null).length, 1);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
});

test("ENROUTE that comes after DELIVERED is not told", async () => {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  const [late] = await changeMessages(database, "node-a", [
    change(page.uniqueId, 2, { event: "ENROUTE", transport: "ENROUTE", tell: "ENROUTE" }),
  ]);
  assert.is(late, null);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED", "DELIVERED"]);
});

test("receipts rise, may skip a rung, and are told once whatever their order", async () => {
  const { destination, deviceId } = await recipient();
  const orders: [Receipt[], string[]][] = [
    [
      ["DELIVERED", "READ", "ACKNOWLEDGED"],
      ["DELIVERED", "READ", "ACKNOWLEDGED"],
    ],
    [["READ", "DELIVERED", "READ"], ["READ"]],
    [["ACKNOWLEDGED", "READ", "DELIVERED", "IGNORED"], ["ACKNOWLEDGED"]],
    [
      ["DELIVERED", "IGNORED", "ACKNOWLEDGED"],
      ["DELIVERED", "IGNORED"],
    ],
  ];
  for (const [order, told] of orders) {
    const page = pageFor(ward, lab, destination);
    await accept(page);
    for (const kind of order) await receipt(page.uniqueId, deviceId, kind);
    assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED", ...told]);
    await history(page.uniqueId);
  }
});

test("another's device can say nothing of a page", async () => {
  const { destination } = await recipient();
  const stranger = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  assert.is(await receipt(page.uniqueId, stranger.deviceId, "READ"), "unknown");
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED"]);
});

test("each of a recipient's devices gets the page, the host hears DELIVERED once", async () => {
  const destination = `557${Math.floor(Math.random() * 1e9)}`;
  const subscriber = await ward.subscriber(destination);
  const [one, two] = [await ward.device(subscriber), await ward.device(subscriber)];
  const page = pageFor(ward, lab, destination);
  await accept(page);
  const open = async () =>
    (await sql`select open from premise_core.messages where unique_id = ${page.uniqueId}`)[0]!.open;
  assert.is(await receipt(page.uniqueId, one, "DELIVERED"), "recorded");
  assert.is(await open(), true);
  assert.is(await receipt(page.uniqueId, two, "DELIVERED"), "repeated");
  assert.is(await open(), false);
  assert.equal(await history(page.uniqueId), ["ACCEPTED", "QUEUED", "DELIVERED", "FETCHED"]);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED", "DELIVERED"]);
});

test("a page for one device goes to every other once that one is no more, and waits for each of them", async () => {
  const destination = `557${Math.floor(Math.random() * 1e9)}`;
  const subscriber = await ward.subscriber(destination);
  const named = await ward.device(subscriber);
  const [one, two] = [await ward.device(subscriber), await ward.device(subscriber)];
  const page = pageFor(ward, lab, destination, { deviceId: named });
  const [verdict] = await accept(page);
  assert.equal(verdict?.kind === "accepted" && verdict.targets.map((target) => target.deviceId), [named]);
  assert.is(await receipt(page.uniqueId, one, "DELIVERED"), "unknown");
  await sql`update premise_core.devices set state = 'REMOVED' where id = ${named}`;
  await sql`update premise_core.messages set due_at = now() where unique_id = ${page.uniqueId}`;
  const due = (await dueMessages(database, [shardOf(subscriber)], 10)).find((row) => row.uniqueId === page.uniqueId);
  assert.equal(due!.targets.map((target) => target.deviceId).sort(), [one, two].sort());
  assert.is(await receipt(page.uniqueId, one, "DELIVERED"), "recorded");
  const waiting = async (id: DeviceId) => {
    const device = { id, subscriberId: subscriber } as Device;
    return (await inboxes(database, [{ device, limit: 10 }]))[0]!.pages.map(({ uniqueId }) => uniqueId);
  };
  assert.equal([await waiting(one), await waiting(two)], [[], [page.uniqueId]]);
  assert.is(await receipt(page.uniqueId, two, "DELIVERED"), "repeated");
  assert.equal(await waiting(two), []);
});

test("FAILED does not hide a delivery or an answer that comes later", async () => {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  await changeMessages(database, "node-a", [
    change(page.uniqueId, 2, {
      event: "FAILED",
      outcome: "FAILED",
      tell: "FAILED",
      detail: "not reached",
      due: "expiry",
    }),
  ]);
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  await receipt(page.uniqueId, deviceId, "ACKNOWLEDGED");
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED", "FAILED", "DELIVERED", "ACKNOWLEDGED"]);
});

test("what is due is found by shard, most urgent first, with the devices to wake", async () => {
  const { destination, deviceId } = await recipient();
  const low = pageFor(ward, lab, destination, { priority: "low" });
  const high = pageFor(ward, lab, destination, { priority: "high" });
  const [verdict] = await accept(low);
  await accept(high);
  await sql`update premise_core.messages set due_at = now() - interval '1 second' where unique_id in ${sql([low.uniqueId, high.uniqueId])}`;
  const shard = shardOf((verdict as { subscriberId: Parameters<typeof shardOf>[0] }).subscriberId);
  const due = (await dueMessages(database, [shard], 10)).filter((message) =>
    [low.uniqueId, high.uniqueId].includes(message.uniqueId),
  );
  assert.equal(
    due.map((message) => message.uniqueId),
    [high.uniqueId, low.uniqueId],
  );
  assert.equal(
    due[0]!.targets.map((target) => target.deviceId),
    [deviceId],
  );
  assert.equal(await dueMessages(database, [], 10), []);
});

test.after(() => ward.close());
test.run();
