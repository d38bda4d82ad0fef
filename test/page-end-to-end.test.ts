// limit: 180 s
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, textOf } from "./helpers/host.ts";
import { startRedis } from "./helpers/redis.ts";

const redis = await startRedis();
const direct = await openHospital();
const queued = await openHospital({ TOCSIN_REDIS_URL: redis.url, TOCSIN_CLUSTER: "t1" });
const LADDER = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"] as const;

for (const [path, hospital] of [
  ["due rows", direct],
  ["BullMQ", queued],
] as const) {
  for (const gatewayType of ["GCM", "APNS"] as const) {
    test(`a page goes from a host's socket to a ${gatewayType} phone and back, pushes by ${path}`, async () => {
      const host = await hospital.host(`lab-${gatewayType}`);
      const phone = await hospital.phone({ gatewayType });
      const text = `Bed 12: K+ 6.8 ☎ שלום ${randomUUID()}`;
      const trackingId = await host.sends({
        destination: phone.person.destination,
        text,
        priority: "high",
        fromName: "Dr Who",
        fromId: "-44",
      });
      const [push, ...more] = await eventually("the phone is woken", async () => {
        const found = await hospital.pushes(phone.registration.notificationAddress);
        return found.length > 0 && found;
      });
      assert.is(more.length, 0, "one page, one push");
      assert.is(push!.provider, gatewayType === "GCM" ? "FCM" : "APNS");
      const said = JSON.stringify(push);
      for (const secret of [text, "Bed 12", "Dr Who", trackingId])
        assert.is(said.includes(secret), false, `a push holds ${secret}`);
      await host.awaits(trackingId, "ENROUTE");
      phone.wakesOnPush(hospital.node.run().emulatorUrl);
      const page = await phone.expectsPage(text);
      assert.equal(
        { id: page.From.Id, name: page.From.Name, priority: page.Priority, status: page.Status },
        { id: "-44", name: "Dr Who", priority: 1, status: 0 },
      );
      await phone.reads(page);
      await host.awaits(trackingId, "READ");
      // A phone that says READ in the same breath lets DELIVERED be skipped.
      const told = host.statuses(trackingId);
      assert.equal(
        told,
        LADDER.filter((status) => told.includes(status)),
      );
      assert.equal([...told.slice(0, 3), told.at(-1)], ["ACCEPTED", "QUEUED", "ENROUTE", "READ"]);
      // It looks by itself when it is switched on and when it hears pushes; what comes later it learns by its push alone.
      await eventually("a push has woken it", async () => {
        const next = await host.sends({ destination: phone.person.destination });
        await phone.expectsPage(textOf(next));
        return phone.wakeUps() > 0;
      });
    });
  }

  test(`a burst to one phone is woken for by few pushes and told whole, pushes by ${path}`, async () => {
    const host = await hospital.host("burst");
    const phone = await hospital.phone();
    const sent = await Promise.all(
      Array.from({ length: 40 }, () => host.sends({ destination: phone.person.destination })),
    );
    for (const trackingId of sent) await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
    const pages = await phone.fetches();
    assert.is(new Set(pages.map((page) => page.UniqueId)).size, 40);
    await phone.confirms(pages.map((page) => page.UniqueId));
    for (const trackingId of sent) await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED");
    assert.equal(await phone.fetches(), []);
    const pushes = await eventually("the phone was woken", async () => {
      const found = await hospital.pushes(phone.registration.notificationAddress);
      return found.length > 0 && found;
    });
    assert.ok(pushes.length < 40, `${pushes.length} pushes for 40 pages`);
  });
}

test("a phone that does not confirm has the page delivered when the answer was taken", async () => {
  const host = await direct.host("old-phones");
  const phone = await direct.phone({ confirms: false });
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  assert.is((await phone.fetches()).length, 1);
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED");
  assert.equal(await phone.fetches(), []);
});

