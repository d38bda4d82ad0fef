/** A page that went out by a stream and is confirmed before that is written: one statement writes both, as two would have. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Paging } from "../actors/paging.ts";
import type { DeviceId, SubscriberId, UniqueId } from "../domain.ts";
import { type Database, DatabaseDown } from "../persistence/database.ts";
import { changeMessages } from "../persistence/messages.ts";
import { recallPage } from "../persistence/recalls.ts";
import { type ReceiptEntry, recordReceipts } from "../persistence/receipts.ts";
import { recordReplies } from "../persistence/replies.ts";
import { returnPages } from "../persistence/returned-pages.ts";
import { recordSends, type StreamSend, sendsOfStreams } from "../persistence/stream-sends.ts";
import { openDrivenWard, type Person } from "./helpers/driven-ward.ts";
import { eventually } from "./helpers/eventually.ts";
import { RECEIPTS } from "./helpers/page-life.ts";
import { change, openPages } from "./helpers/pages.ts";
import { pageFor } from "./helpers/ward.ts";

const driven = await openDrivenWard();
const { ward, person, told, details, columnsOf } = driven;
const { database, sql } = ward;
const { accept, receipt, history } = openPages(ward);
const lab = await ward.host("clinic");
test.after.each(driven.endNodes);
test.after(() => ward.close());

const EPOCH = randomUUID();
const send = (uniqueId: UniqueId, deviceId: DeviceId, seq = 1): StreamSend => ({
  uniqueId,
  deviceId,
  epoch: EPOCH,
  seq,
});
async function pageTo({ destination }: Person, deviceId: DeviceId | null = null): Promise<UniqueId> {
  const page = pageFor(ward, lab, destination, { deviceId, timeoutUserSeconds: 300 });
  await accept(page);
  return page.uniqueId;
}
/** In how many statements these lines were written. */
const statementsOf = async (id: UniqueId, ...events: string[]) =>
  (
    await sql`select distinct xmin from premise_core.message_history where unique_id = ${id} and event = any (${events})`
  ).length;

/** What may have become of a page that is sent to the first of its person's two devices. */
const BEFORE: Readonly<Record<string, (id: UniqueId, devices: readonly DeviceId[]) => Promise<unknown>>> = {
  nothing: async () => {},
  pushed: (id) =>
    changeMessages(database, "node", [
      change(id, 2, { event: "ENROUTE", transport: "ENROUTE", tell: "ENROUTE", detail: "push" }),
    ]),
  "sent before": (id, [one]) => recordSends(database, "node", [send(id, one!)]),
  "sent to the other": (id, [, other]) => recordSends(database, "node", [send(id, other!)]),
  "fetched by the other": (id, [, other]) => receipt(id, other!, "DELIVERED"),
  "confirmed before": (id, [one]) => receipt(id, one!, "DELIVERED"),
  "given up unread": async (id, [one]) => {
    await receipt(id, one!, "DELIVERED");
    assert.equal(await returnPages(database, "node", one!, [id]), [id]);
  },
  "declined by the other": (id, [, other]) => receipt(id, other!, "IGNORED"),
  "answered before": (id, [one]) => receipt(id, one!, "ACKNOWLEDGED"),
  "replied to by the other": (id, [, other]) =>
    recordReplies(database, "node", [{ uniqueId: id, deviceId: other!, clientId: "1", text: "coming" }]),
  failed: (id) =>
    changeMessages(database, "node", [
      change(id, 2, { event: "FAILED", outcome: "FAILED", tell: "FAILED", detail: "not reached", due: "expiry" }),
    ]),
  recalled: (id) => recallPage(database, "node", { uniqueId: id, by: "operator", reason: null }),
};

