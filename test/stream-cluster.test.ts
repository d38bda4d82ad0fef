// limit: 180 s
/** Streams of one device on several nodes, and what becomes of them when a node dies or goes. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, textOf } from "./helpers/host.ts";
import { type Listening, type ListenOptions, listen } from "./helpers/listening-phone.ts";
import { startNode } from "./helpers/node.ts";
import type { Phone } from "./helpers/phone.ts";
import { startRedis } from "./helpers/redis.ts";

const redis = await startRedis();
const shared = { TOCSIN_REDIS_URL: redis.url, TOCSIN_CLUSTER: "streams" };
const hospital = await openHospital({ ...shared, TOCSIN_NODE: "one" });
const one = hospital.node;
const two = await startNode({
  ...shared,
  ...{ TOCSIN_NODE: "two", TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl, TOCSIN_ADMIN_KEY: one.adminKey },
});
await hospital.knows("lab");
const host = await connectHost({ port: two.run().mxpp!.port, name: "lab" });
const open: Listening[] = [];
async function listening(phone: Phone, node: typeof one, options: Partial<ListenOptions> = {}): Promise<Listening> {
  const stream = await listen(phone, { url: node.run().url, ...options });
  open.push(stream);
  await stream.expects("resumed");
  return stream;
}
test.after(async () => {
  for (const stream of open) stream.vanishes();
  await host.closes();
  await two.close();
  await hospital.close();
  await redis.close();
});

test("a page that another node took in is heard at once by the phone that listens here", async () => {
  const phone = await hospital.phone();
  const stream = await listening(phone, one);
  const trackingId = await host.sends({ destination: phone.person.destination, priority: "high" });
  await stream.expectsPage(textOf(trackingId), 1_500);
});

test("when one phone of a person replies, the others hear at once that it was answered, by their streams and by a fetch", async () => {
  const replies = await hospital.phone();
  const { person } = replies;
  const [listens, fetches] = [await hospital.phone({ person }), await hospital.phone({ person })];
  const stream = await listening(listens, two);
  const trackingId = await host.sends({ destination: person.destination });
  const { UniqueId } = await stream.expectsPage(textOf(trackingId));
  replies.wakesOnPush(null);
  await replies.expectsPage(textOf(trackingId));
  await replies.replies(UniqueId, { text: "On my way" });
  const { data } = await stream.expects("answered", undefined, 2_000);
  assert.equal([data.UniqueId, Object.keys(data)], [UniqueId, ["NoticeId", "UniqueId", "ByThisPerson", "At"]]);
  fetches.wakesOnPush(null);
  const { Answer, ByThisPerson } = await fetches.hears("ANSWERED", UniqueId);
  assert.equal([Answer, ByThisPerson], [undefined, true]);
  await fetches.switchesOff();
  await replies.switchesOff();
  assert.equal(replies.notices(), [], "who replied knows");
});

test("when one of a group answers, the phones of the others and of who was paged first hear at once that somebody else has", async () => {
  const [first, answers, listens] = [await hospital.phone(), await hospital.phone(), await hospital.phone()];
  const members = [answers.person.id, listens.person.id];
  const group = await hospital.operator("POST", "/subscriber-groups", {
    siteId: hospital.siteId,
    name: "ICU",
    members,
  });
  const steps = [{ kind: "GROUP", groupId: group.body.id }];
  await hospital.operator("PUT", `/sites/${hospital.siteId}/escalation-rules/Alert`, { steps });
  const [paged, other] = [await listening(first, one), await listening(listens, two)];
  const { destination } = first.person;
  const trackingId = await host.sends({
    destination,
    messageType: "Alert",
    timeoutDeviceSeconds: 600,
    timeoutUserSeconds: 1,
  });
  const pages = [await paged.expectsPage(textOf(trackingId)), await other.expectsPage(textOf(trackingId))];
  answers.wakesOnPush(null);
  const { UniqueId } = await answers.expectsPage(textOf(trackingId));
  await answers.reports(UniqueId, "ACKNOWLEDGED");
  for (const [n, stream] of [paged, other].entries()) {
    const { data } = await stream.expects("answered", undefined, 5_000);
    assert.equal(
      [data.UniqueId, data.Answer, data.ByThisPerson, Object.keys(data).length],
      [pages[n]!.UniqueId, "ACKNOWLEDGED", false, 5],
      "and not who",
    );
  }
  await answers.switchesOff();
  assert.equal(answers.notices(), []);
});

test("a second stream displaces the first, also on another node, and has the pages from then on", async () => {
  const phone = await hospital.phone();
  const [first, second] = [await listening(phone, one), await listening(phone, two)];
  assert.is(await first.ends(), 4409);
  const trackingId = await host.sends({ destination: phone.person.destination });
  await second.expectsPage(textOf(trackingId));
  const third = await listening(phone, one);
  assert.is(await second.ends(), 4409);
  await third.expectsPage(textOf(await host.sends({ destination: phone.person.destination })));
});

test("what an operator does at another node ends the stream here", async () => {
  const phone = await hospital.phone();
  const stream = await listening(phone, two);
  await hospital.operator("DELETE", `/devices/${phone.registration.vendorId}`);
  assert.is(await stream.ends(), 4401);
});

test("a node that an operator drains sends its streams elsewhere, and keeps those that come back to it", async () => {
  const phone = await hospital.phone();
  const stream = await listening(phone, one);
  await hospital.operator("POST", "/cluster/nodes/one/drain");
  const { data } = await stream.expects("reconnect");
  assert.ok(typeof data.afterMs === "number" && data.afterMs <= 3_000 && Array.isArray(data.urls));
  assert.is(await stream.ends(), 1012);
  const back = await listening(phone, one, { from: stream.place() });
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  await back.expectsPage(textOf(await host.sends({ destination: phone.person.destination })));
  assert.equal(back.frames("reconnect"), []);
  await hospital.operator("DELETE", "/cluster/nodes/one/drain");
});

test("when its node is killed the phone goes on at another, without a gap and with nothing it has", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const first = await listening(phone, one, { confirms: false });
  const before = await Promise.all(Array.from({ length: 5 }, () => host.sends({ destination })));
  for (const trackingId of before) {
    await first.expectsPage(textOf(trackingId));
    await host.awaits(trackingId, "ENROUTE");
  }
  // What it had not when the connection broke: the last two.
  const place = { ...first.place(), seq: 3 };
  const known = first.pages().slice(0, 3);
  await one.kills();
  const between = await host.sends({ destination });
  const second = await listening(phone, two, { from: place });
  assert.is((await second.expects("resumed")).data.recovered, true);
  const after = await host.sends({ destination });
  await second.expectsPage(textOf(after));
  const shown = [...known, ...second.pages()].map(({ Text }) => Text);
  assert.equal(shown.sort(), [...before, between, after].map(textOf).sort());
  assert.equal(
    second.frames("message").map(({ seq }) => seq),
    [1, 2, 3, 4],
  );
  for (const { UniqueId } of known) second.sends("confirm", { uniqueId: UniqueId });
  for (const trackingId of [...before, between, after]) await host.awaits(trackingId, "DELIVERED");
});

test("the row of a device whose node was killed names none, so that its pages are pushed at once", async () => {
  await one.starts();
  const phone = await hospital.phone();
  await listening(phone, one);
  await one.kills();
  const trackingId = await eventually("a page is pushed without a wait for its stream", async () => {
    const sent = await host.sends({ destination: phone.person.destination, priority: "high" });
    await host.awaits(sent, "ENROUTE", { within: 2_000 });
    return sent;
  });
  assert.ok(trackingId);
  await one.starts();
});

test("a node that stops tells its streams to come again elsewhere, and ends in time", async () => {
  const phones = await Promise.all(Array.from({ length: 20 }, () => hospital.phone()));
  const streams = await Promise.all(phones.map((phone) => listening(phone, one)));
  assert.is(await one.stops(), 0);
  for (const stream of streams) {
    assert.is(stream.frames("reconnect").length, 1);
    assert.is(await stream.ends(), 1012);
  }
});

test.run();
