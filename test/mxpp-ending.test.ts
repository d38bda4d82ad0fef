/** Whether a peer has answered our good-bye, or went by itself: what the kernel keeps of the connection tells. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { makeEnding } from "../gateways/mxpp/ending.ts";
import { openPeers, type Peers } from "../gateways/unacknowledged.ts";

const peers = openPeers();

/** Both ends of a connection, and what ends ours. */
async function pair() {
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const theirs = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [ours] = (await once(server, "connection")) as [Socket];
  server.close();
  theirs.on("error", () => {});
  let looks = 0;
  const counting: Pick<Peers, "of"> = {
    of(socket) {
      const connection = peers.of(socket)!;
      return {
        look() {
          looks += 1;
          return connection.look();
        },
      };
    },
  };
  const ending = makeEnding(ours, systemClock, { busy: () => false, gone: () => false, peers: counting, stop() {} });
  const closed = new Promise((resolve) => ours.once("close", resolve));
  return { ours: ours.resume(), theirs, ending, answered: () => closed.then(ending.answered), looks: () => looks };
}

test("a peer that reads to our good-bye and says its own has answered", async () => {
  const { ours, theirs, ending, answered } = await pair();
  ours.write("news");
  theirs.resume();
  await ending.end(0);
  assert.is(await answered(), true);
});

test("of a peer whose good-bye is seen first the kernel is not asked: what waits for it goes on at once", async () => {
  const { ours, theirs, ending, answered, looks } = await pair();
  ours.once("end", () => void ending.end(0));
  theirs.resume().end();
  assert.is(await answered(), false);
  assert.is(looks(), 0);
});

test("a peer that went first has not, though its good-bye is seen behind ours", async () => {
  const { ours, theirs, ending, answered } = await pair();
  // Its good-bye is in our kernel, and nobody has looked.
  ours.pause();
  theirs.resume().end();
  await once(theirs, "finish");
  await ending.end(0);
  ours.resume();
  assert.is(await answered(), false);
});

test("a peer that goes with bytes unread has not", async () => {
  const { ours, theirs, ending, answered } = await pair();
  theirs.pause();
  ours.write("x".repeat(1_000_000));
  await ending.end(0);
  setTimeout(() => theirs.destroy(), 100);
  assert.is(await answered(), false);
});

test("a peer that never answers has not, and is let go", async () => {
  const { ours, theirs, ending, answered } = await pair();
  theirs.allowHalfOpen = true;
  ours.write("news");
  await ending.end(0);
  assert.is(await answered(), false);
  theirs.destroy();
});

test.run();
