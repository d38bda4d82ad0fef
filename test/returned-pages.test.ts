/** A phone of old that was asleep when its pages came, and gives the answer up when it wakes: they are not lost to it. */
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { UniqueId } from "../domain.ts";
import { openUnconfirmed } from "../gateways/client/unconfirmed.ts";
import { openPeers } from "../gateways/unacknowledged.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { DatabaseDown } from "../persistence/database.ts";
import { dueMessages } from "../persistence/messages.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { returnPages } from "../persistence/returned-pages.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { recordLog } from "./helpers/log-record.ts";
import type { Phone } from "./helpers/phone.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const hospital = await openHospital();
const host = await hospital.host("lab");
const LADDER = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"] as const;

/** Asks for its pages over a connection of its own, and reads nothing. */
async function asksAsleep({ registration }: Phone) {
  const socket = connect(Number(new URL(hospital.node.run().url).port), "127.0.0.1").pause();
  await once(socket, "connect");
  const { vendorId, deviceToken } = registration;
  const body = JSON.stringify({ vendorId });
  socket.write(
    `POST /ClientMessaging/V2/GetMessages HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n` +
      `authorization: Bearer ${deviceToken}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  return socket;
}

test("a page that only a phone's kernel had is woken for and fetched again, and its host hears each status once", async () => {
  const phone = await hospital.phone({ confirms: false });
  const trackingId = await host.sends({ destination: phone.person.destination, timeoutDeviceSeconds: 600 });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const socket = await asksAsleep(phone);
  await host.expects(trackingId, ...LADDER);
  assert.equal(await phone.fetches(), [], "it counts as having it");
  const pushes = async () => (await hospital.pushes(phone.registration.notificationAddress)).length;
  const before = await pushes();
  socket.destroy();
  await eventually("it is woken once more", async () => (await pushes()) > before);
  const [page] = await phone.fetches();
  assert.is(page?.Text, textOf(trackingId));
  await phone.reads(page!);
  await host.expects(trackingId, ...LADDER, "READ");
  await eventually("it has it for good", async () => (await phone.fetches()).length === 0);
});

test("a phone that has read its pages has them, though its connection is reset a moment later", async () => {
  const phone = await hospital.phone({ confirms: false });
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const socket = await asksAsleep(phone);
  await host.expects(trackingId, ...LADDER);
  let heard = "";
  socket.on("data", (chunk) => {
    heard += chunk.toString();
  });
  socket.resume();
  await eventually("it has read it", () => heard.includes(textOf(trackingId)));
  socket.destroy();
  await sleep(1_500);
  assert.equal(await phone.fetches(), []);
});

test("what a phone gave up while the database is away comes back when that is back", async () => {
  const tries: number[] = [];
  let delivered = false;
  const { log } = recordLog();
  const unconfirmed = openUnconfirmed({
    paging: {
      async record() {
        delivered = true;
        return { kind: "repeated", answer: null };
      },
      async takeBack(_device, pages) {
        tries.push(pages.length);
        if (tries.length < 3) throw new DatabaseDown(false);
        return pages;
      },
    },
    peers: openPeers(),
    log,
  });
  const server = createServer((_request, answer) => {
    unconfirmed.handOut({ id: "phone" } as never, ["page" as never], answer);
    answer.end("page");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1").pause();
  socket.write("GET / HTTP/1.1\r\nhost: node\r\n\r\n");
  await eventually("it counts as having it", () => delivered);
  socket.destroy();
  await eventually("it was tried until it was written", () => tries.length === 3);
  server.close();
});

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
test.after(async () => {
  await ward.close();
  await hospital.close();
});

async function delivered(devices = 1) {
  const subscriberId = await ward.subscriber(`66${Math.random().toString().slice(2, 10)}`);
  const [first, ...others] = await Promise.all(Array.from({ length: devices }, () => ward.device(subscriberId)));
  const [{ address }] = (await sql`
    select address from premise_core.subscriber_addresses where subscriber_id = ${subscriberId}`) as unknown as [
    { address: string },
  ];
  const page = pageFor(ward, lab, address, { timeoutUserSeconds: null, timeoutDeviceSeconds: 60 });
  await acceptPages(database, "node", [page]);
  for (const deviceId of [first!, ...others])
    await recordReceipts(database, "node", [{ uniqueId: page.uniqueId, deviceId, receipt: "DELIVERED" }]);
  return { uniqueId: page.uniqueId, device: first!, others };
}
const row = async (uniqueId: UniqueId) => {
  const [found] = await sql<{ open: boolean; due: boolean; spared: number; fetched: number; told: string }[]>`
    select open, due_at is not null and due_at <= now() as due, told, cardinality(fetched_by) as fetched,
      extract(epoch from device_deadline - now())::double precision as spared
    from premise_core.messages where unique_id = ${uniqueId}`;
  return found!;
};

test("a page that no phone has is due as one that was never fetched, with time for its phone to ask again", async () => {
  const { uniqueId, device } = await delivered();
  await sql`update premise_core.messages set device_deadline = now() - interval '1 minute' where unique_id = ${uniqueId}`;
  assert.equal(await returnPages(database, "node-b", device, [uniqueId]), [uniqueId]);
  const { open, due, spared, fetched, told } = await row(uniqueId);
  assert.equal([open, due, fetched, told], [true, true, 0, "DELIVERED"]);
  assert.ok(spared > 25 && spared < 31, `${spared}`);
  const shards = Array.from({ length: 256 }, (_, shard) => shard);
  const found = (await dueMessages(database, shards as never, 10)).find((one) => one.uniqueId === uniqueId);
  assert.is(found?.status, "ENROUTE");
  assert.equal(await returnPages(database, "node-b", device, [uniqueId]), [], "once");
});

test("a page that another phone has is in the inbox again, and nobody is woken for it", async () => {
  const { uniqueId, device, others } = await delivered(2);
  assert.equal(await returnPages(database, "node", device, [uniqueId]), [uniqueId]);
  const { open, due, fetched } = await row(uniqueId);
  assert.equal([open, due, fetched], [true, false, others.length]);
});

for (const [what, ends] of [
  ["was read", (uniqueId, deviceId) => recordReceipts(database, "n", [{ uniqueId, deviceId, receipt: "READ" }])],
  ["was answered", (uniqueId, deviceId) => recordReceipts(database, "n", [{ uniqueId, deviceId, receipt: "IGNORED" }])],
  ["was recalled", (uniqueId) => recallPage(database, "n", { uniqueId, by: "operator", reason: null })],
  ["has expired", (uniqueId) => sql`update premise_core.messages set expires_at = now() where unique_id = ${uniqueId}`],
] as const satisfies [string, (uniqueId: UniqueId, device: never) => Promise<unknown>][]) {
  test(`a page that ${what} does not come back`, async () => {
    const { uniqueId, device } = await delivered();
    await ends(uniqueId, device as never);
    assert.equal(await returnPages(database, "node", device, [uniqueId]), []);
  });
}

test("a phone that never reads what it fetches is not given it for ever", async () => {
  const { uniqueId, device } = await delivered();
  let times = 0;
  while (times < 50 && (await returnPages(database, "node", device, [uniqueId])).length > 0) {
    times += 1;
    await recordReceipts(database, "node", [{ uniqueId, deviceId: device, receipt: "DELIVERED" }]);
  }
  assert.is(times, 10);
});

test.run();
