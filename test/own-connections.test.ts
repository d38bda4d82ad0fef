// limit: 20 s
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openOwnConnections } from "../gateways/own-connections.ts";

const test = suite("own connections");

test("are known by both ends of each: another that differs in one of the four is none", async () => {
  const own = openOwnConnections();
  const server = createServer().listen(0, "0.0.0.0");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const ours = connect(port, "127.0.0.1");
  own.add(ours, { host: "127.0.0.1", port });
  const [peer] = (await once(server, "connection")) as [Socket];
  try {
    const { localAddress, localPort, remoteAddress, remotePort } = peer;
    const ends = {
      localAddress: localAddress!,
      localPort: localPort!,
      remoteAddress: remoteAddress!,
      remotePort: remotePort!,
    };
    assert.ok(own.has(peer));
    assert.ok(own.has(ends));
    // As another process has it that connects from the same address and port to another address of this machine.
    assert.not(own.has({ ...ends, localAddress: "127.0.0.2" }));
    assert.not(own.has({ ...ends, localPort: port + 1 }));
    assert.not(own.has({ ...ends, remoteAddress: "127.0.0.2" }));
    assert.not(own.has({ ...ends, remotePort: remotePort! + 1 }));
    ours.destroy();
    await once(peer.resume(), "close");
    assert.not(own.has(ends), "it is over");
  } finally {
    ours.destroy();
    server.close();
  }
});

test.run();