for (const [before, happens] of Object.entries(BEFORE)) {
  test(`of a page that was before: ${before}, one statement writes what two had written`, async () => {
    const who = await person(2);
    const [one] = who.devices as [DeviceId, DeviceId];
    for (const kind of RECEIPTS) {
      const found = [];
      for (const together of [false, true]) {
        const id = await pageTo(who);
        await happens(id, who.devices);
        const said: ReceiptEntry = { uniqueId: id, deviceId: one, receipt: kind };
        const sent = together ? null : (await recordSends(database, "node", [send(id, one, 7)]))[0]!;
        const entry = together ? { ...said, sent: { epoch: EPOCH, seq: 7 } } : said;
        const result = (await recordReceipts(database, "node", [entry]))[0]!;
        const enroute = together ? result.kind === "recorded" && result.enroute : sent !== null;
        const { version, status, told: last, answer, outcome, open, fetched_by, due_at } = await columnsOf(id);
        const lines = await sql<{ event: string; detail: string | null }[]>`
          select seq, event, case when event <> 'REPLY' then detail end as detail from premise_core.message_history
          where unique_id = ${id} order by seq`;
        found.push({
          ...{ kind: result.kind, answer: result.answer, enroute, told: await told(id), lines: [...lines] },
          row: [version, status, last, answer, outcome, open, fetched_by, due_at === null],
        });
        await history(id);
      }
      assert.equal(found[1], found[0], kind);
      assert.is(found[1]!.enroute, before === "nothing");
    }
  });
}

test("what is told of a page in one statement is told in order, for many pages at once", async () => {
  const all = await Promise.all(Array.from({ length: 40 }, () => person()));
  const entries = await Promise.all(
    all.map(async (who) => ({ uniqueId: await pageTo(who), deviceId: who.devices[0]!, receipt: "DELIVERED" as const })),
  );
  entries.sort((a, b) => (a.uniqueId < b.uniqueId ? -1 : 1));
  const together = entries.map((entry) => ({ ...entry, sent: { epoch: EPOCH, seq: 1 } }));
  await recordReceipts(database, "node", together);
  for (const { uniqueId, deviceId } of entries) {
    assert.equal(await told(uniqueId), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
    assert.equal(await history(uniqueId), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
    assert.equal(await details(uniqueId, "ENROUTE"), [`${deviceId} stream ${EPOCH}:1`]);
    assert.equal(await details(uniqueId, "DELIVERED"), [deviceId]);
  }
});

test("a receipt takes along its own phone's sending alone: the other phone, when it comes again, is found to have the page", async () => {
  const who = await person(2);
  const [one, two] = who.devices as [DeviceId, DeviceId];
  const id = await pageTo(who);
  const paging = driven.openNode();
  const sends = [paging.sent(send(id, one, 3)), paging.sent(send(id, two, 4))];
  await paging.record({ uniqueId: id, deviceId: two, receipt: "DELIVERED" });
  await Promise.all(sends);
  const { subscriber_id: subscriberId } = await columnsOf(id);
  const found = await sendsOfStreams(
    database,
    who.devices.map((deviceId) => ({ deviceId, subscriberId: subscriberId as SubscriberId, epoch: EPOCH })),
    10,
  );
  assert.equal(found, [[{ uniqueId: id, seq: 3 }], []], "the first has it, the second need not have it again");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
});

test("a receipt takes the sending along that waits to be written, and its host and the figures hear of both", async () => {
  const who = await person();
  const id = await pageTo(who);
  const counted: string[] = [];
  const meter = {
    count: (_name: string, { status }: { status?: string }) => void counted.push(status!),
    observe: () => {},
  } as never;
  const paging = driven.openNode("node-a", { meter });
  const sent = paging.sent(send(id, who.devices[0]!));
  const result = await driven.says(paging, who, id, "READ");
  await sent;
  assert.is(result.kind, "recorded");
  assert.equal(counted, ["ENROUTE", "READ"]);
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "READ"]);
  assert.is(await statementsOf(id, "ENROUTE", "READ"), 1);
  await driven.says(paging, who, await pageTo(who), "DELIVERED");
  assert.equal(counted, ["ENROUTE", "READ", "DELIVERED"], "by itself it says nothing of a sending");
});

test("where a receipt is of a device that the page is not for any more, what was sent is told all the same", async () => {
  const who = await person(2);
  const [one, two] = who.devices as [DeviceId, DeviceId];
  const id = await pageTo(who, one);
  const paging = driven.openNode();
  const sent = paging.sent(send(id, two));
  assert.is((await driven.says(paging, who, id, "DELIVERED", 1)).kind, "unknown");
  await sent;
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE"]);
});

