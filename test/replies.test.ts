/** Replies in the database: what one changes, what is refused, and that no race or repeat makes two of one. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, UniqueId } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { changeMessages } from "../persistence/messages.ts";
import { claimNews, closeLinks, forgetNews, type News } from "../persistence/outbox.ts";
import { faultOf, REPLIES_MAX, REPLY_CHARACTERS, type ReplyEntry, recordReplies } from "../persistence/replies.ts";
import { deleteEndedPages } from "../persistence/retention.ts";
import { lookAt } from "./helpers/lane.ts";
import { change, openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const { accept, history, link, receipt, recipient, statusesTold } = openPages(ward);
const lab = await ward.host("lab");
test.after(() => ward.close());

const CHOICES = ["Yes", "No, call me"];

type Given = { uniqueId: UniqueId; deviceId: DeviceId; destination: string };
async function pageGiven(more: Parameters<typeof pageFor>[3] = {}): Promise<Given> {
  const { destination, deviceId } = await recipient();
  const page = pageFor(ward, lab, destination, { responseChoices: CHOICES, ...more });
  await accept(page);
  return { uniqueId: page.uniqueId, deviceId, destination };
}

const entry = ({ uniqueId, deviceId }: Given, more: Partial<ReplyEntry> = {}): ReplyEntry => ({
  ...{ uniqueId, deviceId, clientId: randomUUID() },
  ...(more.choice === undefined ? { text: "On my way" } : {}),
  ...more,
});
async function reply(entry: ReplyEntry, node = "node-a"): Promise<string> {
  const [result] = await recordReplies(database, node, [entry]);
  return result!.kind === "refused" ? result!.reason : result!.kind;
}
const row = async (uniqueId: UniqueId) =>
  (
    await sql`select *, due_at = expires_at as due_at_expiry from premise_core.messages where unique_id = ${uniqueId}`
  )[0]!;
const repliesTo = (uniqueId: UniqueId) =>
  sql`select body, choice, device_id from premise_core.replies where unique_id = ${uniqueId} order by at`;

test("a reply raises its page to READ, tells the host so and then itself, and leaves nothing due", async () => {
  const given = await pageGiven();
  assert.is(await reply(entry(given)), "recorded");
  assert.equal(await statusesTold(given.uniqueId), ["ACCEPTED", "QUEUED", "READ", "REPLY"]);
  assert.equal(await history(given.uniqueId), ["ACCEPTED", "QUEUED", "READ", "REPLY"]);
  const page = await row(given.uniqueId);
  assert.equal([page.status, page.told, page.open, page.due_at, page.user_deadline], [5, "READ", false, null, null]);
  assert.ok(page.replied_at instanceof Date);
  assert.equal(page.fetched_by, [given.deviceId]);
  assert.is(page.version, 4);
  const [{ detail } = { detail: "" }] = await sql<{ detail: string }[]>`
    select detail from premise_core.message_history where unique_id = ${given.uniqueId} and event = 'REPLY'`;
  assert.match(detail, new RegExp(`^${given.deviceId} [0-9a-f-]{36}$`));
});

test("DELIVERED, READ and the reply go in that order, and a second reply by itself", async () => {
  const given = await pageGiven();
  await receipt(given.uniqueId, given.deviceId, "DELIVERED");
  const { due_at: reminder } = await row(given.uniqueId);
  assert.ok(reminder !== null, "an answer is waited for");
  await reply(entry(given));
  const { replied_at: first } = await row(given.uniqueId);
  await reply(entry(given, { choice: "No, call me" }));
  assert.equal(await statusesTold(given.uniqueId), ["ACCEPTED", "QUEUED", "DELIVERED", "READ", "REPLY", "REPLY"]);
  assert.equal((await row(given.uniqueId)).replied_at, first, "the first one's time stays");
  assert.equal(
    (await repliesTo(given.uniqueId)).map((one) => [one.body, one.choice]),
    [
      ["On my way", false],
      ["No, call me", true],
    ],
  );
  assert.is(await receipt(given.uniqueId, given.deviceId, "ACKNOWLEDGED"), "recorded", "an answer is still one");
});

test("while another device has yet to fetch the page, a reply leaves it due at its expiry, and that device's fetch nothing", async () => {
  const given = await pageGiven();
  const [{ subscriber_id } = { subscriber_id: "" }] = await sql`
    select subscriber_id from premise_core.devices where id = ${given.deviceId}`;
  const other = await ward.device(subscriber_id);
  await receipt(given.uniqueId, given.deviceId, "DELIVERED");
  await reply(entry(given));
  let page = await row(given.uniqueId);
  assert.equal([page.open, page.due_at_expiry, page.user_deadline], [true, true, null]);
  await receipt(given.uniqueId, other, "DELIVERED");
  page = await row(given.uniqueId);
  assert.equal([page.open, page.due_at], [false, null], "nobody is reminded of what was answered");
});

test("the phone's time of a reply is told, held between the page's acceptance and now", async () => {
  for (const [saidAt, bound] of [
    [Date.now() - 3_600_000, "accepted"],
    [Date.now() + 3_600_000, "now"],
    [-1e300, "accepted"],
    [1e300, "now"],
  ] as const) {
    const given = await pageGiven();
    await reply(entry(given, { saidAt }));
    const [told] = await sql`
      select said_at, at, (select accepted_at from premise_core.messages where unique_id = ${given.uniqueId}) as accepted
      from premise_core.host_outbox where unique_id = ${given.uniqueId} and status = 'REPLY'`;
    const ms = told!.said_at.getTime();
    if (bound === "accepted") assert.is(ms, told!.accepted.getTime());
    else assert.ok(Math.abs(ms - told!.at.getTime()) < 1_000, `${saidAt}: ${ms}`);
  }
});

test("the same clientId is the same reply, whatever it says the second time; another device's is its own", async () => {
  const given = await pageGiven();
  const [{ subscriber_id } = { subscriber_id: "" }] = await sql`
    select subscriber_id from premise_core.devices where id = ${given.deviceId}`;
  const other = await ward.device(subscriber_id);
  const first = entry(given, { clientId: "1" });
  assert.is(await reply(first), "recorded");
  assert.is(await reply(first, "node-b"), "repeated");
  assert.is(await reply({ ...first, text: "something else" }), "repeated");
  assert.is(await reply({ ...first, deviceId: other }), "recorded");
  assert.is((await repliesTo(given.uniqueId)).length, 2);
  assert.equal(await statusesTold(given.uniqueId), ["ACCEPTED", "QUEUED", "READ", "REPLY", "REPLY"]);
});

test("twenty nodes that are given the same reply at once write it once", async () => {
  for (let round = 0; round < 20; round += 1) {
    const given = await pageGiven();
    const same = entry(given);
    const kinds = await Promise.all(Array.from({ length: 20 }, (_, node) => reply(same, `node-${node}`)));
    assert.is(kinds.filter((kind) => kind === "recorded").length, 1);
    assert.is(kinds.filter((kind) => kind === "repeated").length, 19);
    assert.equal(await history(given.uniqueId), ["ACCEPTED", "QUEUED", "READ", "REPLY"]);
    assert.equal(await statusesTold(given.uniqueId), ["ACCEPTED", "QUEUED", "READ", "REPLY"]);
  }
});

test("replies, receipts and answers of one page at once are all written, each once, without a gap", async () => {
  for (let round = 0; round < 10; round += 1) {
    const given = await pageGiven();
    const { uniqueId, deviceId } = given;
    await Promise.all([
      ...Array.from({ length: 5 }, (_, n) => reply(entry(given, { clientId: String(n) }))),
      receipt(uniqueId, deviceId, "DELIVERED"),
      receipt(uniqueId, deviceId, "READ"),
      receipt(uniqueId, deviceId, "ACKNOWLEDGED"),
    ]);
    const told = await statusesTold(uniqueId);
    const count = (word: string) => told.filter((one) => one === word).length;
    assert.equal(["REPLY", "ACKNOWLEDGED"].map(count), [5, 1]);
    assert.ok(count("READ") <= 1 && count("DELIVERED") <= 1);
    assert.ok(!told.includes("READ") || told.indexOf("READ") < told.indexOf("REPLY"), told.join());
    await history(uniqueId);
    const page = await row(uniqueId);
    assert.equal([page.status, page.answer, page.due_at, page.open], [5, "ACKNOWLEDGED", null, false]);
  }
});

test("a batch answers each of its entries, in their order", async () => {
  const [one, two, three] = [await pageGiven(), await pageGiven(), await pageGiven()];
  const stranger = await recipient();
  const repeated = entry(three);
  await reply(repeated);
  const nowhere = { ...one, uniqueId: randomUUID() as UniqueId };
  const results = await recordReplies(database, "node-a", [
    entry(two, { choice: "Maybe" }),
    entry(nowhere),
    entry(one, { choice: "Yes" }),
    repeated,
  ]);
  assert.equal(
    results.map((result) => result.kind),
    ["refused", "unknown", "recorded", "repeated"],
  );
  assert.is(await reply(entry({ ...two, deviceId: stranger.deviceId })), "unknown", "another person's device");
});

test("a page that is for another of the recipient's devices is unknown to this one", async () => {
  const { destination, deviceId } = await recipient();
  const [{ subscriber_id } = { subscriber_id: "" }] = await sql`
    select subscriber_id from premise_core.devices where id = ${deviceId}`;
  const other = await ward.device(subscriber_id);
  const page = pageFor(ward, lab, destination, { deviceId });
  await accept(page);
  const given = { uniqueId: page.uniqueId, deviceId, destination };
  assert.is(await reply(entry({ ...given, deviceId: other })), "unknown");
  assert.is(await reply(entry(given)), "recorded");
});

for (const outcome of ["FAILED", "EXPIRED", "RECALLED"] as const) {
  test(`a reply to a page that is ${outcome} is told all the same`, async () => {
    const given = await pageGiven();
    await sql`
      update premise_core.messages set outcome = ${outcome}, outcome_reason = 'x', told = 'FAILED', open = ${outcome === "FAILED"},
        due_at = case when ${outcome === "FAILED"} then expires_at end
      where unique_id = ${given.uniqueId}`;
    assert.is(await reply(entry(given)), "recorded");
    assert.equal((await statusesTold(given.uniqueId)).slice(-2), ["READ", "REPLY"]);
    const page = await row(given.uniqueId);
    assert.equal([page.outcome, page.due_at, page.open], [outcome, null, false]);
  });
}

test("a driver that had claimed a step finds the page moved on by a reply", async () => {
  const given = await pageGiven();
  const [claimed] = await changeMessages(database, "node-a", [change(given.uniqueId, 2, { wakes: true })]);
  await reply(entry(given));
  const late = change(given.uniqueId, claimed!.version, { event: "FAILED", outcome: "FAILED", tell: "FAILED" });
  assert.equal(await changeMessages(database, "node-a", [late]), [null]);
});

test(`${REPLIES_MAX} replies of a device to a page are taken, and no more; another page's and a repeat are`, async () => {
  const given = await pageGiven();
  for (let n = 0; n < REPLIES_MAX; n += 1) assert.is(await reply(entry(given, { clientId: String(n) })), "recorded");
  assert.is(await reply(entry(given)), "many");
  assert.is(await reply(entry(given, { clientId: "7" })), "repeated");
  assert.is(await reply(entry({ ...(await pageGiven()) })), "recorded");
});

test("a choice is one of the page's, to the letter", async () => {
  const given = await pageGiven();
  for (const choice of ["yes", " Yes", "No", "", "Yesx"])
    assert.is(await reply(entry(given, { choice })), "choice", choice);
  assert.is(await reply(entry(await pageGiven({ responseChoices: [] }), { choice: "Yes" })), "choice");
  for (const choice of CHOICES) assert.is(await reply(entry(given, { choice })), "recorded");
});

for (const [what, words, fault] of [
  ["neither text nor choice", {}, "form"],
  ["both", { text: "a", choice: "a" }, "form"],
  ["an empty text", { text: "" }, "text"],
  ["a blank text", { text: " \n\t " }, "text"],
  ["U+0000", { text: "a\0b" }, "text"],
  ["a control character", { text: "a\u0007" }, "text"],
  ["U+FFFE", { text: "a\uFFFE" }, "text"],
  ["U+FFFF", { text: "\uFFFF" }, "text"],
  ["half a pair", { text: "a\uD83D" }, "text"],
  ["the other half", { text: "\uDE00a" }, "text"],
  ["pairs the wrong way round", { text: "\uDE00\uD83D" }, "text"],
  ["a character too many", { text: "a".repeat(REPLY_CHARACTERS + 1) }, "text"],
  ["a pair too many", { text: "😀".repeat(REPLY_CHARACTERS + 1) }, "text"],
  ["a very long one", { text: "a".repeat(1e6) }, "text"],
  ["the longest", { text: "a".repeat(REPLY_CHARACTERS) }, null],
  ["the longest of pairs", { text: "😀".repeat(REPLY_CHARACTERS) }, null],
  ["line ends and tabs", { text: "a\r\n\tb\u0085\u2028" }, null],
  ["markup", { text: "<![CDATA[]]></textMessage>&amp;\u202E" }, null],
  ["a choice of anything", { choice: "\uFFFF" }, null],
] as const) {
  test(`a reply of ${what} is ${fault === null ? "well-formed" : `refused for its ${fault}`}`, () => {
    assert.is(faultOf(words), fault);
  });
}

test("what the host is to hear of a reply is read with the page's own names, and goes and is forgotten like any news", async () => {
  const host = await ward.host("nurse-call");
  const { destination, deviceId } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, {
    ...{ linkId: first, conversationId: "C-7", hostSiteId: "S-1", fromId: "-44", priority: "low" },
  });
  await acceptPages(database, "node-a", [page]);
  const given = { uniqueId: page.uniqueId, deviceId, destination };
  await reply(entry(given, { text: "one", clientId: "1" }));
  await reply(entry(given, { text: "two", clientId: "2" }));
  await closeLinks(database, [first]);
  assert.equal(await claimNews(database, second, host, 100), { open: true, moved: 5 });
  const { news } = await lookAt(database, second);
  const replies = news.filter((one): one is News & { kind: "reply" } => one.kind === "reply");
  assert.equal(
    news.map(({ status }) => status),
    ["ACCEPTED", "QUEUED", "READ", "REPLY", "REPLY"],
  );
  assert.equal(replies[0]!.reply, {
    ...{ text: "one", destination, name: "Dr Test", toId: "-44", deviceId: null, conversationId: "C-7", siteId: "S-1" },
    priority: "low",
  });
  // After a failover another primary may give the number of one reply to another.
  await forgetNews(database, second, [{ ...replies[0]!, replyId: replies[1]!.replyId }]);
  assert.is((await lookAt(database, second)).news.length, 5);
  await forgetNews(database, second, [replies[0]!]);
  const left = (await lookAt(database, second)).news;
  assert.equal(
    left.flatMap((one) => (one.kind === "reply" ? [one.reply.text] : [])),
    ["two"],
  );
});

test("a page brought again is answered with where it stands, and every reply that waits behind it, by the connection that brought it", async () => {
  const host = await ward.host("forgetful");
  const { destination, deviceId } = await recipient();
  const [first, second] = [await link(host), await link(host)];
  const page = pageFor(ward, host, destination, { linkId: first });
  await accept(page);
  const given = { uniqueId: page.uniqueId, deviceId, destination };
  for (const clientId of ["1", "2", "3"]) await reply(entry(given, { clientId, text: clientId, saidAt: Date.now() }));
  for (let round = 0; round < 2; round += 1) {
    assert.equal(await accept({ ...page, linkId: second }), [{ kind: "repeated" }]);
    assert.equal(await statusesTold(page.uniqueId), ["ACCEPTED", "READ", "REPLY", "REPLY", "REPLY"]);
  }
  const { news } = await lookAt(database, second);
  assert.equal(
    news.flatMap((one) => (one.kind === "reply" ? [one.reply.text] : [])),
    ["1", "2", "3"],
  );
});

test("while a node of the version before is about, a reply is put off, and taken once that is gone", async () => {
  const given = await pageGiven();
  const known = entry(given);
  await reply(known);
  const [old] = await sql`
    insert into premise_core.nodes (boot, name, address, state, lock_key, lease_until)
    values (gen_random_uuid(), 'old', '', 'LIVE', 1, now() + interval '1 hour') returning boot`;
  const fresh = entry(given);
  assert.is(await reply(fresh), "unavailable");
  assert.is(await reply(known), "repeated");
  assert.is((await repliesTo(given.uniqueId)).length, 1);
  await sql`update premise_core.nodes set state = 'DEAD' where boot = ${old!.boot}`;
  assert.is(await reply(fresh), "recorded");
  await sql`update premise_core.nodes set state = 'LIVE', knows = 8 where boot = ${old!.boot}`;
  assert.is(await reply(entry(given)), "recorded");
});

test("replies go with their page, and not while its host has one yet to hear", async () => {
  const given = await pageGiven();
  await reply(entry(given));
  await sql`update premise_core.messages set expires_at = now() - interval '100 days' where unique_id = ${given.uniqueId}`;
  const sweep = async () => {
    let next: string | null = null;
    do ({ next } = await deleteEndedPages(database, 90, next));
    while (next !== null);
  };
  await sweep();
  assert.is((await repliesTo(given.uniqueId)).length, 1);
  await sql`delete from premise_core.host_outbox where unique_id = ${given.uniqueId}`;
  await sweep();
  assert.is((await repliesTo(given.uniqueId)).length, 0);
});

test.run();
