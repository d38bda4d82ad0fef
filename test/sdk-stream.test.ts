// limit: 180 s
/** The TypeScript client listens: over streams that break in every way, each page is shown once and confirmed. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type Client,
  type ClientEvent,
  type ClientOptions,
  openClient,
  type RegisterBody,
  type Session,
} from "../sdk/index.ts";
import { eventually } from "./helpers/eventually.ts";
import { openProxy } from "./helpers/proxy.ts";
import { openStreamPeer, type StreamPeer } from "./helpers/stream-peer.ts";

const form = {
  siteId: "5e1f0000-0000-4000-8000-000000000001",
  ...{ destination: "1001", registrationCode: "code", deviceType: "WEB", deviceOS: "test", clientVersion: "1" },
  ...{ notificationAddress: "a", gatewayType: "GCM" },
} as RegisterBody;

type Phone = {
  readonly client: Client;
  readonly shown: string[];
  readonly events: ClientEvent[];
  states(): string[];
  readonly ended: Promise<string>;
  off(): Promise<string>;
};

const switchedOn = new Set<Session>();

/** Switched on, and listening where that can be. */
async function openPhone(peer: StreamPeer, options: Partial<ClientOptions> = {}): Promise<Phone> {
  const client = await openClient({ servers: [peer.url], pollMs: () => 60_000, ...options });
  await client.device.register(form);
  const shown: string[] = [];
  const events: ClientEvent[] = [];
  const session = client.listen((event) => {
    events.push(event);
    if (event.type === "page") shown.push(event.page.Text);
  });
  switchedOn.add(session);
  const states = () => events.flatMap((event) => (event.type === "state" ? [event.state] : []));
  if (peer.takesStreams) await eventually("it listens", () => states().at(-1) === "listening");
  return {
    ...{ client, shown, events, states, ended: session.ended },
    off() {
      session.close();
      return session.ended;
    },
  };
}

async function withPeer(use: (peer: StreamPeer) => Promise<void>): Promise<void> {
  const peer = await openStreamPeer();
  try {
    await use(peer);
  } finally {
    for (const session of switchedOn) session.close();
    await Promise.all([...switchedOn].map(({ ended }) => ended));
    switchedOn.clear();
    await peer.close();
  }
}

test("1,000 pages over a network that is cut all the time are each shown once, and confirmed", () =>
  withPeer(async (peer) => {
    const proxy = await openProxy({ host: "127.0.0.1", port: peer.port });
    const phone = await openPhone(peer, { servers: [`http://127.0.0.1:${proxy.port}`] });
    const sent: string[] = [];
    let cuts = 0;
    for (let n = 0; n < 1_000; n += 1) {
      sent.push(peer.pages(`page ${n}`).Text);
      if (n % 37 === 36) {
        proxy.cuts();
        cuts += 1;
      }
      // Now and then answers are lost while what was said goes through.
      if (n % 200 === 150) proxy.swallowsAnswers();
      if (n % 200 === 190) proxy.heals();
      await sleep(8);
    }
    proxy.heals();
    await eventually("all are confirmed", () => peer.waiting().length === 0, 60_000);
    assert.is(new Set(phone.shown).size, 1_000);
    assert.is(phone.shown.length, 1_000, "none is shown twice");
    assert.ok(cuts > 20 && phone.states().length > 3, "it was cut indeed");
    await proxy.close();
  }));

test("after a break only what it has not got comes again, and what it has kept is confirmed first", () =>
  withPeer(async (peer) => {
    const phone = await openPhone(peer);
    peer.givesResults = false;
    const [one] = [peer.pages("one"), peer.pages("two")];
    await eventually("both are shown", () => phone.shown.length === 2);
    await eventually("both confirmed", () => peer.frames.filter(({ type }) => type === "confirm").length === 2);
    // As if the confirms had been lost with the connection.
    const again = peer.pages("three", { UniqueId: one.UniqueId });
    assert.is(again.UniqueId, one.UniqueId);
    peer.givesResults = true;
    const before = peer.frames.length;
    peer.cuts();
    await eventually("it is back", () => peer.frames.slice(before).some(({ type }) => type === "resume"), 20_000);
    const [first, second, third] = peer.frames.slice(before);
    assert.equal([first?.type, second?.type, third?.type], ["confirm", "confirm", "resume"]);
    assert.ok(Number(third?.data.seq) >= 2);
    const resumed = peer.pages("four");
    await eventually("the next is shown", () => phone.shown.includes("four"));
    assert.equal(phone.shown, ["one", "two", "four"]);
    await eventually("and confirmed", () => !peer.waiting().includes(resumed.UniqueId));
  }));

