// limit: 180 s
/** Each promise of client messaging (CONTRACT), kept by a running node. */
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";

const hospital = await openHospital();
const { url } = hospital.node.run();
const host = await hospital.host("lab");
const CLIENT = `${url}/ClientMessaging/V2/`;

type Body = Record<string, unknown> & { Messages: { UniqueId: string; Text: string; Status: number }[]; More: boolean };
type Phone = Awaited<ReturnType<typeof hospital.phone>>;

async function ask(operation: string, phone: Phone | null, body: object, method = "POST") {
  const { vendorId, deviceToken } = phone?.registration ?? {};
  const answer = await fetch(`${CLIENT}${operation}`, {
    method,
    headers: {
      ...(phone === null ? {} : { authorization: `Bearer ${deviceToken}` }),
      ...(method === "POST" ? { "content-type": "application/json" } : {}),
    },
    ...(method === "POST" ? { body: JSON.stringify({ vendorId, ...body }) } : {}),
  });
  return {
    status: answer.status,
    retryAfter: answer.headers.get("retry-after"),
    type: answer.headers.get("content-type"),
    body: (await answer.json()) as Body,
  };
}

async function pagesFor(phone: Phone, count: number, text = (n: number) => `page ${n}`): Promise<string[]> {
  const sent: string[] = [];
  for (let n = 0; n < count; n += 1)
    sent.push(
      await host.sends({ destination: phone.person.destination, text: text(n), sentAt: 1_795_255_200_000 + n }),
    );
  for (const trackingId of sent) await host.awaits(trackingId, "ENROUTE", { within: 15_000 });
  return sent;
}
const ids = (body: Body) => body.Messages.map((page) => page.UniqueId);

test("a page is given in the seed's form, to the letter, and with more for clients that ask", async () => {
  const phone = await hospital.phone();
  await host.sends({
    destination: phone.person.destination,
    text: "call ☎",
    priority: "high",
    fromId: "-44",
    fromName: "Lab",
  });
  const { body } = await eventually("the page waits", async () => {
    const answer = await ask("GetMessages", phone, {});
    return answer.body.Messages.length === 1 && answer;
  });
  assert.equal(Object.keys(body), ["ResponseType", "ResponseCode", "ResponseDescription", "Messages", "More"]);
  assert.equal([body.ResponseType, body.ResponseCode, body.ResponseDescription], ["GetMessages", 0, "Success"]);
  const [page] = body.Messages;
  assert.equal(Object.keys(page!), [
    ...[
      "UniqueId",
      "Date",
      "Text",
      "Status",
      "SiteId",
      "ConversationId",
      "CallbackNumber",
      "Priority",
      "MessageType",
      "Assets",
    ],
    "From",
  ]);
  assert.equal(
    { ...page, UniqueId: "", Date: "", SiteId: "", ConversationId: "", MessageType: "" },
    {
      ...{
        UniqueId: "",
        Date: "",
        Text: "call ☎",
        Status: 0,
        SiteId: "",
        ConversationId: "",
        CallbackNumber: "",
        Priority: 1,
      },
      ...{ MessageType: "", Assets: [], From: { Id: "-44", Name: "Lab", ContactId: "" } },
    },
  );
  const more = (await ask("GetMessages", phone, { v: 3 })).body.Messages[0]!;
  assert.equal(Object.keys(more).slice(11), ["ResponseChoices", "ReceivedAt", "Late", "ExpiresAt"]);
});

test("Status says whether the page was read or answered, by whichever of the person's phones", async () => {
  const one = await hospital.phone();
  const other = await hospital.phone({ person: one.person });
  await pagesFor(one, 1);
  const status = async () => (await ask("GetMessages", other, {})).body.Messages[0]!.Status;
  const [uniqueId] = ids((await ask("GetMessages", one, {})).body);
  assert.is(await status(), 0);
  await one.reports(uniqueId!, "READ");
  assert.is(await status(), 1);
  await one.reports(uniqueId!, "ACKNOWLEDGED");
  assert.is(await status(), 2);
});

test("limit bounds an answer, More says whether there is more, and confirming brings the rest", async () => {
  const phone = await hospital.phone();
  const sent = await pagesFor(phone, 5);
  const seen: string[] = [];
  let confirm: string[] = [];
  for (const [count, more] of [
    [2, true],
    [2, true],
    [1, false],
    [0, false],
  ] as const) {
    const { body } = await ask("GetMessages", phone, { confirm, limit: 2 });
    assert.equal([body.Messages.length, body.More], [count, more]);
    confirm = ids(body);
    seen.push(...body.Messages.map(({ Text }) => Text));
  }
  assert.equal(seen, ["page 0", "page 1", "page 2", "page 3", "page 4"], "oldest first");
  for (const trackingId of sent) await host.awaits(trackingId, "DELIVERED");
  for (const limit of [0, 101, -1, 1.5, "2", null])
    assert.is((await ask("GetMessages", phone, { limit })).status, 400, `limit ${limit}`);
  assert.is((await ask("GetMessages", phone, { limit: 100 })).status, 200);
});

