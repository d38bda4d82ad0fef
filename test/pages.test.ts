import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, DeviceId, HostSystemId, LinkId, Receipt, UniqueId } from "../domain.ts";
import { shardOf } from "../domain.ts";
import { acceptPages, type Verdict } from "../persistence/acceptance.ts";
import { BadData } from "../persistence/database.ts";
import { type Change, changeMessages, dueMessages } from "../persistence/messages.ts";
import { claimNews, closeLinks, forgetNews, openLink, readNews } from "../persistence/outbox.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
const boot = randomUUID() as BootId;

async function accept(...pages: Parameters<typeof acceptPages>[2]): Promise<Verdict[]> {
  return acceptPages(database, "node-a", pages);
}

async function receipt(uniqueId: UniqueId, deviceId: DeviceId, kind: Receipt): Promise<string> {
  const [result] = await recordReceipts(database, "node-a", [{ uniqueId, deviceId, receipt: kind }]);
  return result!.kind;
}

async function statusesTold(uniqueId: UniqueId): Promise<string[]> {
  const rows = await sql<
    { status: string }[]
  >`select status from premise_core.host_outbox where unique_id = ${uniqueId} order by id`;
  return rows.map((row) => row.status);
}

async function history(uniqueId: UniqueId): Promise<string[]> {
  const rows = await sql<{ seq: number; event: string }[]>`
    select seq, event from premise_core.message_history where unique_id = ${uniqueId} order by seq`;
  assert.equal(
    rows.map((row) => row.seq),
    [...rows.keys()].map((index) => index + 1),
    "the history has no gap",
  );
  return rows.map((row) => row.event);
}

function change(uniqueId: UniqueId, version: number, more: Partial<Change>): Change {
  return {
    uniqueId,
    version,
    event: "WAKE",
    detail: null,
    transport: null,
    outcome: null,
    tell: null,
    wakes: false,
    due: 30_000,
    ...more,
  };
}

async function recipient(): Promise<{ destination: string; deviceId: DeviceId }> {
  const destination = `555${Math.floor(Math.random() * 1e9)}`;
  const deviceId = await ward.device(await ward.subscriber(destination));
  return { destination, deviceId };
}

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

test("the same page again is known, and its host is told ACCEPTED and the present status in place of what waited for it", async () => {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  await receipt(page.uniqueId, deviceId, "READ");
  assert.equal(await accept(page), [{ kind: "repeated" }]);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "READ"]);
  assert.equal(await history(page.uniqueId), ["ACCEPTED", "QUEUED", "READ"]);
});

test("a repeat tells FAILED with its reason while nothing came after it, and what came after it else", async () => {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  const last = async () => {
    assert.equal(await accept(page), [{ kind: "repeated" }]);
    const [row] = await sql`select status, reason from premise_core.host_outbox where unique_id = ${page.uniqueId}
      order by id desc limit 1`;
    return { ...row };
  };
  const fails = { event: "FAILED", outcome: "FAILED", tell: "FAILED", detail: "too late" } as const;
  await changeMessages(database, "node-a", [change(page.uniqueId, 2, fails)]);
  assert.equal(await last(), { status: "FAILED", reason: "too late" });
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  assert.equal(await last(), { status: "DELIVERED", reason: null });
  const second = pageFor(ward, lab, destination);
  await accept(second);
  await receipt(second.uniqueId, deviceId, "DELIVERED");
  await changeMessages(database, "node-a", [change(second.uniqueId, 3, fails)]);
  await accept(second);
  assert.equal((await statusesTold(second.uniqueId)).slice(-2), ["ACCEPTED", "FAILED"], "unanswered in time");
});

test("a repeat by another connection is answered there, and what waited for the first is told there too or not at all", async () => {
  const host = await ward.host("two-connections");
  const { destination, deviceId } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, { linkId: first });
  await accept(page, pageFor(ward, host, destination, { linkId: first }));
  assert.equal(await accept({ ...page, linkId: second }), [{ kind: "repeated" }]);
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  const told = async (lane: LinkId) =>
    (await readNews(database, lane, start, 100)).news.flatMap((news) =>
      news.uniqueId === page.uniqueId ? [news.status] : [],
    );
  assert.equal([await told(first), await told(second)], [[], ["ACCEPTED", "QUEUED", "DELIVERED"]]);
  assert.is((await readNews(database, first, start, 100)).news.length, 2, "the other page stays where it was");
});

