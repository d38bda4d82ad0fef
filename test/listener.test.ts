/** Listeners that are looked at by a connection to themselves, and opened anew while their connections live on. */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer, Server, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { boundCrowds } from "../gateways/crowds.ts";
import { isOwnLook, type Listener, openListener, type Speech } from "../gateways/listener.ts";
import { eventually } from "./helpers/eventually.ts";
import { makeListeners } from "./helpers/http.ts";
import { recordLog } from "./helpers/log-record.ts";

const { log, lines } = recordLog();
const opened: Server[] = [];
async function open(server: Server, speech: Speech): Promise<Listener> {
  opened.push(server);
  return openListener(server, { host: "127.0.0.1", port: 0, speech }, { log });
}
async function openTcp(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1").on("error", () => {});
  await once(socket, "connect");
  return socket;
}
/** As a fault would: the socket that listens is gone, and nobody was told. */
const closeUnder = (server: Server) => Server.prototype.close.call(server);
const listeners = makeListeners();

test.after.each(async () => {
  for (const server of opened.splice(0)) {
    server.close();
    (server as Partial<ReturnType<typeof createHttpServer>>).closeAllConnections?.();
  }
  await listeners.close();
});

/** Echoes, but to looks. */
const echo = () =>
  createServer((socket) => {
    if (isOwnLook(socket)) return void socket.destroy();
    socket.on("error", () => {}).pipe(socket);
  });

test("a listener is well while it listens, gone when it does not, and opened anew its connections have lived on", async () => {
  const server = echo();
  const listener = await open(server, "tcp");
  const { port } = listener.address;
  const there = await openTcp(port);
  assert.is(await listener.look(), "well");
  closeUnder(server);
  assert.is(await listener.look(), "gone");
  await listener.restart();
  assert.is(await listener.look(), "well");
  assert.is(listener.address.port, port);
  const come = await openTcp(port);
  for (const socket of [there, come]) {
    socket.write("ping");
    assert.is(String((await once(socket, "data"))[0]), "ping");
    socket.destroy();
  }
});

test("one whose port somebody else has cannot be opened, and can be when that one has gone", async () => {
  const server = echo();
  const listener = await open(server, "tcp");
  closeUnder(server);
  const thief = createServer().listen(listener.address.port, "127.0.0.1");
  await once(thief, "listening");
  for (let n = 0; n < 3; n += 1) {
    assert.is(await listener.restart().catch((error: NodeJS.ErrnoException) => error.code), "EADDRINUSE");
    assert.is(await listener.look(), "gone");
  }
  await new Promise((resolve) => thief.close(resolve));
  await listener.restart();
  assert.is(await listener.look(), "well");
});

test("an HTTP listener that answers anything is well, one that takes connections and says nothing is silent", async () => {
  let mute = false;
  const server = createHttpServer((_request, response) => {
    if (!mute) response.writeHead(503).end();
  });
  const listener = await open(server, "http");
  assert.is(await listener.look(), "well");
  mute = true;
  const begun = performance.now();
  assert.is(await listener.look(), "silent");
  assert.ok(performance.now() - begun < 8_000);
});

test("a full port is well, and a look takes no place in a crowd and ends nobody's connection", async () => {
  const server = echo();
  let ended = 0;
  boundCrowds(server, { max: 4, unbounded: () => false }, () => {
    ended += 1;
  });
  const listener = await open(server, "tcp");
  // Half of four is an address's share: one more would end the one that was silent longest.
  const sockets = [await openTcp(listener.address.port), await openTcp(listener.address.port)];
  for (let n = 0; n < 5; n += 1) assert.is(await listener.look(), "well");
  assert.is(ended, 0);
  server.maxConnections = 2;
  assert.is(await listener.look(), "well", "it was turned away by us");
  for (const socket of sockets) assert.not.ok(socket.destroyed);
  for (const socket of sockets) socket.destroy();
});

test("looks leave nothing behind: no line, no connection", async () => {
  const server = echo();
  const listener = await open(server, "tcp");
  for (let n = 0; n < 50; n += 1) assert.is(await listener.look(), "well");
  await eventually(
    "no connection is left",
    () => new Promise<boolean>((resolve) => server.getConnections((_error, count) => resolve(count === 0))),
  );
  assert.equal(lines, []);
});

test("the web server opened anew finishes what was under way before, and answers at the same address", async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const gateway = await listeners.open([
    (app) => {
      app.get("/slow", async () => {
        await held;
        return "done";
      });
      app.get("/fast", async () => "done");
    },
  ]);
  const { url } = gateway.address;
  assert.is(await gateway.listener.look(), "well");
  const slow = fetch(`${url}/slow`);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await gateway.listener.restart();
  assert.is(await gateway.listener.look(), "well");
  assert.is(await (await fetch(`${url}/fast`)).text(), "done");
  release();
  assert.is(await (await slow).text(), "done");
});

test.run();