test("without a limit 100 pages come at once, most urgent first, and of long texts so many as one answer should hold", async () => {
  const phone = await hospital.phone();
  await pagesFor(phone, 103);
  const urgent = await host.sends({ destination: phone.person.destination, text: "urgent", priority: "high" });
  await host.awaits(urgent, "ENROUTE");
  const first = (await ask("GetMessages", phone, {})).body;
  assert.equal([first.Messages.length, first.More, first.Messages[0]!.Text], [100, true, "urgent"]);
  const rest = (await ask("GetMessages", phone, { confirm: ids(first) })).body;
  assert.equal([rest.Messages.length, rest.More], [4, false]);
  await phone.confirms(ids(rest));

  await pagesFor(phone, 21, (n) => `${n} ${"x".repeat(49_990)}`);
  const long = (await ask("GetMessages", phone, {})).body;
  assert.equal([long.Messages.length, long.More], [20, true]);
  const last = (await ask("GetMessages", phone, { confirm: ids(long) })).body;
  assert.equal([last.Messages.length, last.More], [1, false]);
});

test("a phone that does not confirm comes to the end of its pages by asking for as long as there is more", async () => {
  const phone = await hospital.phone({ confirms: false });
  const sent = await pagesFor(phone, 7);
  const seen = new Set<string>();
  await eventually("it has them all", async () => {
    const { body } = await ask("GetMessages", phone, { limit: 2 });
    for (const id of ids(body)) seen.add(id);
    return !body.More && body.Messages.length === 0;
  });
  assert.is(seen.size, 7);
  for (const trackingId of sent) await host.awaits(trackingId, "DELIVERED");
});

test("what was confirmed is not given again, and pages of others in the list change nothing", async () => {
  const [phone, other] = [await hospital.phone(), await hospital.phone()];
  await pagesFor(phone, 1);
  await pagesFor(other, 1);
  const [mine] = ids((await ask("GetMessages", phone, {})).body);
  const [theirs] = ids((await ask("GetMessages", other, {})).body);
  const { body } = await ask("GetMessages", phone, { confirm: [mine!.toUpperCase(), mine, theirs, randomUUID()] });
  assert.equal([body.Messages, body.More], [[], false]);
  assert.equal(ids((await ask("GetMessages", other, {})).body), [theirs]);
});

test("GetSettings tells what Register told: where to fetch from", async () => {
  const person = await hospital.person();
  const form = {
    ...{ siteId: hospital.siteId, destination: person.destination, registrationCode: person.registrationCode },
    ...{ deviceType: "WEB", deviceOS: "x", clientVersion: "1", notificationAddress: randomUUID(), gatewayType: "GCM" },
  };
  const registered = await ask("Register", null, form);
  assert.equal(Object.keys(registered.body).slice(3), ["VendorId", "DeviceToken", "Settings"]);
  const phone = await hospital.phone();
  const { status, body } = await ask("GetSettings", phone, {});
  assert.equal([status, body.ResponseType, body.ResponseCode], [200, "GetSettings", 0]);
  assert.equal(body.Settings, registered.body.Settings);
  assert.equal((body.Settings as { ClientMessagingUrls: string[] }).ClientMessagingUrls, [url]);
});

test("after UpdateNotificationAddress the phone is woken at its new address alone", async () => {
  const phone = await hospital.phone();
  const old = phone.registration.notificationAddress;
  const fresh = `fresh-${randomUUID()}`;
  const { status, body } = await ask("UpdateNotificationAddress", phone, {
    ...{ notificationAddress: fresh, gatewayType: "GCM" },
  });
  assert.equal([status, body.ResponseType, body.ResponseCode], [200, "UpdateNotificationAddress", 0]);
  await pagesFor(phone, 1);
  await eventually("it was woken", async () => (await hospital.pushes(fresh)).length > 0);
  assert.is((await hospital.pushes(old)).length, 0);
  const unreachable = await ask("UpdateNotificationAddress", phone, {
    notificationAddress: "x",
    gatewayType: "WEBPUSH",
  });
  assert.equal([unreachable.status, unreachable.body.ResponseCode], [400, 3]);
});

test("an unregistered phone's token opens no operation, and its pages are its person's other phone's", async () => {
  const phone = await hospital.phone();
  const other = await hospital.phone({ person: phone.person });
  const [trackingId] = await pagesFor(phone, 1);
  const [uniqueId] = ids((await ask("GetMessages", phone, {})).body);
  const { status, body } = await ask("Unregister", phone, {});
  assert.equal([status, body], [200, { ResponseType: "Unregister", ResponseCode: 0, ResponseDescription: "Success" }]);
  for (const [operation, more] of [
    ["GetMessages", {}],
    ["SetStatus", { statuses: [{ uniqueId, status: "ACKNOWLEDGED" }] }],
    ["GetSettings", {}],
    ["UpdateNotificationAddress", { notificationAddress: "x", gatewayType: "GCM" }],
    ["Unregister", {}],
  ] as const) {
    assert.is((await ask(operation, phone, more)).status, 401, operation);
  }
  assert.equal(ids((await ask("GetMessages", other, {})).body), [uniqueId]);
  assert.equal(host.statuses(trackingId!), ["ACCEPTED", "QUEUED", "ENROUTE"]);
});

