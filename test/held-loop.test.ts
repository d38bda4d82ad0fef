/** What looks at the kernel's table of connections, after the event loop was held in the middle of a look. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openPeers } from "../gateways/unacknowledged.ts";
import { eventually } from "./helpers/eventually.ts";

const HELD_MS = 1_500;
/** What a look waits before it reads. */
const FRESH_MS = 20;

test("a look that a held event loop made long does not put off the next ones by ten times as much", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [[peer]] = await Promise.all([accepted, once(socket, "connect")]);
  try {
    const peers = openPeers();
    assert.ok(peers.sees);
    const first = peers.look(socket);
    setTimeout(() => {
      const until = performance.now() + HELD_MS;
      while (performance.now() < until);
    }, FRESH_MS);
    assert.is.not(await first, null);
    let looked = false;
    void peers.look(socket).then(() => {
      looked = true;
    });
    await eventually("the next look is answered", () => looked, 5_000);
  } finally {
    socket.destroy();
    peer.destroy();
    server.close();
  }
});

test.run();
