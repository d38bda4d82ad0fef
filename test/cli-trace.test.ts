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
  next: { what: "if nobody fetches it, the host is told FAILED", at: "2026-01-02T03:06:05.000Z" },
  finished: false,
  events: [
    { id: "1", at: "2026-01-02T03:04:05.000Z", event: "ACCEPTED", node: "n1", detail: null },
    { id: "2", at: "2026-01-02T03:04:05.250Z", event: "ENROUTE", node: "n1", detail: "push-1" },
  ],
  earlier: 0,
  family: [] as object[],
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

const kin = {
  uniqueId: "00000000-0000-4000-8000-000000000002",
  relation: "child",
  destination: "1002",
  status: "QUEUED",
  why: "this page was passed on to it by step 1 of the rule",
};

test("a page's family and what is left out of its history are shown", async () => {
  const body = { ...trace, earlier: 4_500, family: [kin] };
  const peer = await openMessagingPeer({ routes: { "GET /api/v1/messages/t/trace": { status: 200, body } } });
  serverRuns({ url: peer.url });
  const { out } = await runs(["trace", "t"]);
  assert.match(out, "4500 earlier events are not shown");
  assert.match(out, /QUEUED +1002 +00000000-0000-4000-8000-000000000002 +this page was passed on to it by step 1/);
  await peer.close();
});

test("trace --follow goes on until the page and those it was passed on to are over, tells each step once, and ends with 1", async () => {
  const failed = { id: "3", at: "2026-01-02T03:04:06.000Z", event: "FAILED", node: "n1", detail: "no answer" };
  // A provider's answer may be dated before what was told already.
  const push = { id: "p SENT", at: "2026-01-02T03:04:05.300Z", event: "PUSH SENT", node: "hosted", detail: "FCM" };
  const family = [{ ...kin }];
  let asked = 0;
  const answer = (): Answer => {
    asked++;
    if (asked === 1) return { status: 200, body: { ...trace, family } };
    if (asked < 4) return { status: 502, body: {} };
    const events = [...trace.events, push, failed];
    const over = { ...trace, status: "FAILED", why: "Failed.", next: null, events };
    if (asked === 4) return { status: 200, body: { ...over, family } };
    return { status: 200, body: { ...over, finished: true, family: [{ ...kin, status: "FAILED" }] } };
  };
  const peer = await openMessagingPeer({
    routes: { "GET /api/v1/messages/last/trace": answer, [`GET /api/v1/messages/${trace.uniqueId}/trace`]: answer },
  });
  serverRuns({ url: peer.url });
  const { code, out, err } = await runs(["trace", "last", "--follow", "--json"]);
  assert.is(code, 1);
  assert.equal(
    recordsOf(out).map(({ event, status }) => event ?? status),
    ["ACCEPTED", "ENROUTE", "QUEUED", "PUSH SENT", "FAILED", "FAILED", "FAILED"],
  );
  assert.match(err, /HTTP 502; trying again\n.*there again/);
  await peer.close();
});

test("trace --follow of a page that nothing more is awaited of ends at once, and of one that goes on, with the time given", async () => {
  const peer = await openMessagingPeer({
    routes: {
      "GET /api/v1/messages/a/trace": { status: 200, body: { ...trace, status: "ACKNOWLEDGED", finished: true } },
      "GET /api/v1/messages/b/trace": { status: 200, body: trace },
      [`GET /api/v1/messages/${trace.uniqueId}/trace`]: { status: 200, body: trace },
    },
  });
  serverRuns({ url: peer.url });
  assert.is((await runs(["trace", "a", "--follow"])).code, 0);
  const { code, out } = await runs(["trace", "b", "--follow", "--timeout", "1.5"]);
  assert.is(code, 2);
  assert.is(out.split("ENROUTE").length, 3, "once as a step, once at the end");
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