test("a phone whose place another has taken ends, and does not fight for it", () =>
  withPeer(async (peer) => {
    const [first, second] = [await openPhone(peer), await openPhone(peer)];
    assert.is(await first.ended, "displaced");
    await sleep(1_500);
    assert.equal([peer.streams(), second.states().at(-1)], [1, "listening"]);
    const calls = peer.calls.length;
    peer.pages("for the second");
    await eventually("it is shown there", () => second.shown.length === 1);
    assert.equal([first.shown, peer.calls.length], [[], calls]);
    assert.is(await second.off(), "closed");
  }));

test("what a person answers at a phone whose place another has goes out by calls, again until it is taken, and once", () =>
  withPeer(async (peer) => {
    const first = await openPhone(peer);
    const { UniqueId } = peer.pages("one");
    await eventually("it is shown", () => first.shown.length === 1);
    const second = await openPhone(peer);
    assert.is(await first.ended, "displaced");
    peer.answers((_, response) => response.writeHead(503).end("{}"));
    await first.client.messages.markRead(UniqueId);
    await first.client.messages.acknowledge(UniqueId);
    const tried = () => peer.calls.filter(({ operation }) => operation === "SetStatus").length;
    await eventually("it has tried", () => tried() >= 3);
    peer.answers(null);
    await eventually("both are taken", () => first.events.filter(({ type }) => type === "reported").length === 2);
    await first.client.messages.ignore(UniqueId);
    await eventually("the next is too", () => peer.said.length === 3);
    const said = ["READ", "ACKNOWLEDGED", "IGNORED"].map((status) => `${status} ${UniqueId}`);
    assert.equal([peer.said.map(({ what }) => what), peer.streams(), second.states().at(-1)], [said, 1, "listening"]);
  }));

test("a phone that the server knows no more ends, whether the stream says so or a call", () =>
  withPeer(async (peer) => {
    const byStream = await openPhone(peer);
    peer.closes(4401);
    assert.is(await byStream.ended, "unregistered");
    const byCall = await openPhone(peer);
    peer.answers((_, response) => response.writeHead(401).end('{"ResponseCode":4}'));
    byCall.client.wake();
    assert.is(await byCall.ended, "unregistered");
  }));

test("a sign-in page of somebody else's network does not unregister a phone", () =>
  withPeer(async (peer) => {
    const phone = await openPhone(peer);
    peer.answers((_, response) => response.writeHead(401, { "content-type": "text/html" }).end("<h1>Sign in</h1>"));
    phone.client.wake();
    await eventually(
      "it has asked",
      () => peer.calls.filter(({ operation }) => operation === "GetMessages").length > 1,
    );
    peer.answers(null);
    peer.pages("still here");
    await eventually("it is shown", () => phone.shown.includes("still here"));
  }));

test("while there is no stream it asks, and what it says goes by calls", () =>
  withPeer(async (peer) => {
    peer.takesStreams = false;
    const phone = await openPhone(peer, { pollMs: () => 100 });
    await eventually("it is polling", () => phone.states().at(-1) === "polling");
    const page = peer.waits("asked for");
    await eventually("it is shown", () => phone.shown.includes("asked for"));
    await phone.client.messages.acknowledge(page.UniqueId);
    await phone.client.messages.reply(page.UniqueId, { text: "On my way" });
    await eventually("both were said", () => peer.said.length === 2);
    assert.equal(
      peer.said.map(({ what, by }) => `${what} ${by}`),
      [`ACKNOWLEDGED ${page.UniqueId} call`, "REPLY On my way call"],
    );
    peer.takesStreams = true;
    await eventually("it listens again", () => phone.states().at(-1) === "listening", 40_000);
    await phone.client.messages.markRead(page.UniqueId);
    await eventually("that went by the stream", () => peer.said.at(-1)?.by === "stream");
    assert.is(phone.client.messages.get(page.UniqueId)?.page.Status, 2);
  }));

test("where the stream takes what is said and never answers, it is said by calls", () =>
  withPeer(async (peer) => {
    const phone = await openPhone(peer);
    peer.givesResults = false;
    await phone.client.messages.reply("a", { choice: "Accept" });
    await eventually("it was said by a call", () => peer.said.some(({ by }) => by === "call"), 20_000);
    assert.is(new Set(peer.said.map(({ clientId }) => clientId)).size, 1, "known by its clientId");
  }));

test("a page whose keeping fails is not confirmed, and comes again", () =>
  withPeer(async (peer) => {
    const client = await openClient({ servers: [peer.url], pollMs: () => 300 });
    await client.device.register(form);
    const tries: string[] = [];
    const session = client.listen((event) => {
      if (event.type !== "page") return;
      tries.push(event.page.Text);
      if (tries.length === 1) throw new Error("no room");
    });
    await eventually("it listens", () => peer.streams() === 1);
    const page = peer.pages("stubborn");
    await eventually("it was tried once", () => tries.length === 1);
    assert.equal(peer.waiting(), [page.UniqueId]);
    await eventually("it came again and is confirmed", () => peer.waiting().length === 0, 30_000);
    assert.equal(tries, ["stubborn", "stubborn"]);
    session.close();
    await session.ended;
  }));

