// limit: 180 s
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { type Listening, type ListenOptions, listen } from "./helpers/listening-phone.ts";
import type { Phone } from "./helpers/phone.ts";

const hospital = await openHospital();
const host = await hospital.host("lab");
const url = hospital.node.run().url;
const open: Listening[] = [];
async function listening(phone: Phone, options: Partial<ListenOptions> = {}): Promise<Listening> {
  const stream = await listen(phone, { url, ...options });
  open.push(stream);
  return stream;
}
test.after.each(() => {
  for (const stream of open.splice(0)) stream.vanishes();
});
test.after(() => hospital.close());

test("a phone that listens gets its page at once and unasked, confirms it, and is not woken by any push", async () => {
  const phone = await hospital.phone();
  const stream = await listening(phone);
  await stream.expects("resumed");
  const trackingId = await host.sends({ destination: phone.person.destination, priority: "high" });
  const page = await stream.expectsPage(textOf(trackingId), 1_000);
  await host.awaits(trackingId, "DELIVERED");
  const result = await stream.says("status", { uniqueId: page.UniqueId, status: "READ", clientId: "r-1" });
  assert.equal(result.data, { to: result.data.to, UniqueId: page.UniqueId, ClientId: "r-1", Result: "recorded" });
  const reply = { uniqueId: page.UniqueId, clientId: "a-1", text: "On my way" };
  for (const outcome of ["recorded", "repeated"]) assert.is((await stream.says("reply", reply)).data.Result, outcome);
  await eventually("the host has the reply, once", () => host.receives().length === 1);
  const answered = await stream.says("status", { uniqueId: page.UniqueId, status: "ACKNOWLEDGED", clientId: "r-2" });
  assert.equal(answered.data.Answer, { Status: "ACKNOWLEDGED", ByThisDevice: true });
  await host.awaits(trackingId, "READ");
  const again = await stream.says("status", { uniqueId: page.UniqueId, status: "READ", clientId: "r-1" });
  assert.is(again.data.Result, "repeated");
  // Longer than it is waited for before the page is pushed.
  await new Promise((resolve) => setTimeout(resolve, 4_500));
  assert.equal(await hospital.pushes(phone.registration.notificationAddress), []);
  assert.equal(
    host.statuses(trackingId),
    ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ", "ACKNOWLEDGED"].filter((status) =>
      host.statuses(trackingId).includes(status as never),
    ),
  );
});

test("a page that a listening phone does not confirm is ENROUTE by its stream, and pushed all the same", async () => {
  const phone = await hospital.phone();
  const stream = await listening(phone, { confirms: false });
  await stream.expects("resumed");
  const trackingId = await host.sends({ destination: phone.person.destination, priority: "high" });
  const page = await stream.expectsPage(textOf(trackingId), 1_000);
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  await eventually("it is pushed", async () => {
    const pushes = await hospital.pushes(phone.registration.notificationAddress);
    return pushes.length > 0;
  });
  assert.is(stream.pages().length, 1, "it is not sent again by the same stream");
  const trace = await hospital.operator("GET", `/messages/${page.UniqueId}/trace`);
  const enroute = (trace.body.events as unknown as { event: string; detail: string }[]).find(
    ({ event }) => event === "ENROUTE",
  );
  assert.is(enroute?.detail, `${phone.registration.vendorId} stream ${stream.place().epoch}:1`);
  stream.sends("confirm", { uniqueId: page.UniqueId });
  await host.awaits(trackingId, "DELIVERED");
});

test("what came while the phone was away comes first when it listens, most urgent first", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const low = await host.sends({ destination, priority: "low" });
  await host.awaits(low, "QUEUED");
  const high = await host.sends({ destination, priority: "high" });
  await host.awaits(high, "QUEUED");
  const stream = await listening(phone);
  await eventually("both came", () => stream.pages().length === 2);
  assert.equal(
    stream.pages().map(({ Text }) => Text),
    [textOf(high), textOf(low)],
  );
  assert.equal(
    stream.frames("message").map(({ seq }) => seq),
    [1, 2],
  );
});

test("a phone that comes again is told what it has not, and what it has is not sent again", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const first = await listening(phone, { confirms: false });
  await first.expects("resumed");
  const one = await host.sends({ destination });
  await first.expectsPage(textOf(one));
  await host.awaits(one, "ENROUTE");
  const place = first.place();
  const two = await host.sends({ destination });
  await first.expectsPage(textOf(two));
  await host.awaits(two, "ENROUTE");
  first.vanishes();

  const second = await listening(phone, { from: place, confirms: false });
  assert.is((await second.expects("resumed")).data.recovered, true);
  await second.expectsPage(textOf(two));
  const three = await host.sends({ destination });
  await second.expectsPage(textOf(three));
  assert.equal(
    second.frames("message").map(({ seq, data }) => [seq, data.Text]),
    [
      [1, textOf(two)],
      [2, textOf(three)],
    ],
  );
  // What it had of the first is known by the second's number as well.
  await host.awaits(three, "ENROUTE");
  const third = await listening(phone, { from: second.place(), confirms: false });
  assert.is((await third.expects("resumed")).data.recovered, true);
  const four = await host.sends({ destination });
  await third.expectsPage(textOf(four));
  assert.equal(
    third.frames("message").map(({ data }) => data.Text),
    [textOf(four)],
  );
  // Of a stream that nobody knows nothing is taken for known.
  const fourth = await listening(phone, { from: { epoch: randomUUID(), seq: 9 }, confirms: false });
  assert.is((await fourth.expects("resumed")).data.recovered, false);
  await eventually("all came anew", () => fourth.pages().length === 4);
});

