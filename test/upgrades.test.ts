// limit: 120 s, waits
/** Connections that were handed over to whoever takes upgrades: what the listener does to its own does not reach them. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Certificates } from "../gateways/certificates.ts";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import type { RouteSet } from "../gateways/http.ts";
import { openPressure } from "../gateways/pressure.ts";
import { takeOver } from "../gateways/upgrades.ts";
import { eventually } from "./helpers/eventually.ts";
import { makeListeners } from "./helpers/http.ts";

const listeners = makeListeners();
const taken: Socket[] = [];
test.after(async () => {
  for (const socket of taken) socket.destroy();
  await listeners.close();
});

const echo: RouteSet = (app) => {
  app.get("/echo", async (request, reply) => {
    const upgrade = takeOver(request, reply);
    if (upgrade === null) return "no upgrade";
    const { socket, head } = upgrade;
    taken.push(socket);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    socket.write(head);
    socket.on("data", (bytes) => socket.write(bytes));
    return reply;
  });
};
const asks = (path: string, more = "") =>
  `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n${more}`;

function heard(socket: Socket): () => string {
  let said = "";
  socket.on("data", (bytes) => {
    said += bytes;
  });
  socket.on("error", () => {});
  return () => said;
}

async function certificates(): Promise<{ readonly ca: string; readonly pair: Certificates }> {
  const authority = await makeAuthority("Upgrades");
  const { certificate: cert, key } = await issueCertificate(authority, { names: ["127.0.0.1"], kind: "server" });
  const pair = { current: () => ({ cert, key, minVersion: "TLSv1.2" }), onChange() {} } as unknown as Certificates;
  return { ca: authority.certificate, pair };
}

test("what was taken over lives on when its listener is opened anew, with TLS too", async () => {
  const { ca, pair } = await certificates();
  const [plain, secure] = [await listeners.open([echo]), await listeners.open([echo], { certificates: pair })];
  const sockets = [
    connect(plain.address.port, "127.0.0.1"),
    connectTls({ port: secure.address.port, host: "127.0.0.1", ca }),
  ];
  const saids = sockets.map(heard);
  for (const socket of sockets) socket.write(asks("/echo", "first"));
  for (const said of saids) await eventually("it is taken over", () => said().endsWith("first"));
  await Promise.all([plain.listener.restart(), secure.listener.restart()]);
  // The old listener's own connections are ended after 30 s.
  await sleep(33_000);
  for (const socket of sockets) socket.write("second");
  for (const said of saids) await eventually("it answers", () => said().endsWith("second"));
  for (const socket of sockets) socket.destroy();
});

test("an upgrade that nobody takes is answered as a request, and its connection ends", async () => {
  const { port } = (await listeners.open([echo])).address;
  const socket = connect(port, "127.0.0.1");
  const said = heard(socket);
  const ended = new Promise((resolve) => socket.on("close", resolve));
  socket.write(asks("/elsewhere"));
  await ended;
  assert.match(said(), /^HTTP\/1\.1 404 /);
});

test("a node that lets nobody new in answers an upgrade 503 and when to come again", async () => {
  const pressure = { ...openPressure(), refuses: () => true };
  const { port } = (await listeners.open([echo], { pressure })).address;
  const socket = connect(port, "127.0.0.1");
  const said = heard(socket);
  const ended = new Promise((resolve) => socket.on("close", resolve));
  socket.write(asks("/echo"));
  await ended;
  assert.match(said(), /^HTTP\/1\.1 503 [\s\S]*retry-after: /i);
});

test("an upgrade behind a request that is not answered yet ends the connection", async () => {
  let answer = () => {};
  const slow: RouteSet = (app) => {
    app.get("/slow", () => new Promise((resolve) => (answer = () => resolve("late"))));
  };
  const { port } = (await listeners.open([slow, echo])).address;
  const socket = connect(port, "127.0.0.1");
  heard(socket);
  const ended = new Promise((resolve) => socket.on("close", resolve));
  socket.write(`GET /slow HTTP/1.1\r\nhost: x\r\n\r\n${asks("/echo")}`);
  await ended;
  answer();
  assert.match(await (await fetch(`http://127.0.0.1:${port}/echo`)).text(), "no upgrade");
});

test.run();