test("as a loop, a page is confirmed when its turn is over, and not when the loop is left in it", () =>
  withPeer(async (peer) => {
    const client = await openClient({ servers: [peer.url] });
    await client.device.register(form);
    const [one, two] = [peer.waits("one"), peer.waits("two")];
    const shown: string[] = [];
    for await (const event of client.stream()) {
      if (event.type !== "page") continue;
      shown.push(event.page.Text);
      if (shown.length === 2) break;
      await sleep(50);
      assert.ok(peer.waiting().includes(one.UniqueId), "not before it is kept");
    }
    assert.equal(shown, ["one", "two"]);
    await eventually("it is off", () => peer.streams() === 0);
    assert.ok(peer.waiting().includes(two.UniqueId));
    assert.equal(
      client.messages.list().map(({ page }) => page.Text),
      ["one"],
    );
  }));

test("what has become of a page is told, kept with it, and confirmed", () =>
  withPeer(async (peer) => {
    const phone = await openPhone(peer);
    const page = peer.pages("one");
    await eventually("it is shown", () => phone.shown.length === 1);
    peer.notices("ANSWERED", page);
    const told = () => phone.events.flatMap((event) => (event.type === "notice" ? [event.notice.Kind] : []));
    await eventually("it is told", () => told().length === 1);
    await phone.client.messages.markRead(page.UniqueId);
    peer.notices("RECALLED", page);
    await eventually("that too", () => told().length === 2);
    await eventually("all is confirmed", () => peer.waiting().length === 0);
    assert.equal(told(), ["ANSWERED", "RECALLED"]);
    assert.is(phone.client.messages.get(page.UniqueId)?.notice?.Kind, "RECALLED");
  }));

test("a node that goes is left when it says so, for the one it names", () =>
  withPeer(async (peer) => {
    const other = await openStreamPeer();
    const phone = await openPhone(peer);
    peer.frame("reconnect", { afterMs: 50, urls: [other.url] });
    await eventually("it is there", () => other.streams() === 1 && peer.streams() === 0, 5_000);
    other.pages("from the other");
    await eventually("it hears it", () => phone.shown.includes("from the other"));
    await other.close();
  }));

test("frames that are none, of other versions, or with a gap before them are passed over, and a look finds what they left out", () =>
  withPeer(async (peer) => {
    const phone = await openPhone(peer);
    const hidden = peer.waits("never on the stream");
    for (const text of [
      "",
      "{",
      "[]",
      "null",
      '{"type":"message","data":{}}',
      '{"type":"message","seq":1,"data":null}',
    ])
      peer.sends(text);
    peer.sends(JSON.stringify({ type: "hologram", id: "1", seq: 0, at: "never", data: {} }));
    peer.sends(JSON.stringify({ type: "message", id: "1", seq: 7, data: { UniqueId: "odd", Text: "ahead" } }));
    await eventually("the one behind the gap is shown", () => phone.shown.includes("ahead"));
    await eventually("what was left out too", () => phone.shown.includes("never on the stream"));
    await eventually("and confirmed", () => !peer.waiting().includes(hidden.UniqueId));
    assert.is(peer.streams(), 1);
  }));

test("a stream that has fallen silent is given up for another", () =>
  withPeer(async (peer) => {
    const proxy = await openProxy({ host: "127.0.0.1", port: peer.port });
    const phone = await openPhone(peer, { servers: [`http://127.0.0.1:${proxy.port}`] });
    proxy.blackholes();
    await sleep(4_000);
    proxy.heals();
    const page = peer.pages("after the silence");
    await eventually("it is shown", () => phone.shown.includes("after the silence"), 30_000);
    await eventually("and confirmed", () => !peer.waiting().includes(page.UniqueId));
    await proxy.close();
  }));

test("a clock that is wrong is noted, and what is said has the server's time", () =>
  withPeer(async (peer) => {
    peer.aheadMs = 3_600_000;
    const phone = await openPhone(peer);
    assert.ok(Math.abs(phone.client.skewMs() - 3_600_000) < 10_000);
    await phone.client.messages.markRead("a");
    await eventually("it was said", () => peer.said.length === 1);
    assert.ok(Math.abs(Date.parse(peer.said[0]!.at) - Date.now() - 3_600_000) < 60_000);
    peer.aheadMs = 0;
    phone.client.wake();
    await eventually("it goes by what it heard last", () => phone.client.skewMs() === 0);
  }));

test.run();
