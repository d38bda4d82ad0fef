/** `tocsin trace`, against an HTTP peer. */
import type { IncomingMessage } from "node:http";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine, recordsOf } from "./helpers/command-line.ts";
import { type Answer, openMessagingPeer } from "./helpers/messaging-peer.ts";

const { runs, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

const trace = {
  uniqueId: "00000000-0000-4000-8000-000000000001",
  trackingId: "t 1",
  origin: "lab",
  destination: "1001",
  status: "ENROUTE",
  why: "FCM accepted the wake-up 3 s ago, the phone has not fetched the page yet.",
  events: [
    { at: "2026-01-02T03:04:05.000Z", event: "ACCEPTED", node: "n1", detail: null },
    { at: "2026-01-02T03:04:05.250Z", event: "ENROUTE", node: "n1", detail: "push-1" },
  ],
  others: [],
};

test("trace says why first, then what happened; with --json, the same as one object", async () => {
  const keys: unknown[] = [];
  const answer = ({ headers }: IncomingMessage): Answer => {
    keys.push(headers.authorization);
    return { status: 200, body: trace };
  };
  const peer = await openMessagingPeer({ routes: { "GET /api/v1/messages/t%201/trace": answer } });
  serverRuns({ url: peer.url });
  const people = await runs(["trace", "t 1"]);
  assert.is(people.code, 0, people.err);
  assert.is(people.out.split("\n")[0], `ENROUTE  ${trace.why}`);
  assert.match(people.out, /05\.250 +\+250 ms +ENROUTE +n1 +push-1/);
  const programs = await runs(["trace", "t 1", "--json"]);
  assert.equal(JSON.parse(programs.out), trace);
  await runs(["trace", "t 1", "--key", "other"]);
  await runs(["trace", "t 1"], { env: { TOCSIN_ADMIN_KEY: "third" } });
  assert.equal(keys, ["Bearer the-key", "Bearer the-key", "Bearer other", "Bearer third"]);
  await peer.close();
});

test("trace --follow goes on until the page failed, tells each event once, and ends with 1", async () => {
  const failed = { at: "2026-01-02T03:04:06.000Z", event: "FAILED", node: "n1", detail: "no answer" };
  let asked = 0;
  const answer = (): Answer => {
    asked++;
    if (asked < 2) return { status: 200, body: trace };
    if (asked === 2) return { status: 503, body: {} };
    return { status: 200, body: { ...trace, status: "FAILED", why: "Failed.", events: [...trace.events, failed] } };
  };
  const peer = await openMessagingPeer({
    routes: { "GET /api/v1/messages/last/trace": answer, [`GET /api/v1/messages/${trace.uniqueId}/trace`]: answer },
  });
  serverRuns({ url: peer.url });
  const { code, out } = await runs(["trace", "last", "--follow", "--json"]);
  assert.is(code, 1);
  const lines = recordsOf(out);
  assert.equal(
    lines.map(({ event, status }) => event ?? status),
    ["ACCEPTED", "ENROUTE", "FAILED", "FAILED"],
  );
  await peer.close();
});

test("the key that the server here left is for that server alone", async () => {
  const keys: unknown[] = [];
  const answer = ({ headers }: IncomingMessage): Answer => {
    keys.push(headers.authorization);
    return { status: 200, body: trace };
  };
  const elsewhere = await openMessagingPeer({ routes: { "GET /api/v1/messages/last/trace": answer } });
  serverRuns({});
  const { code, err } = await runs(["trace", "last", "--url", elsewhere.url]);
  assert.is(code, 77);
  assert.match(err, "the admin API needs a key");
  assert.equal(keys, []);
  serverRuns({ url: elsewhere.url });
  assert.is((await runs(["trace", "last", "--url", `${elsewhere.url}/`])).code, 0);
  assert.equal(keys, ["Bearer the-key"]);
  assert.is((await runs(["trace", "last", "--url", "nonsense"])).code, 64);
  await elsewhere.close();
});

for (const [status, code, words] of [
  [404, 67, "knows no page"],
  [401, 77, "TOCSIN_ADMIN_KEY"],
  [403, 77, "--key"],
  [503, 69, "Try again"],
  [418, 76, "HTTP 418"],
] as const) {
  test(`trace ends with ${code} when the server answers HTTP ${status}`, async () => {
    const peer = await openMessagingPeer({
      routes: { "GET /api/v1/messages/x/trace": { status, body: { title: "No" } } },
    });
    const ended = await runs(["trace", "x", "--url", `${peer.url}/`, "--key", "k"]);
    assert.is(ended.code, code);
    assert.match(ended.err, words);
    await peer.close();
  });
}

test.run();