test("a phone that confirms gets the page until it has confirmed it", async () => {
  const host = await direct.host("new-phones");
  const phone = await direct.phone({ confirms: true });
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const [first] = await phone.fetches();
  const [again] = await phone.fetches();
  assert.is(first!.UniqueId, again!.UniqueId);
  assert.equal(host.statuses(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  await phone.answers(first!, "ACKNOWLEDGED");
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", "ACKNOWLEDGED");
  assert.equal(await phone.fetches(), []);
});

test("the same document again is answered with ACCEPTED and its present status; new content is a new page", async () => {
  const host = await direct.host("repeater");
  const phone = await direct.phone();
  const page = {
    destination: phone.person.destination,
    text: "once",
    sentAtText: "2026-11-21T10:00:00Z",
    sentAt: Date.UTC(2026, 10, 21, 10),
  };
  const trackingId = await host.sends(page);
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const [got] = await phone.fetches();
  await phone.confirms([got!.UniqueId]);
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED");
  await host.sends({ ...page, trackingId });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "ACCEPTED", "DELIVERED");
  assert.equal(await phone.fetches(), []);
  await host.sends({ ...page, trackingId, text: "twice" });
  assert.equal(
    (
      await eventually("the new page waits", async () => {
        const pages = await phone.fetches();
        return pages.length > 0 && pages;
      })
    ).map((one) => one.Text),
    ["twice"],
  );
});

test("statuses written while the host is away reach it when it is back, in order", async () => {
  const host = await direct.host("wanderer");
  const phone = await direct.phone();
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  await host.cuts();
  const [page] = await phone.fetches();
  await phone.reports(page!.UniqueId, "DELIVERED", "READ");
  const back = await connectHost({ port: direct.node.run().mxpp!.port, name: "wanderer" });
  // Several host systems come from this address: its first document says which it is.
  const other = await back.sends({ destination: phone.person.destination });
  await back.awaits(other, "ACCEPTED");
  await back.awaits(trackingId, "READ");
  const told = back.statuses(trackingId);
  assert.equal(told, LADDER.slice(LADDER.length - told.length), "the end of the ladder, in order");
  await back.closes();
});

test("what is wrong with a page is said in its FAILED, and the connection goes on", async () => {
  const host = await direct.host("clumsy");
  const phone = await direct.phone();
  const lonely = await direct.person();
  const { destination } = phone.person;
  const cases: [string, Parameters<typeof host.sends>[0], RegExp][] = [
    ["unknown destination", { destination: "000" }, /unknown destination/],
    ["no phone", { destination: lonely.destination }, /no registered device/],
    ["bad priority", { destination, priority: "later" }, /priority/],
    ["empty text", { destination, text: "  " }, /textMessage/],
    ["bad date", { destination, sentAtText: "yesterday", sentAt: null }, /dateTime/],
    ["oversize text", { destination, text: "x".repeat(50_001) }, /50,?000/],
    ["another's origin", { destination, origin: "stranger" }, /unknown origin/],
  ];
  for (const [what, page, reason] of cases) {
    const trackingId = await host.sends(page);
    const [failed] = await host.expects(trackingId, "FAILED");
    assert.match(failed!.reason ?? "", reason, what);
  }
  const trackingId = await host.sends({ destination });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const logs = direct.node.said();
  assert.is(logs.includes("stranger"), false, "what a host wrote is not logged");
});

test("a wrong token, a missing one and another's vendorId are refused", async () => {
  const [one, two] = [await direct.phone(), await direct.phone()];
  const url = `${direct.node.run().url}/ClientMessaging/V2/GetMessages`;
  const ask = async (token: string | null, vendorId: string) => {
    const headers = {
      "content-type": "application/json",
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify({ vendorId }) });
    return [answer.status, ((await answer.json()) as { ResponseCode: number }).ResponseCode !== 0];
  };
  assert.equal(await ask("x".repeat(43), one.registration.vendorId), [401, true]);
  assert.equal(await ask(null, one.registration.vendorId), [401, true]);
  assert.equal(await ask(one.registration.deviceToken, two.registration.vendorId), [403, true]);
  assert.equal(await ask(one.registration.deviceToken, one.registration.vendorId), [200, false]);
});

test("an unregistered phone is gone at once; pages to it fail, and its token with it", async () => {
  const host = await direct.host("leaver");
  const phone = await direct.phone();
  await phone.unregisters();
  const trackingId = await host.sends({ destination: phone.person.destination });
  const [failed] = await host.expects(trackingId, "FAILED");
  assert.match(failed!.reason ?? "", /no registered device/);
});

test("the trace says in a sentence where a page is, and readyz and metrics answer", async () => {
  const host = await direct.host("traced");
  const phone = await direct.phone();
  const trackingId = await host.sends({ destination: phone.person.destination, text: "secret words" });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const traced = await eventually("the push is in the trace", async () => {
    const { body } = await direct.operator("GET", `/messages/${trackingId}/trace`);
    return JSON.stringify(body).includes("FCM") && body;
  });
  assert.is(traced.status, "ENROUTE");
  assert.match(String(traced.why), /FCM/);
  assert.is(JSON.stringify(traced).includes("secret"), false);
  const ready = await fetch(`${direct.node.run().url}/readyz`);
  assert.is(ready.status, 200);
  const metrics = await direct.metrics();
  assert.match(metrics, /tocsin_.*ENROUTE/);
  assert.match(metrics, /outbox_rows/);
  const cluster = await direct.operator("GET", "/cluster");
  assert.equal(
    (cluster.body.nodes as unknown as { shards: number }[]).map((node) => node.shards),
    [256],
  );
});

test.after(async () => {
  await direct.close();
  await queued.close();
  await redis.close();
});
test.run();
