// limit: 120 s
/** What the TypeScript client makes of servers that are hostile, slow, busy or several, and how long it waits between attempts. */
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { freePort } from "../persistence/embedded-server.ts";
import {
  type Calls,
  type Fetch,
  openCalls,
  openClient,
  openServerTime,
  ServerRefused,
  Unreachable,
} from "../sdk/index.ts";
import { fullJitter, makeBell, pause } from "../sdk/waiting.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Handler, openStreamPeer, type StreamPeer } from "./helpers/stream-peer.ts";

let peer: StreamPeer;
let other: StreamPeer;
test.before.each(async () => {
  [peer, other] = [await openStreamPeer(), await openStreamPeer()];
});
test.after.each(() => Promise.all([peer.close(), other.close()]).then(() => {}));

function callsTo(
  servers: readonly string[],
  more: { readonly deadlineMs?: number; readonly fetch?: Fetch } = {},
): Calls {
  return openCalls({
    fetch: (url, request) => globalThis.fetch(url, request),
    servers: () => servers,
    identity: () => ({ vendorId: "v", deviceToken: "token" }),
    time: openServerTime(),
    ...more,
  });
}
const fault = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => assert.unreachable("it was answered"),
    (error: unknown) => error as Error,
  ) as Promise<Error>;
const answered = (status: number, text: string, headers: Record<string, string> = {}): Handler => {
  return (_, response) => response.writeHead(status, headers).end(text);
};

test("what is no answer of a Tocsin server is none: pages, garbage, halves, and answers without end or in drops", async () => {
  const calls = callsTo([peer.url], { deadlineMs: 1_000 });
  const success = '{"ResponseCode":0,"Messages":[],"More":false}';
  const hostile: readonly [string, string, Handler][] = [
    ["a page of HTML", "EBADANSWER", answered(200, "<html>Welcome to the guest network</html>")],
    ["nothing", "EBADANSWER", answered(200, "")],
    ["an array", "EBADANSWER", answered(200, "[]")],
    ["a word", "EBADANSWER", answered(200, '"0"')],
    ["a code that is a word", "EBADANSWER", answered(200, '{"ResponseCode":"0"}')],
    ["bytes that are no text", "EBADANSWER", answered(200, "\u0000\ufffd")],
    [
      "half an answer",
      "",
      (_, response) => {
        response.writeHead(200, { "content-length": String(success.length) });
        response.write(success.slice(0, 10), () => response.destroy());
      },
    ],
    [
      "one byte a while",
      "ETIMEDOUT",
      (_, response) => {
        response.writeHead(200);
        const drip = setInterval(() => response.write("{"), 50);
        response.on("close", () => clearInterval(drip));
      },
    ],
    ["headers and nothing else", "ETIMEDOUT", (_, response) => response.writeHead(200).flushHeaders()],
    ["no word", "ETIMEDOUT", () => {}],
  ];
  for (const [what, code, handler] of hostile) {
    peer.answers(handler);
    const error = await fault(calls.call("GetMessages", {}));
    assert.instance(error, Unreachable, what);
    if (code !== "") assert.is((error as Unreachable).code, code, what);
  }
  peer.answers(answered(200, success));
  assert.is((await calls.call("GetMessages", {})).More, false);
});

test("an answer without end is given up at its limit", async () => {
  let sent = 0;
  peer.answers((_, response) => {
    const chunk = Buffer.alloc(1024 * 1024, 32);
    const more = (): void => {
      sent += chunk.length;
      if (!response.destroyed && sent < 200 * chunk.length) response.write(chunk, more);
    };
    more();
  });
  const error = await fault(callsTo([peer.url], { deadlineMs: 30_000 }).call("GetMessages", {}));
  assert.is((error as Unreachable).code, "EMSGSIZE");
  assert.ok(sent < 100 * 1024 * 1024, `${sent} bytes`);
});

test("a fetch that hears no signal holds nobody up", async () => {
  const error = await fault(
    callsTo(["http://nowhere"], { deadlineMs: 50, fetch: () => new Promise(() => {}) }).call("GetMessages", {}),
  );
  assert.is((error as Unreachable).code, "ETIMEDOUT");
});