test("a phone that shows a page hears by its stream that it was recalled, again when it comes again, until it confirms", async () => {
  const phone = await hospital.phone();
  const first = await listening(phone);
  await first.expects("resumed");
  const trackingId = await host.sends({ destination: phone.person.destination });
  const page = await first.expectsPage(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
  await hospital.operator("POST", `/messages/${page.UniqueId}/recall`, {});
  const { data, seq } = await first.expects("recalled");
  assert.equal([data.UniqueId, data.Kind, seq], [page.UniqueId, "RECALLED", 2]);
  const place = { ...first.place(), seq: 1 };
  first.vanishes();
  const second = await listening(phone, { from: place });
  const again = await second.expects("recalled");
  assert.equal([again.data.NoticeId, again.seq], [data.NoticeId, 1]);
  assert.is((await second.says("confirm", { noticeId: data.NoticeId })).data.Result, "recorded");
  assert.is((await second.says("confirm", { noticeId: data.NoticeId })).data.Result, "unknown");
  const third = await listening(phone);
  await third.expects("resumed");
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(third.frames("recalled"), []);
});

test("a phone hears what is new also where as much has gone meanwhile, and where it has confirmed none of a hundred before", async () => {
  const phone = await hospital.phone();
  const { vendorId } = phone.registration;
  const sql = postgres(hospital.databaseUrl, { max: 1 });
  const notices = async (count: number) =>
    sql<{ id: string }[]>`
      insert into premise_core.device_notices (device_id, unique_id, kind, expires_at)
      select ${vendorId}, gen_random_uuid(), 'RECALLED', now() + interval '1 hour' from generate_series(1, ${count}) returning id`;
  await notices(1);
  const stream = await listening(phone);
  await stream.expects("recalled");
  const told = (id: string) => stream.expects("recalled", ({ data }) => data.NoticeId === id);
  const [instead] = await sql.begin(async (together) => {
    await together`delete from premise_core.device_notices where device_id = ${vendorId}`;
    return together<{ id: string }[]>`
      insert into premise_core.device_notices (device_id, unique_id, kind, expires_at)
      values (${vendorId}, ${randomUUID()}, 'RECALLED', now() + interval '1 hour') returning id`;
  });
  await told(instead!.id);
  await notices(150);
  await eventually("the newest hundred came", () => stream.frames("recalled").length >= 102);
  const [newest] = await notices(1);
  await told(newest!.id);
  await sql.end();
});

test("a second stream of a device displaces the first", async () => {
  const phone = await hospital.phone();
  const first = await listening(phone);
  await first.expects("resumed");
  const second = await listening(phone);
  assert.is(await first.ends(), 4409);
  const trackingId = await host.sends({ destination: phone.person.destination });
  await second.expectsPage(textOf(trackingId));
});

test("a stream ends when its device is unregistered, removed by an operator, or registered anew", async () => {
  const unregistered = await hospital.phone();
  const one = await listening(unregistered);
  await one.expects("resumed");
  await unregistered.unregisters();
  assert.is(await one.ends(), 4401);

  const removed = await hospital.phone();
  const two = await listening(removed);
  await two.expects("resumed");
  await hospital.operator("DELETE", `/devices/${removed.registration.vendorId}`);
  assert.is(await two.ends(), 4401);

  const again = await hospital.phone();
  const three = await listening(again);
  await three.expects("resumed");
  const { notificationAddress, gatewayType } = again.registration;
  const answer = await fetch(`${url}/ClientMessaging/V2/Register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{ siteId: hospital.siteId, destination: again.person.destination, gatewayType, notificationAddress },
      ...{ registrationCode: again.person.registrationCode, deviceType: "ANDROID", deviceOS: "16", clientVersion: "1" },
      confirms: true,
    }),
  });
  const { VendorId, DeviceToken } = (await answer.json()) as { VendorId: string; DeviceToken: string };
  assert.is(VendorId, again.registration.vendorId);
  assert.is(await three.ends(), 4401);
  const four = await listening(again, { token: DeviceToken, bySubprotocol: true });
  await four.expects("resumed");
  assert.is(four.socket.protocol, "tocsin.v2");
});

test.run();
