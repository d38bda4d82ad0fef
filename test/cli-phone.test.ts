/** The phone's side, against an HTTP peer with an inbox and a push stream. */
import { mkdtempSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { callsOf, freshAddress, type Registration } from "../cli/phone-client.ts";
import { openPhone, type PhoneEvents } from "../cli/phone-session.ts";
import { readStored, store } from "../cli/phone-store.ts";
import { ServerRefused } from "../sdk/index.ts";
import { eventually } from "./helpers/eventually.ts";
import { type MessagingPeer, openMessagingPeer } from "./helpers/messaging-peer.ts";
import { registerPhone } from "./helpers/phone.ts";

const request = { siteId: "5e1f0000-0000-4000-8000-000000000001", destination: "1001", registrationCode: "code" };

async function withPeer(
  use: (peer: MessagingPeer) => Promise<void>,
  options: { streams?: boolean } = {},
): Promise<void> {
  const peer = await openMessagingPeer(options);
  try {
    await use(peer);
  } finally {
    await peer.close();
  }
}

async function registered(peer: MessagingPeer, more: { confirms?: boolean } = {}): Promise<Registration> {
  return (await registerPhone({ url: peer.url, ...request, ...more })).registration;
}

type Seen = { pages: string[]; states: string[]; refused: string[]; reported: string[] };

async function switchOn(peer: MessagingPeer, registration: Registration, emulator = true) {
  const seen: Seen = { pages: [], states: [], refused: [], reported: [] };
  const power = new AbortController();
  let url = peer.url;
  const events: PhoneEvents = {
    onPage: (page) => void seen.pages.push(page.Text),
    onState: (state) => void seen.states.push(state),
    onRefused: (reason) => void seen.refused.push(reason),
    onReported: (report) => void seen.reported.push(report.kind === "status" ? report.status : "reply"),
  };
  const session = openPhone(
    { registration, server: () => ({ url }), emulatorUrl: () => (emulator ? url : null), signal: power.signal },
    events,
  );
  return {
    seen,
    session,
    moves: (to: string) => {
      url = to;
    },
    async off() {
      power.abort();
      return session.ended;
    },
  };
}

test("registers as the device it is, and speaks with its token from then on", () =>
  withPeer(async (peer) => {
    const android = await registerPhone({ url: peer.url, ...request });
    const apple = await registerPhone({ url: `${peer.url}/`, ...request, gatewayType: "APNS", confirms: false });
    await apple.fetches();
    const [first, second, third] = peer.calls.map(({ fields }) => fields);
    assert.is(first?.deviceType, "ANDROID");
    assert.is(first?.confirms, true);
    assert.is(first?.notificationAddress, android.registration.notificationAddress);
    assert.is(first?.authorization, undefined);
    assert.is(second?.deviceType, "IOS");
    assert.is(second?.gatewayType, "APNS");
    assert.is(second?.confirms, false);
    assert.is(third?.vendorId, apple.registration.vendorId);
    assert.is(third?.authorization, `Bearer ${apple.registration.deviceToken}`);
  }));

test("an APNs address is 32 bytes in hexadecimal, an FCM one is opaque, and none comes twice", () => {
  assert.match(freshAddress("APNS"), /^[0-9a-f]{64}$/);
  assert.match(freshAddress("GCM"), /^[\w:-]{100,}$/);
  assert.is.not(freshAddress("GCM"), freshAddress("GCM"));
});

test("a refusal is an error that holds the server's code and how long to wait", () =>
  withPeer(async (peer) => {
    const { call } = callsOf(() => peer, await registered(peer));
    const body = { ResponseCode: 7, ResponseDescription: "Too many" };
    peer.answers("GetMessages", { status: 429, body, headers: { "retry-after": "2" } });
    const error = await call("GetMessages", {}).catch((fault: unknown) => fault);
    assert.instance(error, ServerRefused);
    const { httpStatus, responseCode, retryAfterMs, message } = error as ServerRefused;
    assert.equal({ httpStatus, responseCode, retryAfterMs }, { httpStatus: 429, responseCode: 7, retryAfterMs: 2_000 });
    assert.match(message, /GetMessages was refused \(HTTP 429: Too many\)/);
  }));

test("HTTP 200 with a ResponseCode other than 0 is a refusal too", () =>
  withPeer(async (peer) => {
    const { call } = callsOf(() => peer, await registered(peer));
    peer.answers("GetMessages", { status: 200, body: { ResponseCode: 8 } });
    assert.instance(await call("GetMessages", {}).catch((fault: unknown) => fault), ServerRefused);
  }));

test("a phone that is on wakes at a push, fetches and confirms", () =>
  withPeer(async (peer) => {
    const { seen, off } = await switchOn(peer, await registered(peer));
    await eventually(
      "it listens for pushes and is online",
      () => peer.listening().length === 1 && seen.states.includes("online"),
    );
    peer.waits("Code blue");
    const before = peer.calls.length;
    peer.pushes();
    await eventually("the page is shown", () => seen.pages.includes("Code blue"), 4_000);
    await eventually("it is confirmed", () =>
      peer.calls.slice(before).some(({ fields }) => fields.confirm !== undefined),
    );
    assert.is(await off(), "off");
  }));

test("a push that came while nobody listened is made good when the stream is back", () =>
  withPeer(async (peer) => {
    const { seen, off } = await switchOn(peer, await registered(peer));
    await eventually("it listens", () => peer.listening().length === 1 && seen.states.includes("online"));
    const fetched = peer.calls.length;
    peer.cutsStreams();
    await eventually("it looks once at the loss", () => peer.calls.length > fetched);
    peer.waits("missed");
    await eventually("the page is shown without a push", () => seen.pages.includes("missed"), 3_000);
    await off();
  }));

test("an emulator without a stream is polled", () =>
  withPeer(
    async (peer) => {
      const { seen, off } = await switchOn(peer, await registered(peer));
      await eventually("it is online", () => seen.states.includes("online"));
      await sleep(500);
      peer.waits("polled");
      peer.pushes();
      await eventually("the page is shown", () => seen.pages.includes("polled"), 15_000);
      await off();
    },
    { streams: false },
  ));

test("without an emulator it looks by itself every few seconds", () =>
  withPeer(async (peer) => {
    const { seen, off } = await switchOn(peer, await registered(peer), false);
    await eventually("it is online", () => seen.states.includes("online"));
    peer.waits("looked for");
    await eventually("the page is shown", () => seen.pages.includes("looked for"), 15_000);
    await off();
  }));

test("receipts go out in order, each once", () =>
  withPeer(async (peer) => {
    const { seen, session, off } = await switchOn(peer, await registered(peer));
    for (const status of ["READ", "READ", "ACKNOWLEDGED"] as const) session.report("a", status);
    await eventually("both are reported", () => seen.reported.length === 2);
    assert.equal(peer.receipts, ["a READ", "a ACKNOWLEDGED"]);
    await off();
  }));

test("a receipt that could not be sent is sent when the server is back, with the clientId it had", () =>
  withPeer(async (peer) => {
    const { seen, session, off } = await switchOn(peer, await registered(peer));
    await eventually("it is online", () => seen.states.includes("online"));
    peer.answers("SetStatus", { status: 503, body: {} });
    session.report("a", "READ");
    await eventually("it is reported", () => peer.receipts.length === 1);
    await eventually("it is online again", () => seen.states.length === 3);
    assert.equal(seen.states, ["online", "offline", "online"]);
    const [first, second] = peer.calls
      .filter(({ operation }) => operation === "SetStatus")
      .map(({ fields }) => fields.statuses);
    assert.equal(first, second);
    await off();
  }));

test("a receipt that the server is too busy for is sent later, not dropped", () =>
  withPeer(async (peer) => {
    const { seen, session, off } = await switchOn(peer, await registered(peer));
    await eventually("it is online", () => seen.states.includes("online"));
    peer.answers("SetStatus", { status: 429, body: {}, headers: { "retry-after": "0" } });
    session.report("a", "READ");
    await eventually("it is reported", () => peer.receipts.length === 1);
    assert.equal(seen.refused, []);
    await off();
  }));

test("a receipt the server will never take is told and takes no other with it", () =>
  withPeer(async (peer) => {
    const { seen, session, off } = await switchOn(peer, await registered(peer));
    await eventually("it is online", () => seen.states.includes("online"));
    const refusal = { status: 400, body: { ResponseCode: 1, ResponseDescription: "not well-formed" } };
    peer.answers("SetStatus", refusal); // Of both together,
    peer.answers("SetStatus", refusal); // then of the first alone.
    session.report("a", "READ");
    session.report("b", "READ");
    await eventually("the other is reported", () => peer.receipts.length === 1);
    assert.equal(peer.receipts, ["b READ"]);
    assert.equal(seen.refused, ["SetStatus was refused (HTTP 400: not well-formed)"]);
    await off();
  }));

test("a server that is away and comes back elsewhere is found, and what waited is shown", async () => {
  const first = await openMessagingPeer();
  const second = await openMessagingPeer();
  const { seen, moves, off } = await switchOn(first, await registered(first));
  await eventually("it is online", () => seen.states.includes("online"));
  await first.close();
  await sleep(300);
  second.waits("after the restart");
  moves(second.url);
  await eventually("the page is shown", () => seen.pages.includes("after the restart"), 10_000);
  assert.is(await off(), "off");
  await second.close();
});

test("a registration the server no longer knows ends the session", () =>
  withPeer(async (peer) => {
    peer.answers("GetMessages", { status: 401, body: { ResponseCode: 4 } });
    const { session } = await switchOn(peer, await registered(peer));
    assert.is(await session.ended, "unregistered");
  }));

test("the tests' phone is woken, knows its page by its text, and listens at its new address", () =>
  withPeer(async (peer) => {
    const phone = await registerPhone({ url: peer.url, ...request });
    phone.wakesOnPush(peer.url);
    peer.waits("Code blue");
    peer.pushes();
    const page = await phone.expectsPage("Code blue");
    await phone.reads(page);
    await phone.answers(page, "ACKNOWLEDGED");
    assert.equal(peer.receipts, [`${page.UniqueId} READ`, `${page.UniqueId} ACKNOWLEDGED`]);
    const address = await phone.changesAddress();
    assert.is.not(address, phone.registration.notificationAddress);
    await eventually("it listens there", () => peer.listening().includes(address));
    peer.pushes();
    await eventually("it is woken there", () => phone.wakeUps() > 0);
    const missing = await phone.expectsPage("Code red", { within: 50 }).catch((fault: Error) => fault.message);
    assert.match(String(missing), /did not come about/);
    await phone.switchesOff();
  }));

test("a registration is kept for its user alone, under a name no destination can turn into a path", () => {
  const folder = join(mkdtempSync(join(tmpdir(), "tocsin-phone-")), "data");
  const registration: Registration = {
    destination: "../../etc/1001",
    vendorId: "v",
    deviceToken: "secret",
    notificationAddress: "a",
    gatewayType: "GCM",
    confirms: true,
  };
  assert.is(readStored(folder, registration.destination), null);
  store(folder, registration);
  assert.equal(readStored(folder, registration.destination), { pid: process.pid, registration });
  const file = join(folder, "phone-..%2F..%2Fetc%2F1001.json");
  assert.match(readFileSync(file, "utf8"), /secret/);
  assert.is(statSync(file).mode & 0o777, 0o600);
});

test.run();
