import { test } from "uvu";
import * as assert from "uvu/assert";
import type { LinkId } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import type { Database } from "../persistence/database.ts";
import { DatabaseBusy } from "../persistence/database-faults.ts";
import { changeMessages } from "../persistence/messages.ts";
import { claimNews, closeLinks, forgetNews } from "../persistence/outbox.ts";
import { recordReplies } from "../persistence/replies.ts";
import { lookAt } from "./helpers/lane.ts";
import { change, openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const { accept, history, link, receipt, recipient, statusesTold } = openPages(ward);
const lab = await ward.host("lab");

test("news waits in the lane of the link that brought the page, and goes to the next when that ends", async () => {
  const host = await ward.host("nurse-call");
  const { destination, deviceId } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, { linkId: first });
  await accept(page);
  await claimNews(database, second, host, 100);
  assert.is((await lookAt(database, second)).news.length, 0, "a living link keeps its rows");
  assert.equal(
    (await lookAt(database, first)).news.map((news) => news.status),
    ["ACCEPTED", "QUEUED"],
  );
  await closeLinks(database, [first]);
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  assert.equal(await claimNews(database, second, host, 100), { open: true, moved: 3 });
  assert.equal(
    (await lookAt(database, second)).news.map((news) => news.status),
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
  assert.is((await lookAt(database, second)).news.length, 0);
  assert.equal(await claimNews(database, first, host, 100), { open: true, moved: 2 });
  const { news } = await lookAt(database, first);
  assert.equal(
    { ...news[0], id: "", written: "", at: 0 },
    {
      id: "",
      written: "",
      at: 0,
      uniqueId: page.uniqueId,
      kind: "status",
      status: "ACCEPTED",
      replyId: null,
      reason: null,
      origin: "lab",
      source: destination,
      trackingId: page.trackingId,
      systemId: "lab",
    },
  );
  await forgetNews(database, first, news);
  assert.is((await lookAt(database, first)).news.length, 0);
});

test("a reader that goes on from its cursor sees every row, those of slow transactions too", async () => {
  const host = await ward.host("slow-writer");
  const lane = await link(host);
  const { destination } = await recipient();
  const held = pageFor(ward, host, destination, { linkId: lane });
  const seen = new Set<string>();
  const [written, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const slow = sql.begin(async (transaction) => {
    await transaction`insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      values (${lane}, ${host}, ${held.uniqueId}, 'ENROUTE', now())`;
    written.resolve();
    await released.promise;
  });
  await written.promise;
  await accept(held);
  let page = await lookAt(database, lane);
  for (const news of page.news) seen.add(news.status);
  assert.equal([...seen], ["ACCEPTED", "QUEUED"]);
  released.resolve();
  await slow;
  page = await lookAt(database, lane, { cursor: page.oldestRunning });
  for (const news of page.news) seen.add(news.status);
  assert.is(seen.has("ENROUTE"), true, "drawn earlier, visible later, and found");
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

test("a repeat tells a FAILED that still waits before what came after it", async () => {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination);
  await accept(page);
  await receipt(page.uniqueId, deviceId, "DELIVERED");
  const unanswered = { event: "FAILED", outcome: "FAILED", tell: "FAILED", detail: "not answered" } as const;
  await changeMessages(database, "node-a", [change(page.uniqueId, 3, unanswered)]);
  await receipt(page.uniqueId, deviceId, "READ");
  for (let round = 0; round < 2; round += 1) {
    await accept(page);
    const rows =
      await sql`select status, reason from premise_core.host_outbox where unique_id = ${page.uniqueId} order by id`;
    assert.equal(
      rows.map((row) => [row.status, row.reason]),
      [
        ["ACCEPTED", null],
        ["FAILED", "not answered"],
        ["READ", null],
      ],
    );
  }
  await sql`delete from premise_core.host_outbox where unique_id = ${page.uniqueId}`;
  await accept(page);
  assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "READ"], "its host has heard of it");
});

test("a repeat that cannot be answered now takes nothing from the pages beside it", async () => {
  const { destination } = await recipient();
  const [known, fresh] = [pageFor(ward, lab, destination), pageFor(ward, lab, destination)];
  await accept(known);
  const busy = new DatabaseBusy();
  let statements = 0;
  const crowded: Database = {
    ...database,
    run: (...asked) => ((statements += 1) === 1 ? database.run(...asked) : Promise.reject(busy)),
  };
  const verdicts = await acceptPages(crowded, "node-a", [known, fresh]);
  assert.equal(verdicts[0], { kind: "repeated", unanswered: busy });
  assert.is(verdicts[1]?.kind, "accepted");
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
    (await lookAt(database, lane)).news.flatMap((news) => (news.uniqueId === page.uniqueId ? [news.status] : []));
  assert.equal([await told(first), await told(second)], [[], ["ACCEPTED", "QUEUED", "DELIVERED"]]);
  assert.is((await lookAt(database, first)).news.length, 2, "the other page stays where it was");
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
  assert.is((await lookAt(database, second)).news.length, 2);
});

test("a second try of our own is no repeat where the host has brought the page over a later connection meanwhile", async () => {
  const host = await ward.host("later-link");
  const { destination } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, { linkId: first });
  await accept(page);
  await accept({ ...page, linkId: second });
  const toldBySecond = async () => (await lookAt(database, second)).news.map(({ id }) => id);
  const before = await toldBySecond();
  assert.is(before.length, 2);
  assert.equal(await accept({ ...page, retry: true }), [{ kind: "repeated" }]);
  assert.equal(await toldBySecond(), before, "what the later connection is told stays as it is");
  assert.equal((await lookAt(database, first)).news, []);
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

test.after(() => ward.close());

test("a reply whose page goes while it is read leaves what is behind it to the next page of the look", async () => {
  const host = await ward.host("slow-reader");
  const { destination, deviceId } = await recipient();
  const lane = await link(host);
  const [old, other] = [
    pageFor(ward, host, destination, { linkId: lane }),
    pageFor(ward, host, destination, { linkId: lane }),
  ];
  await accept(old);
  await recordReplies(database, "node-a", [{ uniqueId: old.uniqueId, deviceId, clientId: "1", text: "coming" }]);
  await accept(other);
  const told = async (from = database, afterId = "0") => {
    const { news, next } = await lookAt(from, lane, { afterId }, 4);
    return { next, words: news.map(({ status }) => status) };
  };
  const whole = await told();
  assert.equal(whole.words, ["ACCEPTED", "QUEUED", "READ", "REPLY"]);
  let statements = 0;
  const slow: typeof database = {
    ...database,
    async run(...args) {
      statements += 1;
      if (statements === 2) await sql`delete from premise_core.messages where unique_id = ${old.uniqueId}`;
      return database.run(...args);
    },
  };
  assert.equal(await told(slow), { next: whole.next, words: ["ACCEPTED", "QUEUED", "READ"] });
  assert.equal(await told(database, whole.next!), { next: null, words: ["ACCEPTED", "QUEUED"] });
});

test.run();