test("operations this server does not offer, and those nobody knows, are refused in the phones' own form", async () => {
  const phone = await hospital.phone();
  for (const [operation, method, type, code] of [
    ["SendMessage", "POST", "SendMessage", 11],
    ["SearchContacts", "POST", "SearchContacts", 11],
    ["Stream", "GET", "Stream", 17],
    ["Stream?token=x", "GET", "Stream", 17],
    ["GetEverything", "POST", "Unknown", 9],
    ["getmessages", "POST", "Unknown", 9],
    ["GetMessages/1", "POST", "Unknown", 9],
    ["GetMessages", "GET", "GetMessages", 9],
    ["", "GET", "Unknown", 9],
  ] as const) {
    const answer = await ask(operation, phone, { text: "x" }, method);
    assert.equal(
      [answer.status, answer.body.ResponseType, answer.body.ResponseCode, answer.type],
      [code === 17 ? 426 : 404, type, code, "application/json; charset=utf-8"],
      `${method} ${operation}`,
    );
  }
});

test("a phone in a loop is told to wait, others are not, and it may go on when it has waited", async () => {
  const [looping, other] = [await hospital.phone(), await hospital.phone()];
  const statuses: number[] = [];
  let refused: Awaited<ReturnType<typeof ask>> | null = null;
  for (let round = 0; round < 60 && refused === null; round += 1) {
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask("GetMessages", looping, {})));
    statuses.push(...answers.map(({ status }) => status));
    refused = answers.find(({ status }) => status !== 200) ?? null;
  }
  assert.ok(statuses.filter((status) => status === 200).length >= 600, "more than any burst of pages needs");
  assert.equal([refused?.status, refused?.body.ResponseCode, refused?.body.ResponseType], [429, 12, "GetMessages"]);
  // A call is good again every 50 ms; of all that were asked together one asked behind them knows how long it is.
  const report = () => ask("SetStatus", looping, { statuses: [] });
  const last = await eventually("it is refused whatever it calls", async () => {
    await Promise.all(Array.from({ length: 20 }, report));
    const answer = await report();
    return answer.status === 429 && answer;
  });
  const seconds = Number(last.retryAfter);
  assert.ok(seconds >= 1 && seconds <= 11, `Retry-After: ${last.retryAfter}`);
  assert.is((await ask("GetMessages", other, {})).status, 200);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  assert.is((await ask("GetMessages", looping, {})).status, 200);
});

test("a phone that says thousands of receipts at once is told to wait, and nobody else's wait for them", async () => {
  const [flooding, other] = [await hospital.phone(), await hospital.phone()];
  const statuses = () => Array.from({ length: 500 }, () => ({ uniqueId: randomUUID(), status: "READ" }));
  // While receipts wait for the database, those of two calls are under way.
  const sql = postgres(hospital.databaseUrl, { max: 1, onnotice: () => {} });
  const calls = await sql.begin(async (transaction) => {
    await transaction`lock table premise_core.messages in access exclusive mode`;
    const sent = Array.from({ length: 20 }, () => ask("SetStatus", flooding, { statuses: statuses() }));
    let refused = 0;
    for (const call of sent) void call.then(({ status }) => (refused += status === 429 ? 1 : 0));
    await eventually("all but two are refused", () => refused === sent.length - 2, 4_000);
    return [...sent, ask("SetStatus", other, { statuses: [{ uniqueId: randomUUID(), status: "READ" }] })].map(
      (call) => [call],
    );
  });
  await sql.end({ timeout: 1 });
  const statusesNow = await Promise.all(calls.map(async ([call]) => (await call!).status));
  assert.equal([statusesNow.filter((status) => status === 200).length, statusesNow.at(-1)], [3, 200]);
  assert.is(
    (await ask("SetStatus", flooding, { statuses: statuses() })).status,
    200,
    "one call at a time always passes",
  );
});

test("one person's code does not register phones without end", async () => {
  const [person, other] = [await hospital.person(), await hospital.person()];
  const registers = ({ destination, registrationCode }: typeof person) =>
    ask("Register", null, {
      ...{ siteId: hospital.siteId, destination, registrationCode, deviceType: "ANDROID", deviceOS: "16" },
      ...{ clientVersion: "1", notificationAddress: randomUUID(), gatewayType: "GCM" },
    });
  const answers = [];
  for (let n = 0; n < 25; n += 1) answers.push(await registers(person));
  assert.equal(
    answers.map(({ status }) => status),
    [...Array(20).fill(200), ...Array(5).fill(429)],
  );
  assert.equal(answers.at(-1)!.body.ResponseCode, 12);
  assert.ok(Number(answers.at(-1)!.retryAfter) >= 1);
  assert.is((await registers(other)).status, 200);
});

test.after(() => hospital.close());
test.run();
