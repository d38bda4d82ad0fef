/** The host system's side, against a TCP peer that speaks through the server's own codecs. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePage } from "../cli/host-client.ts";
import { type Journey, judge, runJourney } from "../cli/page-journey.ts";
import { renderNewMessage } from "../gateways/mxpp/new-message.ts";
import { eventually } from "./helpers/eventually.ts";
import { connectHost } from "./helpers/host.ts";
import { openMxppPeer, tell } from "./helpers/mxpp-peer.ts";

const document = encodePage({ origin: "lab", trackingId: "t1", destination: "1001", text: "Bed 12 <&> 血" });
const never = new AbortController().signal;

async function travel(peer: { port: number }, more: Partial<Journey> = {}, signal = never) {
  const heard: string[] = [];
  const lost: (string | null)[] = [];
  const end = await runJourney(
    {
      trackingId: "t1",
      document,
      until: "DELIVERED",
      timeoutMs: 10_000,
      target: () => ({ host: "127.0.0.1", port: peer.port }),
      onStatus: ({ status }) => void heard.push(status),
      onLost: (code) => void lost.push(code),
      ...more,
    },
    signal,
  );
  return { end: end.kind, heard, lost };
}

for (const [status, until, verdict] of [
  ["ACCEPTED", "DELIVERED", "on"],
  ["DELIVERED", "DELIVERED", "reached"],
  ["READ", "DELIVERED", "reached"],
  ["IGNORED", "READ", "reached"],
  ["ACKNOWLEDGED", "DELIVERED", "reached"],
  ["QUEUED", "ACCEPTED", "reached"],
  ["FAILED", "DELIVERED", "failed"],
  ["FAILED", "FAILED", "reached"],
  ["DELIVERED", "FAILED", "on"],
  ["READ", "ACKNOWLEDGED", "on"],
  ["ACKNOWLEDGED", "ACKNOWLEDGED", "reached"],
  ["IGNORED", "ACKNOWLEDGED", "failed"],
  ["READ", "REPLY", "on"],
  ["ACKNOWLEDGED", "REPLY", "on"],
  ["FAILED", "REPLY", "failed"],
] as const) {
  test(`waiting for ${until}, ${status} means ${verdict}`, () => assert.is(judge(status, until), verdict));
}

test("each status is told once, in the order heard, and the journey ends at the one asked for", async () => {
  const peer = await openMxppPeer((page, socket) => {
    assert.is(page.text, "Bed 12 <&> 血");
    for (const status of ["ACCEPTED", "ACCEPTED", "QUEUED", "ENROUTE"] as const)
      tell(socket, { trackingId: "t1", status });
    tell(socket, { trackingId: "other", status: "FAILED", reason: "not ours" });
    tell(socket, { trackingId: "t1", status: "DELIVERED", encoding: "utf-16" });
    tell(socket, { trackingId: "t1", status: "READ" });
  });
  assert.equal(await travel(peer), { end: "reached", heard: ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"], lost: [] });
  await peer.close();
});

test("FAILED ends it, with the reason", async () => {
  const reasons: (string | null)[] = [];
  const peer = await openMxppPeer((_page, socket) =>
    tell(socket, { trackingId: "t1", status: "FAILED", reason: "unknown destination" }),
  );
  const { end } = await travel(peer, { onStatus: ({ reason }) => void reasons.push(reason) });
  assert.is(end, "failed");
  assert.equal(reasons, ["unknown destination"]);
  await peer.close();
});

test("a connection lost before ACCEPTED: the same page is sent again on the next", async () => {
  const peer = await openMxppPeer((_page, socket, { pages }) => {
    if (pages.length === 1) socket.resetAndDestroy();
    else tell(socket, { trackingId: "t1", status: "DELIVERED" });
  });
  const { end, lost } = await travel(peer);
  assert.is(end, "reached");
  assert.equal(lost, ["ECONNRESET"]);
  assert.equal(peer.pages[0], peer.pages[1]);
  assert.is(peer.pages.length, 2);
  await peer.close();
});

test("a connection lost after ACCEPTED: the page is not sent again where the rest comes by itself", async () => {
  const peer = await openMxppPeer((_page, socket) => {
    tell(socket, { trackingId: "t1", status: "ACCEPTED" });
    socket.end();
  });
  const travelling = travel(peer);
  const second = await eventually("the host connects again", () => peer.sockets[1]);
  tell(second, { trackingId: "t1", status: "ACCEPTED" });
  tell(second, { trackingId: "t1", status: "DELIVERED" });
  assert.equal(await travelling, { end: "reached", heard: ["ACCEPTED", "DELIVERED"], lost: [null] });
  assert.is(peer.pages.length, 1);
  await peer.close();
});

test("a server that knows a host by its pages alone hears the page again when the new connection stays silent", async () => {
  const peer = await openMxppPeer((_page, socket, { pages }) => {
    tell(socket, { trackingId: "t1", status: pages.length === 1 ? "ACCEPTED" : "DELIVERED" });
    if (pages.length === 1) socket.end();
  });
  assert.equal((await travel(peer)).heard, ["ACCEPTED", "DELIVERED"]);
  assert.equal(peer.pages[0], peer.pages[1]);
  await peer.close();
});

test("a server that starts again elsewhere is found there", async () => {
  const first = await openMxppPeer((_page, socket) => {
    tell(socket, { trackingId: "t1", status: "ACCEPTED" });
    socket.resetAndDestroy();
  });
  const second = await openMxppPeer(() => {});
  const targets = [first, second];
  const travelling = travel(first, { target: () => ({ host: "127.0.0.1", port: (targets.shift() ?? second).port }) });
  const socket = await eventually("the host connects to the second", () => second.sockets[0]);
  tell(socket, { trackingId: "t1", status: "READ" });
  assert.is((await travelling).end, "reached");
  await Promise.all([first.close(), second.close()]);
});

test("the time given is the most it takes", async () => {
  const peer = await openMxppPeer((_page, socket) => tell(socket, { trackingId: "t1", status: "ENROUTE" }));
  assert.equal(await travel(peer, { timeoutMs: 200 }), { end: "timeout", heard: ["ENROUTE"], lost: [] });
  await peer.close();
});

test("Ctrl-C ends it, while connected and while waiting to connect again", async () => {
  const peer = await openMxppPeer((_page, socket) => tell(socket, { trackingId: "t1", status: "ENROUTE" }));
  const first = new AbortController();
  assert.is((await travel(peer, { onStatus: () => first.abort() }, first.signal)).end, "interrupted");
  const second = new AbortController();
  const travelling = travel(peer, { onLost: () => setTimeout(() => second.abort(), 50) }, second.signal);
  await eventually("the page is sent", () => peer.pages.length === 2);
  await peer.close();
  assert.is((await travelling).end, "interrupted");
});

test("a server that was never there is told at once", async () => {
  const peer = await openMxppPeer(() => {});
  await peer.close();
  const end = await runJourney(
    {
      trackingId: "t1",
      document,
      until: "READ",
      timeoutMs: 5_000,
      target: () => ({ host: "127.0.0.1", port: peer.port }),
      onStatus: () => {},
    },
    never,
  );
  assert.equal(end, { kind: "unreachable", code: "ECONNREFUSED" });
});

test("a page in UTF-16 says the same as in UTF-8", async () => {
  const peer = await openMxppPeer(() => {});
  const host = await connectHost({ port: peer.port, name: "lab" });
  for (const encoding of ["utf-8", "utf-16"] as const) {
    await host.sends({ trackingId: "t1", destination: "1001", text: "Ü 血 🚑", sentAt: 0 }, encoding);
  }
  await eventually("both are there", () => peer.pages.length === 2);
  assert.equal(peer.pages[0], peer.pages[1]);
  assert.is(peer.pages[0]!.text, "Ü 血 🚑");
  await host.closes();
  await peer.close();
});

test("the tests' host waits for statuses in their order and says what it heard instead", async () => {
  const peer = await openMxppPeer((page, socket) => {
    tell(socket, { trackingId: page.trackingId, status: "ACCEPTED" });
    setTimeout(() => tell(socket, { trackingId: page.trackingId, status: "READ" }), 50);
  });
  const host = await connectHost({ port: peer.port, name: "lab" });
  const id = await host.sends({ destination: "1001" });
  const [, read] = await host.expects(id, "ACCEPTED", "READ", { within: 2_000 });
  assert.is(read?.status, "READ");
  assert.is((await host.awaits(id, "READ")).trackingId, id);
  await assertRejects(host.expects(id, "ACCEPTED", "QUEUED"), /statuses of/);
  await assertRejects(
    host.expects(id, "ACCEPTED", "READ", "ACKNOWLEDGED", { within: 50 }),
    /within 50 ms host lab did not hear .* but ACCEPTED, READ/,
  );
  await assertRejects(host.awaits(id, "FAILED", { within: 50 }), /did not hear FAILED/);
  assert.equal(host.statuses(id), ["ACCEPTED", "READ"]);
  await host.closes();
  assert.is(await host.gone, null);
  await peer.close();
});

test("the tests' host cuts its connection with a reset, and hears replies and faults", async () => {
  const peer = await openMxppPeer((page, socket) => {
    socket.write(renderNewMessage({ origin: "t", trackingId: page.trackingId, destination: "lab", text: "on my way" }));
    socket.write("<amcomMessage><nothing /></amcomMessage>");
    socket.write("<!DOCTYPE x>");
  });
  const host = await connectHost({ port: peer.port, name: "lab" });
  await host.sends({ destination: "1001" });
  await eventually("both faults are heard", () => host.faults().length === 2);
  assert.equal(
    host.receives().map(({ text }) => text),
    ["on my way"],
  );
  await host.gone;
  const other = await connectHost({ port: peer.port, name: "lab" });
  const closed = eventually("the peer sees a connection", () => peer.sockets[1]).then(
    (socket) =>
      new Promise<string>((resolve) =>
        socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "")),
      ),
  );
  await other.sends({ destination: "1001" });
  await other.cuts();
  assert.is(await closed, "ECONNRESET");
  await peer.close();
});

async function assertRejects(promise: Promise<unknown>, message: RegExp): Promise<void> {
  await promise.then(
    () => assert.unreachable("it was to fail"),
    (error: Error) => assert.match(error.message, message),
  );
}

test.run();
