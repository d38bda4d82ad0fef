/** When an answer counts as taken by the phone it was written to, where others follow it on the same connection. */
import { once } from "node:events";
import { Agent, createServer, get, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Fate, openDeliveries } from "../gateways/client/delivery.ts";
import { openPeers, type Peers } from "../gateways/unacknowledged.ts";
import { eventually } from "./helpers/eventually.ts";

const BODY = "x".repeat(5_000);

/** A server whose answers' fates are kept in their order, and a phone with one connection to it. */
async function ward(peers: Peers, headers: Readonly<Record<string, string>> = {}) {
  const deliveries = openDeliveries(peers);
  const fates: Fate[] = [];
  const written: number[] = [];
  const server = createServer((request, response: ServerResponse) => {
    deliveries.asked(request);
    fates.push(deliveries.follow(response));
    const socket = response.socket!;
    response.on("finish", () => written.push(socket.bytesWritten));
    response.end(BODY);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    fates,
    written,
    port: () => (server.address() as AddressInfo).port,
    async asks() {
      const [answer] = await once(get({ port: this.port(), agent, headers }), "response");
      answer.resume();
      await once(answer, "end");
    },
    async close() {
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** What the kernel says is decided by the test: bytes written that the phone has not acknowledged; null: it has gone. */
function peersSaying(unacknowledged: () => number | null): Peers {
  const peer = () => {
    const bytes = unacknowledged();
    return bytes === null ? null : { unacknowledged: bytes, silent: false, endedByUs: false };
  };
  const connection = { look: async () => peer() };
  return { sees: true, look: async () => peer(), of: () => connection };
}

test("bytes of a later answer that are still under way do not keep an earlier one from being taken", async () => {
  let unacknowledged: number | null = Number.MAX_SAFE_INTEGER;
  const phone = await ward(peersSaying(() => unacknowledged));
  await phone.asks();
  await phone.asks();
  const later = phone.written[1]! - phone.written[0]!;
  assert.ok(later > BODY.length);
  const early = { taken: null as boolean | null };
  void phone.fates[0]!.taken.then((taken) => {
    early.taken = taken;
  });
  unacknowledged = later + 1;
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.is(early.taken, null, "a byte of its own is not acknowledged");
  unacknowledged = later;
  assert.is(await phone.fates[0]!.taken, true);
  unacknowledged = null;
  await phone.close();
  assert.is(await phone.fates[1]!.taken, false, "of the later one nothing was");
});

test("a phone that asks again and again without a pause has taken every answer", async () => {
  const warnings: string[] = [];
  process.on("warning", ({ name }) => warnings.push(name));
  const phone = await ward(openPeers());
  for (let n = 0; n < 200; n += 1) await phone.asks();
  const fates = await Promise.all(phone.fates.map(({ taken }) => taken));
  assert.is(fates.filter((taken) => !taken).length, 0);
  assert.equal(warnings, [], "however many wait to be settled");
  await phone.close();
});

/** A phone that asks, and reads nothing of the answer. */
async function sleeper(port: number) {
  const socket = connect(port, "127.0.0.1").pause();
  await once(socket, "connect");
  socket.write("GET / HTTP/1.1\r\nhost: tocsin\r\n\r\n");
  return socket;
}

test("a near phone that has its connection closed with each answer has taken every one", async () => {
  const phone = await ward(openPeers(), { connection: "close" });
  for (let n = 0; n < 50; n += 1) await phone.asks();
  const fates = await Promise.all(phone.fates.map(({ taken }) => taken));
  assert.is(fates.filter((taken) => !taken).length, 0);
  await phone.close();
});

test("what a phone's kernel took is unread when the phone goes without having read it", async () => {
  const phone = await ward(openPeers());
  const socket = await sleeper(phone.port());
  await eventually("the answer was taken", () => phone.fates.length === 1);
  assert.is(await phone.fates[0]!.taken, true);
  socket.destroy();
  assert.is(await phone.fates[0]!.unread, true);
  await phone.close();
});

test("what was read stays so, however its connection ends: the phone has asked again, or said good-bye", async () => {
  const phone = await ward(openPeers());
  await phone.asks();
  const socket = await sleeper(phone.port());
  await eventually("the second was asked for", () => phone.fates.length === 2);
  socket.resume();
  await once(socket, "data");
  socket.write("GET / HTTP/1.1\r\nhost: tocsin\r\n\r\n");
  await eventually("it asked again", () => phone.fates.length === 3);
  socket.resetAndDestroy();
  assert.equal(await Promise.all(phone.fates.slice(1).map(({ unread }) => unread)), [false, true]);
  await phone.close();
  assert.is(await phone.fates[0]!.unread, false);
});

test.run();
