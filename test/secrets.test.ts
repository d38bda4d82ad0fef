// limit: 180 s
/**
 * No text, name or secret leaves by a way that is not its own. One node at debug level lives through pages of every kind,
 * whatever can be wrong with what it is sent, failing pushes, and servers that die or quote what they were given; all that
 * others could read of it is captured meanwhile, and searched. The same word planted in each of those places is found there.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { HostEncoding } from "../cli/host-client.ts";
import { freshAddress } from "../cli/phone-client.ts";
import { PRIORITIES } from "../domain.ts";
import { eventually } from "./helpers/eventually.ts";
import { connectHost } from "./helpers/host.ts";
import { brokenDocuments, refusedDocuments } from "./helpers/marked-documents.ts";
import { openMarkedHospital } from "./helpers/marked-hospital.ts";
import { wrongRequests } from "./helpers/marked-requests.ts";
import { makeQuoting } from "./helpers/quoting-database.ts";
import { leaks, marked } from "./helpers/secrets.ts";

const house = await openMarkedHospital();
const { hospital, marks, page, phone, asks, posts } = house;
const { node } = hospital;
/** The machine may have much else to do; nothing here is about speed. */
const SLOW = { within: 20_000 };

test("pages of every priority and encoding reach their phones, with replies by choice, repeats and receipts", async () => {
  for (const [encoding, gatewayType, confirms] of [
    ["utf-8", "GCM", true],
    ["utf-16", "APNS", true],
    ["utf-16-label", "GCM", false],
  ] as const) {
    const host = await hospital.host(`ward-${encoding}`, { encoding, securityCode: marks.key });
    const pager = await phone(gatewayType, confirms);
    pager.wakesOnPush(node.run().emulatorUrl);
    for (const priority of [...PRIORITIES, "1", "STAT", ""]) {
      const sent = page(pager.person.destination, { priority, responseChoices: [`${marks.choice} yes`, marks.choice] });
      const sentAt = Date.now();
      const as: HostEncoding = encoding === "utf-8" ? "utf-8" : "utf-16";
      const trackingId = await host.sends({ ...sent, sentAt }, as);
      const got = await pager.expectsPage(sent.text, SLOW);
      assert.is(got.From.Name, sent.fromName);
      await host.sends({ ...sent, sentAt, trackingId }, as);
      await host.sends({ ...sent, sentAt, trackingId, text: `${sent.text} again` }, as);
      await pager.expectsPage(`${sent.text} again`, SLOW);
      await pager.reads(got);
      await pager.replies(got.UniqueId, { text: `${marks.reply} on my way` });
      await pager.replies(got.UniqueId, { choice: marks.choice });
      await pager.answers(got, "ACKNOWLEDGED");
      await host.awaits(trackingId, "ACKNOWLEDGED", SLOW);
      await host.awaitsReplies(trackingId, 2, SLOW);
    }
    await pager.changesAddress().then(house.address);
    await pager.unregisters();
  }
});

test("what is wrong with a host's document is answered, counted or ends its connection", async () => {
  const host = await hospital.host("clumsy");
  const { destination } = (await phone()).person;
  const refused = refusedDocuments(marks.wrong, { origin: "clumsy", destination });
  for (const { bytes } of refused) await host.sendsRaw(bytes);
  const good = await host.sends(page(destination));
  await host.awaits(good, "QUEUED", SLOW);
  const reasons = host.hears().flatMap(({ reason }) => (reason === null ? [] : [reason]));
  assert.ok(reasons.length >= 12, reasons.join("\n"));
  house.answered(...reasons);
  for (const { what, bytes } of brokenDocuments(marks.wrong, { origin: "clumsy", destination })) {
    const broken = await connectHost({ port: node.run().mxpp!.port, name: "clumsy" });
    await broken.sendsRaw(bytes).catch(() => {});
    const ended = await Promise.race([broken.gone.then(() => true), sleep(5_000).then(() => false)]);
    assert.ok(ended, what);
  }
});

test("what is wrong with a phone's or an operator's request is answered", async () => {
  const { registration, person: someone } = await phone();
  const known = { siteId: hospital.siteId, adminKey: node.adminKey, person: someone, registration };
  const headers = { "user-agent": marks.http, "x-forwarded-for": marks.http, cookie: `${marks.http}=${marks.key}` };
  for (const { status, path, bearer, body } of wrongRequests(marks, known))
    assert.is(await posts(path, bearer, body, headers), status, path);
  for (const bytes of [`${marks.http} ${marks.http}\r\n\r\n`, `GET /${marks.inUrl} HTTP/1.1\r\n${marks.http}\r\n\r\n`])
    await house.askRaw(bytes);
});