test("our own second try of a page, after an answer was lost, tells nothing twice", async () => {
  const host = await ward.host("second-try");
  const { destination } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, { linkId: first });
  await accept(page);
  assert.equal(await accept({ ...page, retry: true }), [{ kind: "repeated" }]);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED"]);
  await accept({ ...page, retry: true, linkId: second });
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED"], "told by the second connection alone");
  assert.is((await readNews(database, second, start, 100)).news.length, 2);
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

test("two connections that bring one page at once make one message", async () => {
  const { destination } = await recipient();
  for (let round = 0; round < 20; round += 1) {
    const page = pageFor(ward, lab, destination);
    const kinds = (await Promise.all([accept(page), accept(page), accept(page)]))
      .map(([verdict]) => verdict!.kind)
      .sort();
    assert.equal(kinds, ["accepted", "repeated", "repeated"]);
    assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "QUEUED"]);
  }
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

async function link(host: HostSystemId): Promise<LinkId> {
  const id = randomUUID() as LinkId;
  await openLink(database, id, host, boot, "127.0.0.1 1");
  return id;
}

const start = { cursor: "0", afterId: "0", snapshot: null };

test("news waits in the lane of the link that brought the page, and goes to the next when that ends", async () => {
  const host = await ward.host("nurse-call");
  const { destination, deviceId } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, { linkId: first });
  await accept(page);
  await claimNews(database, second, host, 100);
  assert.is((await readNews(database, second, start, 100)).news.length, 0, "a living link keeps its rows");
  assert.equal(
    (await readNews(database, first, start, 100)).news.map((news) => news.status),
    ["ACCEPTED", "QUEUED"],
  );
  await closeLinks(database, [first]);
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  assert.equal(await claimNews(database, second, host, 100), { open: true, moved: 3 });
  assert.equal(
    (await readNews(database, second, start, 100)).news.map((news) => news.status),
    ["ACCEPTED", "QUEUED", "DELIVERED"],
  );
});

test("a link that others have ended learns so when it next asks", async () => {
  const host = await ward.host("presumed-dead");
  const ended = await link(host);
  assert.is((await claimNews(database, ended, host, 100)).open, true);
  await closeLinks(database, [ended]);
  assert.is((await claimNews(database, ended, host, 100)).open, false);
});

test("news of a host that is away waits for it, and only its oldest link takes it", async () => {
  const host = await ward.host("contact-centre");
  const { destination } = await recipient();
  const page = pageFor(ward, host, destination);
  await accept(page);
  const [first, second] = [await link(host), await link(host)];
  await claimNews(database, second, host, 100);
  assert.is((await readNews(database, second, start, 100)).news.length, 0);
  assert.equal(await claimNews(database, first, host, 100), { open: true, moved: 2 });
  const { news } = await readNews(database, first, start, 100);
  assert.equal(
    { ...news[0], id: "", written: "", at: 0 },
    {
      id: "",
      written: "",
      at: 0,
      uniqueId: page.uniqueId,
      status: "ACCEPTED",
      reason: null,
      origin: "lab",
      source: destination,
      trackingId: page.trackingId,
      systemId: "lab",
    },
  );
  await forgetNews(database, first, news);
  assert.is((await readNews(database, first, start, 100)).news.length, 0);
});

test("a reader that goes on from its cursor sees every row, those of slow transactions too", async () => {
  const host = await ward.host("slow-writer");
  const lane = await link(host);
  const { destination } = await recipient();
  const held = pageFor(ward, host, destination, { linkId: lane });
  const seen = new Set<string>();
  const slow = sql.begin(async (transaction) => {
    await transaction`insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      values (${lane}, ${host}, ${held.uniqueId}, 'ENROUTE', now())`;
    await new Promise((resolve) => setTimeout(resolve, 300));
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  await accept(held);
  let page = await readNews(database, lane, start, 100);
  for (const news of page.news) seen.add(news.status);
  assert.equal([...seen], ["ACCEPTED", "QUEUED"]);
  await slow;
  page = await readNews(database, lane, { ...start, cursor: page.oldestRunning }, 100);
  for (const news of page.news) seen.add(news.status);
  assert.is(seen.has("ENROUTE"), true, "drawn earlier, visible later, and found");
});

test.after(() => ward.close());
test.run();
