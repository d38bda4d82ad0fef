// limit: 20 s
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { makeOutlet } from "../gateways/mxpp/outlet.ts";
import { silentMeter } from "../meter.ts";
import { eventually } from "./helpers/eventually.ts";

const test = suite("outlet");

test("whoever waits for answers to be taken is told when none is owed any more, however late the peer reads", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = connect((server.address() as AddressInfo).port, "127.0.0.1").pause();
  const [socket] = (await once(server, "connection")) as [Socket];
  const seen: number[] = [];
  const outlet = makeOutlet(socket, { host: () => null, meter: silentMeter, paid: () => seen.push(outlet.owed()) });
  const refusal = {
    ...{ origin: "lab", source: "1000", systemId: "", trackingId: "x".repeat(200), at: 0 },
    ...{ status: "FAILED" as const, reason: "unknown destination" },
  };
  const answer = (count: number) => {
    for (let n = 0; n < count; n += 1) outlet.answer(refusal);
  };
  try {
    // More than the kernels on both sides take.
    for (let n = 0; n < 40; n += 1) {
      answer(500);
      await new Promise(setImmediate);
    }
    assert.ok(outlet.owed() > 256 * 1024, `${outlet.owed()}`);
    peer.resume();
    await eventually("all is taken", () => outlet.owed() === 0);
    assert.is(seen.at(-1), 0);
  } finally {
    peer.destroy();
    socket.destroy();
    server.close();
  }
});

test.run();