const FAULTS = [
  { provider: "FCM", status: 404, reason: "UNREGISTERED" },
  { provider: "FCM", reason: "INVALID_ARGUMENT", field: "message.token" },
  { provider: "FCM", status: 429, reason: "QUOTA_EXCEEDED", retryAfter: 1 },
  { provider: "FCM", status: 403, reason: "SENDER_ID_MISMATCH" },
  { provider: "FCM", status: 502 },
  { provider: "FCM", reason: "UNAUTHENTICATED" },
  { provider: "FCM", action: "cut" },
  { provider: "FCM", delayMs: 1_000 },
  { provider: "APNS", status: 410, reason: "Unregistered", timestamp: Date.now() + 60_000 },
  { provider: "APNS", status: 429, reason: "TooManyRequests", retryAfter: 1 },
  { provider: "APNS", reason: "BadDeviceToken" },
  { provider: "APNS", reason: "BadTopic" },
  { provider: "APNS", reason: "ExpiredProviderToken" },
  { provider: "APNS", action: "goaway" },
  { provider: "APNS", action: "cut" },
] as const;

test("pushes that fail in every way are tried again or given up, and their pages fetched", async () => {
  const host = await hospital.host("night");
  const meets = async (fault: { readonly provider: string; readonly reason?: string }) => {
    const pager = await phone(fault.provider === "FCM" ? "GCM" : "APNS");
    await hospital.emulator("POST", "/faults", { ...fault, token: pager.registration.notificationAddress });
    const trackingId = await host.sends(page(pager.person.destination, { priority: "high" }));
    await eventually(
      `${JSON.stringify(fault)} was met`,
      async () => {
        const { body } = await hospital.operator("GET", `/messages/${trackingId}/trace`);
        return /PUSH/.test(JSON.stringify(body));
      },
      SLOW.within,
    );
    const pages = await pager.fetches();
    await pager.confirms(pages.map(({ UniqueId }) => UniqueId));
    await host.awaits(trackingId, "DELIVERED", SLOW);
    await asks(`/api/v1/messages/${trackingId}/trace`, { headers: { authorization: `Bearer ${node.adminKey}` } });
  };
  await hospital.emulator("POST", "/faults", { provider: "OAUTH", status: 400, reason: "invalid_grant", times: 2 });
  await Promise.all(FAULTS.map(meets));
  await hospital.emulator("DELETE", "/faults");
});

test("a database that quotes what it was given is not repeated", async () => {
  const { refuses } = await makeQuoting(house.sql);
  const host = await hospital.host("quoted");
  const pager = await phone();
  const known = await host.sends(page(pager.person.destination));
  await host.expects(known, "ACCEPTED", "QUEUED", "ENROUTE", SLOW);
  const form = { siteId: hospital.siteId, name: marks.person, destination: "5559999" };
  const [waiting] = await pager.fetches();
  const statuses = [{ uniqueId: waiting!.UniqueId, status: "READ", clientId: marks.http }];
  const { vendorId, deviceToken, gatewayType } = pager.registration;
  const registration = {
    ...{ siteId: hospital.siteId, gatewayType, deviceType: "ANDROID", deviceOS: marks.http, clientVersion: marks.http },
    ...{ destination: pager.person.destination, registrationCode: pager.person.registrationCode },
    notificationAddress: freshAddress(gatewayType),
  };
  house.address(registration.notificationAddress);
  const sends = () => host.sends(page(pager.person.destination));
  await refuses("insert", "premise_core.messages", sends);
  await refuses("update", "premise_core.messages", sends);
  await refuses("insert", "premise_core.notifications", sends);
  await refuses("update", "premise_core.notifications", sends);
  await refuses("insert", "core.message_queue", sends);
  await refuses("insert", "premise_core.refusals", () =>
    host.sends(page(pager.person.destination, { priority: marks.wrong })),
  );
  await refuses("insert", "premise_core.message_history", () =>
    posts("/ClientMessaging/V2/SetStatus", deviceToken, { vendorId, statuses }),
  );
  await refuses("insert", "premise_core.replies", () =>
    posts("/ClientMessaging/V2/Reply", deviceToken, {
      vendorId,
      uniqueId: waiting!.UniqueId,
      clientId: marks.http,
      text: marks.reply,
    }),
  );
  await refuses("insert", "premise_core.devices", () => posts("/ClientMessaging/V2/Register", "", registration));
  await refuses("insert", "meta.registrations", () => posts("/ClientMessaging/V2/Register", "", registration));
  await refuses("insert", "premise_core.subscribers", () => posts("/api/v1/subscribers", node.adminKey, form));
  for (const event of ["a page could not be handled", "client request failed", "request failed", "actor failed"])
    await eventually(`the log tells: ${event}`, () => node.said().includes(`"${event}"`), SLOW.within);
  const later = await sends();
  await host.awaits(later, "ENROUTE", SLOW);
});

