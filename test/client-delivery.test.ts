/** When an answer counts as taken by the phone it was written to, where others follow it on the same connection. */
import { once } from "node:events";
import { Agent, createServer, get, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { answerTaken } from "../gateways/client/delivery.ts";
import { openPeers, type Peers } from "../gateways/unacknowledged.ts";

const BODY = "x".repeat(5_000);

/** A server whose answers' fates are kept in their order, and a phone with one connection to it. */
async function ward(peers: Peers) {
  const fates: Promise<boolean>[] = [];
  const written: number[] = [];
  const server = createServer((_request, response: ServerResponse) => {
    fates.push(answerTaken(response, peers));
    const socket = response.socket!;
    response.on("finish", () => written.push(socket.bytesWritten));
    response.end(BODY);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    fates,
    written,
    async asks() {
      const [answer] = await once(get({ port: (server.address() as AddressInfo).port, agent }), "response");
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
    return bytes === null ? null : { unacknowledged: bytes, silent: false };
  };
  const connection = { look: async () => peer(), lookNow: peer };
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
  void phone.fates[0]!.then((taken) => {
    early.taken = taken;
  });
  unacknowledged = later + 1;
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.is(early.taken, null, "a byte of its own is not acknowledged");
  unacknowledged = later;
  assert.is(await phone.fates[0], true);
  unacknowledged = null;
  await phone.close();
  assert.is(await phone.fates[1], false, "of the later one nothing was");
});

test("a phone that asks again and again without a pause has taken every answer", async () => {
  const warnings: string[] = [];
  process.on("warning", ({ name }) => warnings.push(name));
  const phone = await ward(openPeers());
  for (let n = 0; n < 200; n += 1) await phone.asks();
  const fates = await Promise.all(phone.fates);
  assert.is(fates.filter((taken) => !taken).length, 0);
  assert.equal(warnings, [], "however many wait to be settled");
  await phone.close();
});

test.run();