test("servers are tried in turn, the one that answered last first", async () => {
  const gone = `http://127.0.0.1:${await freePort(null)}`;
  const calls = callsTo([gone, peer.url, `${other.url}/`]);
  await calls.call("GetMessages", {});
  peer.answers(answered(503, "{}", { "retry-after": "7" }));
  await calls.call("GetMessages", {});
  peer.answers(null);
  await calls.call("GetMessages", {});
  assert.equal([peer.calls.length, other.calls.length], [2, 2]);
});

test("where all are busy or gone, what a server said is told, and how long to wait with it", async () => {
  const gone = `http://127.0.0.1:${await freePort(null)}`;
  const busy = (header: string) =>
    answered(503, '{"ResponseCode":8,"ResponseDescription":"busy"}', { "retry-after": header });
  const waits: readonly [string, number | null][] = [
    ["2", 2_000],
    ["0", 0],
    ["99999999999", 120_000],
    ["soon", null],
    ["-1", 0],
    ["", null],
  ];
  for (const [header, ms] of waits) {
    peer.answers(busy(header));
    const error = (await fault(callsTo([peer.url, gone]).call("GetMessages", {}))) as ServerRefused;
    assert.instance(error, ServerRefused);
    assert.equal([error.httpStatus, error.responseCode, error.retryAfterMs], [503, 8, ms], header);
    assert.is(error.message, "GetMessages was refused (HTTP 503: busy)");
  }
  peer.answers(busy(new Date(Date.now() + 60_000).toUTCString()));
  const { retryAfterMs } = (await fault(callsTo([peer.url]).call("GetMessages", {}))) as ServerRefused;
  assert.ok(retryAfterMs! > 50_000 && retryAfterMs! <= 60_000);
});

test("what a server will never take is not taken to the next", async () => {
  peer.answers(answered(400, '{"ResponseCode":1}'));
  const error = (await fault(callsTo([peer.url, other.url]).call("SetStatus", { statuses: [] }))) as ServerRefused;
  assert.equal([error.final, error.unregistered, other.calls.length], [true, false, 0]);
  peer.answers(answered(404, "<h1>not here</h1>"));
  await callsTo([peer.url, other.url]).call("SetStatus", { statuses: [] });
  assert.is(other.calls.length, 1);
});

test("a phone that is told to wait does not ask before", async () => {
  const client = await openClient({ servers: [peer.url], openSocket: null, pollMs: () => 10 });
  await client.device.register({
    ...{
      siteId: "s",
      destination: "1",
      registrationCode: "c",
      deviceOS: "x",
      clientVersion: "1",
      notificationAddress: "a",
    },
    ...({ deviceType: "WEB", gatewayType: "GCM" } as const),
  });
  peer.answers(answered(429, '{"ResponseCode":12}', { "retry-after": "2" }));
  const asked = () => peer.calls.filter(({ operation }) => operation === "GetMessages").length;
  const session = client.listen(() => {});
  await eventually("it has asked", () => asked() === 1);
  client.wake();
  await sleep(1_500);
  assert.is(asked(), 1);
  peer.answers(null);
  await eventually("it asks again", () => asked() > 1, 20_000);
  session.close();
  await session.ended;
});

test("pauses have full jitter: any below a bound that doubles to its limit, and begins anew after a success", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5_000 }),
      fc.integer({ min: 0, max: 10 }),
      fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 1, maxLength: 40 }),
      (first, doublings, chances) => {
        const longest = first * 2 ** doublings;
        const backoff = fullJitter(first, longest, () => chances[turn % chances.length]!);
        let turn = 0;
        for (; turn < 40; turn += 1) {
          const ms = backoff.next();
          const bound = Math.min(first * 2 ** turn, longest);
          assert.ok(ms >= 0 && ms < bound, `${ms} of ${bound}`);
          assert.is(ms, chances[turn % chances.length]! * bound, "all of the range, by chance alone");
        }
        backoff.reset();
        assert.ok(backoff.next() < first);
      },
    ),
  );
});

test("a bell that rang while nobody waited is heard, once", async () => {
  const bell = makeBell();
  const { signal } = new AbortController();
  bell.ring();
  bell.ring();
  await bell.wait(60_000, signal);
  let heard = false;
  const waiting = bell.wait(60_000, signal).then(() => {
    heard = true;
  });
  await pause(20, signal);
  assert.is(heard, false);
  bell.ring();
  await waiting;
  await bell.wait(60_000, AbortSignal.abort());
});

test.run();
