/** Who has to wait at the HTTP port, who is refused, and whose connection ends: each bound by itself. */
import { once } from "node:events";
import { createServer, type RequestListener, type ServerResponse } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openAdmission, waitingMax } from "../gateways/admission.ts";
import { boundCrowds } from "../gateways/crowds.ts";
import { withoutPipelining } from "../gateways/pipelining.ts";
import { BatchFull } from "../persistence/batch.ts";
import { eventually } from "./helpers/eventually.ts";
import { raw } from "./helpers/http.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

const opened: Server[] = [];
test.after(() => {
  for (const server of opened) server.close();
});
async function listening(server: Server): Promise<number> {
  opened.push(server.listen(0, "127.0.0.1"));
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

test("without a crowd nobody waits; of a crowd each caller's begin by turns, beyond its part they are refused", async () => {
  const admission = openAdmission(() => 160);
  const begun: string[] = [];
  const refused: string[] = [];
  const enter = (caller: string, name = caller) =>
    admission.enter(caller, (refusal) => (refusal === undefined ? begun : refused).push(name));
  enter("a");
  assert.equal(begun, ["a"], "at once");
  for (let n = 1; n < 32 + 41; n += 1) enter("a");
  assert.is(begun.length, 32, "what one turn begins");
  assert.is(refused.length, 1, "a quarter of all may wait");
  enter("b");
  await turn();
  assert.is(begun.length, 64);
  assert.equal(begun.slice(32, 34), ["a", "b"]);
  await turn();
  assert.is(begun.length, 73);
  await turn();
  enter("b");
  assert.is(begun.length, 74, "at once again");
});

test("a caller has so many places at once; those that wait get them in order, unless they leave, or their part is full", async () => {
  const admission = openAdmission(() => 8);
  const seen: string[] = [];
  const settle = (caller: string, name: string) =>
    admission.settle(caller, (refusal) => seen.push(refusal instanceof BatchFull ? `${name} refused` : name));
  const leaves = Array.from({ length: 64 }, () => settle("a", ""));
  assert.is(seen.splice(0).length, 64);
  const gone = settle("a", "gone");
  settle("a", "first");
  settle("a", "second")();
  assert.equal(seen.splice(0), ["second refused"]);
  gone();
  gone();
  settle("a", "third");
  settle("b", "b");
  assert.equal(seen.splice(0), ["b"], "another caller has places of its own");
  for (const leave of leaves.slice(0, 2)) {
    leave();
    leave();
  }
  assert.equal(seen, [], "in its turn");
  await turn();
  assert.equal(seen, ["first", "third"]);
  assert.is(waitingMax(64 * 1024 ** 3), 16_000);
});

async function serves(handler: RequestListener, heldMax: number): Promise<number> {
  return await listening(createServer(withoutPipelining(handler, heldMax)));
}
const ask = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;

test("the requests of one connection are handled one after the other, and answered in their order", async () => {
  const asked: string[] = [];
  let open: ServerResponse | null = null;
  const port = await serves(({ url }, response) => {
    asked.push(url!);
    open = response;
  }, 100);
  const answers = raw(port, ["/1", "/2", "/3"].map(ask).join(""));
  for (const n of [1, 2, 3]) {
    await eventually(`request ${n} is there`, () => asked.length === n);
    await turn();
    assert.is(asked.length, n, "none beside it");
    if (n === 3) open!.setHeader("connection", "close");
    open!.end(`answer ${n}`);
  }
  assert.match(await answers, /answer 1.*answer 2.*answer 3/s);
});

test("a connection that sends requests without end, or with all others more than there is room for, is ended", async () => {
  let asked = 0;
  const port = await serves(() => void asked++, 70);
  assert.is(await raw(port, ask("/").repeat(1_000)), "");
  assert.is(asked, 1);
  const first = connect(port, "127.0.0.1");
  first.write(ask("/").repeat(60));
  await eventually("it is there", () => asked === 2);
  assert.is(await raw(port, ask("/").repeat(13)), "", "59 are held");
  const second = connect(port, "127.0.0.1");
  second.write(ask("/").repeat(11));
  await eventually("it has room", () => asked === 4);
  first.destroy();
  await once(first, "close");
  second.write(ask("/").repeat(40));
  await turn();
  assert.is(second.destroyed, false, "the first one's room is free again");
  second.destroy();
});

test("one address holds half of a port's connections, and the one silent longest is ended; a proxy's holds all", async () => {
  let ended = 0;
  const held: Socket[] = [];
  const server = createTcpServer((socket) => void held.push(socket.resume()));
  const crowds = boundCrowds(server, { max: 8, unbounded: (address) => address === "127.0.0.8" }, () => void ended++);
  server.on("connection", (socket: Socket) => socket.on("data", () => crowds.spoke(socket)));
  const port = await listening(server);
  const gone: string[] = [];
  const open = async (name: string, localAddress: string) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    socket.on("close", () => gone.push(name));
    await once(socket, "connect");
    await eventually("it is let in", () => held.some((one) => one.remotePort === socket.localPort));
    return socket;
  };
  const sockets: Socket[] = [];
  for (const n of [1, 2, 3, 4]) sockets.push(await open(`${n}`, "127.0.0.7"));
  sockets[0]!.write("x");
  await once(held[0]!, "data");
  sockets.push(await open("5", "127.0.0.7"));
  await eventually("one is ended", () => gone.length > 0);
  assert.equal(gone, ["2"]);
  for (const socket of sockets.splice(0)) socket.destroy();
  await eventually("there is room again", () => gone.length === 5);
  for (const n of [1, 2, 3, 4, 5, 6]) sockets.push(await open(`proxy ${n}`, "127.0.0.8"));
  assert.equal([ended, gone.length], [1, 5]);
  for (const socket of sockets) socket.destroy();
});

test.run();
