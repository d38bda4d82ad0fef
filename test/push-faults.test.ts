// limit: 240 s, alone
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import type { Host } from "./helpers/host.ts";
import { startRedis } from "./helpers/redis.ts";
import { inRows, type Stories } from "./helpers/together.ts";

const redis = await startRedis();
const hospitals = { "due rows": await openHospital(), BullMQ: await openHospital({ TOCSIN_REDIS_URL: redis.url }) };
type Hospital = (typeof hospitals)[keyof typeof hospitals];
type Phone = Awaited<ReturnType<Hospital["phone"]>>;

const traceOf = async (hospital: Hospital, trackingId: string) =>
  JSON.stringify((await hospital.operator("GET", `/messages/${trackingId}/trace`)).body);

async function pageTo(host: Host, phone: Phone): Promise<string> {
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  return trackingId;
}

/** The page is there for a phone that looks by itself, whatever became of its push. */
async function fetchesAnyway(host: Host, phone: Phone, trackingId: string): Promise<void> {
  const pages = await phone.fetches();
  assert.ok(pages.length > 0, "the page waits for the phone");
  await phone.confirms(pages.map((page) => page.UniqueId));
  await host.awaits(trackingId, "DELIVERED");
}

/** What each way of finding due pushes is tried by, one after the other: the two ways beside each other. */
async function storiesOf(path: string, hospital: Hospital): Promise<{ row: Stories; flooded: () => Promise<void> }> {
  const host = await hospital.host(`faults by ${path}`);
  const pushed = async (phone: Phone, count: number, within = 5_000) =>
    eventually(
      `${count} pushes`,
      async () => (await hospital.pushes(phone.registration.notificationAddress)).length >= count,
      within,
    );
  const script = (fault: object) => hospital.emulator("POST", "/faults", fault);
  const row: Record<string, () => Promise<void>> = {};

  for (const [gatewayType, provider, fault] of [
    ["GCM", "FCM", { status: 404, reason: "UNREGISTERED" }],
    ["APNS", "APNS", { status: 410, reason: "Unregistered", timestamp: Date.now() + 60_000 }],
  ] as const) {
    row[`a dead ${provider} token is cleared, the page is fetched all the same and its trace says so (${path})`] =
      async () => {
        const phone = await hospital.phone({ gatewayType });
        const token = phone.registration.notificationAddress;
        await script({ provider, token, ...fault });
        const trackingId = await pageTo(host, phone);
        const trace = await eventually("the trace tells of the push", async () => {
          const text = await traceOf(hospital, trackingId);
          return /DEAD/.test(text) && text;
        });
        assert.match(trace, new RegExp(fault.reason));
        const later = await host.sends({ destination: phone.person.destination });
        await host.expects(later, "ACCEPTED", "QUEUED");
        await eventually("the second page knows there is nobody to wake", async () =>
          /live notification address/.test(await traceOf(hospital, later)),
        );
        await hospital.emulator("DELETE", "/faults");
        await fetchesAnyway(host, phone, trackingId);
        await host.awaits(later, "DELIVERED");
        await phone.changesAddress();
      };
  }

  row[`a death reported of an address from before its renewal does not silence the phone (${path})`] = async () => {
    const phone = await hospital.phone({ gatewayType: "APNS" });
    await script({
      provider: "APNS",
      token: phone.registration.notificationAddress,
      status: 410,
      reason: "Unregistered",
      timestamp: Date.now() - 3_600_000,
      times: 1,
    });
    const first = await pageTo(host, phone);
    await eventually("the report came", async () => /DEAD/.test(await traceOf(hospital, first)));
    await pageTo(host, phone);
    await pushed(phone, 1);
    const pages = await phone.fetches();
    await phone.confirms(pages.map((page) => page.UniqueId));
  };

  row[`what the service asks to be tried again later is tried again by the queue, not before (${path})`] = async () => {
    for (const [gatewayType, fault] of [
      ["GCM", { provider: "FCM", status: 503, reason: "UNAVAILABLE", retryAfter: 2 }],
      ["APNS", { provider: "APNS", status: 429, reason: "TooManyRequests", retryAfter: 2 }],
    ] as const) {
      const phone = await hospital.phone({ gatewayType });
      await script({ ...fault, token: phone.registration.notificationAddress, times: 1 });
      const begun = performance.now();
      const trackingId = await pageTo(host, phone);
      await pushed(phone, 1, 8_000);
      assert.ok(performance.now() - begun >= 1_900, "it waited as long as it was asked to");
      await eventually("both tries are in the trace", async () =>
        /attempt 2/.test(await traceOf(hospital, trackingId)),
      );
      await fetchesAnyway(host, phone, trackingId);
    }
  };

  row[`a push that was put off is not sent any more once the phone has fetched, and a later page's is (${path})`] =
    async () => {
      const phone = await hospital.phone();
      const token = phone.registration.notificationAddress;
      await script({ provider: "FCM", token, status: 503, reason: "UNAVAILABLE", retryAfter: 2, times: 1 });
      const trackingId = await pageTo(host, phone);
      await eventually("it was put off", async () => /attempt 1/.test(await traceOf(hospital, trackingId)));
      await fetchesAnyway(host, phone, trackingId);
      await eventually("it is settled", async () => /PUSH SETTLED/.test(await traceOf(hospital, trackingId)), 10_000);
      assert.equal(await hospital.pushes(token), []);
      const later = await pageTo(host, phone);
      await pushed(phone, 1);
      await fetchesAnyway(host, phone, later);
    };

  row[`pages that come while a push is put off share one push, which goes out at once (${path})`] = async () => {
    const phone = await hospital.phone();
    const token = phone.registration.notificationAddress;
    await script({ provider: "FCM", token, status: 503, reason: "UNAVAILABLE", retryAfter: 20, times: 1 });
    const first = await pageTo(host, phone);
    await eventually("it was put off", async () => /attempt 1/.test(await traceOf(hospital, first)));
    const second = await pageTo(host, phone);
    await pushed(phone, 1, 8_000);
    for (const trackingId of [first, second])
      await eventually("its trace tells of the push that went out", async () =>
        /FCM accepted the wake-up.*PUSH SENT/.test(await traceOf(hospital, trackingId)),
      );
    assert.match(await traceOf(hospital, first), /PUSH SUPERSEDED/);
    assert.is((await hospital.pushes(token)).length, 1);
    await fetchesAnyway(host, phone, first);
  };

  row[`a push cut off, left without an answer's end or met by GOAWAY goes out again (${path})`] = async () => {
    for (const [gatewayType, fault] of [
      ["GCM", { provider: "FCM", action: "cut" }],
      ["APNS", { provider: "APNS", action: "cut" }],
      ["APNS", { provider: "APNS", action: "goaway" }],
    ] as const) {
      const phone = await hospital.phone({ gatewayType });
      await script({ ...fault, token: phone.registration.notificationAddress, times: 1 });
      const trackingId = await pageTo(host, phone);
      await pushed(phone, 1, 10_000);
      await fetchesAnyway(host, phone, trackingId);
    }
  };

  row[`a push that will never be taken raises an alarm, and its page is fetched and delivered (${path})`] =
    async () => {
      const phone = await hospital.phone({ gatewayType: "APNS" });
      await script({
        provider: "APNS",
        token: phone.registration.notificationAddress,
        status: 400,
        reason: "BadTopic",
      });
      const trackingId = await pageTo(host, phone);
      await eventually("the operator is told", () => /push refused[^\n]*|BadTopic/.test(hospital.node.said()));
      assert.match(await traceOf(hospital, trackingId), /BadTopic/);
      await fetchesAnyway(host, phone, trackingId);
    };

  async function flooded(): Promise<void> {
    for (const fault of [
      { provider: "FCM", delayMs: 8_000 },
      { provider: "FCM", status: 429, reason: "QUOTA_EXCEEDED" },
      { provider: "FCM", status: 401, reason: "THIRD_PARTY_AUTH_ERROR" },
    ]) {
      const slow = await hospital.phone({ gatewayType: "GCM" });
      const quick = await hospital.phone({ gatewayType: "APNS" });
      await script(fault);
      await Promise.all(Array.from({ length: 150 }, () => host.sends({ destination: slow.person.destination })));
      const begun = performance.now();
      await pageTo(host, quick);
      await pushed(quick, 1, 3_000);
      assert.ok(performance.now() - begun < 3_000);
      await hospital.emulator("DELETE", "/faults");
      for (const phone of [slow, quick]) {
        for (let pages = await phone.fetches(); pages.length > 0; pages = await phone.fetches())
          await phone.confirms(pages.map((page) => page.UniqueId));
      }
    }
  }
  return { row, flooded };
}

const tried = await Promise.all(
  Object.entries(hospitals).map(async ([path, hospital]) => ({ path, ...(await storiesOf(path, hospital)) })),
);
inRows(tried.map(({ row }) => row));
// Each by itself: it has much to do, and a time is promised.
for (const { path, flooded } of tried)
  test(`a slow or flooded FCM, or one whose credentials are refused, delays no APNs push (${path})`, flooded);

test.after(async () => {
  for (const hospital of Object.values(hospitals)) await hospital.close();
  await redis.close();
});
test.run();