test("a receipt that finds no database leaves what was sent to be written by itself, and said again is told behind it", async () => {
  let failing = 0;
  const faulty: Database = {
    ...database,
    run: (...args) => {
      failing -= 1;
      return failing === 0 ? Promise.reject(new DatabaseDown(false)) : database.run(...args);
    },
  };
  const who = await person();
  const id = await pageTo(who);
  const paging = driven.openNode("node-a", { database: faulty });
  const sent = paging.sent(send(id, who.devices[0]!));
  failing = 1;
  const failed = await driven.says(paging, who, id, "DELIVERED").catch((error: unknown) => error);
  assert.instance(failed, DatabaseDown);
  await sent;
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  assert.is((await driven.says(paging, who, id, "DELIVERED")).kind, "recorded");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
});

test("a receipt that was written, and whose node did not hear so, leaves nothing of the sending to be told behind it", async () => {
  let lost = false;
  const faulty: Database = {
    ...database,
    run: async (...args) => {
      const loses = lost;
      lost = false;
      const rows = await database.run(...args);
      if (loses) throw new DatabaseDown(true);
      return rows as never;
    },
  };
  const who = await person();
  const id = await pageTo(who);
  const paging = driven.openNode("node-a", { database: faulty });
  const sent = paging.sent(send(id, who.devices[0]!));
  lost = true;
  await driven.says(paging, who, id, "DELIVERED").catch(() => {});
  await sent;
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
  assert.equal(await history(id), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"]);
});

test("a sending that is being written when its receipt comes is written by itself", async () => {
  const who = await person();
  const id = await pageTo(who);
  const paging = driven.openNode();
  const holder = await sql.reserve();
  try {
    await holder`begin`;
    await holder`select from premise_core.messages where unique_id = ${id} for update`;
    const sent = paging.sent(send(id, who.devices[0]!));
    await eventually("it waits for the row", async () => {
      const waiting = await sql`
        select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%ENROUTE%'`;
      return waiting.length === 1;
    });
    const said = driven.says(paging, who, id, "DELIVERED");
    await holder`commit`;
    await Promise.all([sent, said]);
  } finally {
    holder.release();
  }
  // Whichever got the row first.
  assert.ok(["ENROUTE DELIVERED", "DELIVERED"].includes((await told(id)).slice(2).join(" ")));
  assert.is(await statementsOf(id, "ENROUTE", "DELIVERED"), (await told(id)).length - 2);
  await history(id);
});

test("however sendings and receipts of two phones meet on two nodes, each page's news is told once and in order", async () => {
  const nodes: Paging[] = [driven.openNode("node-a"), driven.openNode("node-b")];
  const who = await person(2);
  const pages = await Promise.all(Array.from({ length: 120 }, () => pageTo(who)));
  const by = (ms: number) => sleep(Math.random() * ms);
  await Promise.all(
    pages.flatMap((uniqueId) =>
      who.devices.map(async (deviceId, n) => {
        const node = nodes[Math.random() < 0.8 ? n : 1 - n]!;
        await by(300);
        const sent = node.sent(send(uniqueId, deviceId));
        await by(30);
        for (const receipt of ["DELIVERED", "READ"] as const) await node.record({ uniqueId, deviceId, receipt });
        await sent;
      }),
    ),
  );
  let together = 0;
  for (const id of pages) {
    const news = await told(id);
    assert.equal(
      news,
      ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"].filter((word) => news.includes(word)),
    );
    assert.ok(news.includes("READ"));
    const lines = await history(id);
    assert.is(new Set(lines.filter((event) => event !== "FETCHED" && event !== "STREAM")).size, news.length);
    for (const deviceId of who.devices) {
      const mine = await sql<{ event: string }[]>`
        select event from premise_core.message_history where unique_id = ${id} and starts_with(detail, ${deviceId}) order by seq`;
      const events = mine.map(({ event }) => event);
      assert.ok(
        events.lastIndexOf("STREAM") <= 0 && events.lastIndexOf("ENROUTE") <= 0,
        `nothing of its sending behind its receipt: ${events}`,
      );
    }
    if ((await statementsOf(id, "ENROUTE", "DELIVERED")) === 1 && news.includes("ENROUTE")) together += 1;
  }
  assert.ok(together > 0, "some went together");
});

test.run();