test("Postgres and Redis die in mid-traffic, and every page sent meanwhile is delivered", async () => {
  const host = await hospital.host("storm");
  const pagers = [await phone("GCM"), await phone("APNS")];
  for (const pager of pagers) pager.wakesOnPush(node.run().emulatorUrl);
  const sent: string[] = [];
  let stormy = true;
  const traffic = (async () => {
    while (stormy) {
      const pager = pagers[sent.length % pagers.length]!;
      sent.push(await host.sends(page(pager.person.destination, { priority: PRIORITIES[sent.length % 3]! })));
      await sleep(25);
    }
  })();
  await sleep(300);
  await house.server.kill();
  await asks("/readyz");
  await sleep(300);
  await house.server.start();
  await sleep(700);
  await house.redis.kill();
  await sleep(700);
  await house.redis.start();
  await sleep(700);
  stormy = false;
  await traffic;
  for (const trackingId of sent) await host.awaits(trackingId, "DELIVERED", SLOW);
  assert.ok(sent.length > 40, String(sent.length));
});

test("an operator looks at everything, and the word is planted wherever it could be seen", async () => {
  const { planted } = marks;
  const headers = { authorization: `Bearer ${node.adminKey}` };
  for (const path of ["/healthz", "/readyz", "/docs/json", "/start"]) await asks(path);
  for (const list of [
    "messages?limit=200",
    "messages?stuck=true",
    "devices?limit=200",
    "host-systems",
    "cluster",
    "sites",
  ])
    assert.is(await asks(`/api/v1/${list}`, { headers }), 200, list);
  const host = await hospital.host(planted);
  const { destination, registrationCode } = await house.person();
  const registration = {
    ...{ siteId: hospital.siteId, destination, registrationCode, deviceType: "ANDROID", deviceOS: "16" },
    ...{ clientVersion: "1", notificationAddress: `${planted}-address`, gatewayType: "GCM" },
  };
  await hospital.emulator("POST", "/faults", { provider: "FCM", status: 429, retryAfter: 2, times: 1 });
  const answer = await fetch(`${node.run().url}/ClientMessaging/V2/Register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(registration),
  });
  assert.is(answer.status, 200);
  const trackingId = await host.sends({ ...page(destination), trackingId: planted });
  await host.awaits(trackingId, "ENROUTE", SLOW);
  await eventually(
    "its push was recorded",
    async () => (await hospital.pushes(registration.notificationAddress)).length > 0,
    SLOW.within,
  );
  assert.is(await asks(`/api/v1/messages/${planted}/trace`, { headers }), 200);
  assert.match(await house.redis.says(`SET ${planted} ${planted}`), /\+OK\r\n\+OK/);
  process.kill(node.pid(), "SIGUSR2");
  await eventually(
    "the word is seen in every place",
    async () => {
      const captures = (await house.captures())();
      return leaks(captures, [marked("it", planted)]).length === captures.length;
    },
    SLOW.within,
  );
});

test("nothing of it is in any place it does not belong to, and the planted word is found in each", async () => {
  const captured = await house.captures();
  assert.is(await node.stops(), 0);
  const captures = captured();
  const held = captures.find(({ place }) => place === "what Redis held")!.bytes.toString("latin1");
  assert.match(held, /:p-[0-9a-f-]{36}-\d+ hash /, "jobs went through Redis");
  assert.equal(leaks(captures, house.secrets()), []);
  assert.equal(
    leaks(captures, [marked("the planted word", marks.planted)]),
    captures.map(({ place }) => `${place} holds the planted word as it is`),
  );
});

test.after(house.close);
test.run();
