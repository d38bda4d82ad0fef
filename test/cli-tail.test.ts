// limit: 240 s
/** `tocsin tail`, against an HTTP peer. */
import type { IncomingMessage } from "node:http";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine } from "./helpers/command-line.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Answer, openMessagingPeer } from "./helpers/messaging-peer.ts";

const { runs, starts, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

const change = (id: number, status: string, more: object = {}) => ({
  id: String(id),
  at: "2026-01-02T03:04:05.250Z",
  status,
  reason: null,
  uniqueId: "00000000-0000-4000-8000-000000000001",
  trackingId: "t-1",
  origin: "lab",
  destination: "1001",
  priority: "high",
  ...more,
});
const stuckPage = (n: number, more: object = {}) => ({
  uniqueId: `00000000-0000-4000-8000-00000000000${n}`,
  trackingId: `t-${n}`,
  origin: "lab",
  destination: "1001",
  priority: "high",
  status: "ENROUTE",
  acceptedAt: "2026-01-02T03:04:05.000Z",
  dueAt: null,
  deviceDeadline: "2026-01-02T03:06:05.000Z",
  ...more,
});

/** Answers in order, the last one again and again; every query it was asked with. */
function server(answers: readonly Answer[], path: string) {
  const asked: URLSearchParams[] = [];
  const answer = ({ url }: IncomingMessage): Answer => {
    asked.push(new URL(url!, "http://x").searchParams);
    return answers[Math.min(asked.length, answers.length) - 1]!;
  };
  // The peer knows routes by their whole URL.
  const routes = new Proxy(
    {},
    { get: (_, route: string) => (route.startsWith(`GET /api/v1/${path}`) ? answer : undefined), has: () => true },
  );
  return { asked, routes };
}
const changes = (items: object[], next: string, more = {}): Answer => ({
  status: 200,
  body: { items, next, more: false, gap: false, ...more },
});

test("tail shows each change once, asks behind the last place, and at once where there is more", async () => {
  const { asked, routes } = server(
    [
      changes([], "p0"),
      changes([change(1, "ACCEPTED"), change(2, "QUEUED")], "p1", { more: true }),
      changes([change(2, "QUEUED"), change(3, "FAILED", { reason: "unknown \u001b[2J" })], "p2"),
      changes([], "p3"),
    ],
    "messages/changes",
  );
  const peer = await openMessagingPeer({ routes });
  serverRuns({ url: peer.url });
  const { code, out } = await runs(["tail", "--host", "lab & co", "--status", "failed", "--timeout", "3.5"]);
  assert.is(code, 2);
  const lines = out.trim().split("\n").slice(2);
  assert.is(lines.length, 3);
  assert.match(lines[0]!, /05\.250 +ACCEPTED +high +lab → 1001 +t-1$/);
  assert.match(lines[2]!, "unknown ␛[2J");
  assert.equal(
    asked.slice(0, 4).map((query) => query.get("after")),
    [null, "p0", "p1", "p2"],
  );
  assert.equal([asked[0]!.get("host"), asked[3]!.get("status"), asked[3]!.get("stuck")], ["lab & co", "FAILED", null]);
  await peer.close();
});

test("tail goes on over a server that is away, says so once, and tells a gap", async () => {
  const { routes } = server(
    [
      changes([], "p0"),
      { status: 503, body: {} },
      { status: 503, body: {} },
      changes([change(1, "READ")], "p1", { gap: true }),
      changes([], "p2"),
    ],
    "messages/changes",
  );
  const peer = await openMessagingPeer({ routes });
  serverRuns({ url: peer.url });
  const { child, records, ended } = starts(["tail", "--json"]);
  await eventually("the change is shown", () => records().length === 1);
  child.kill("SIGINT");
  const { code, err } = await ended;
  assert.is(code, 130);
  assert.is(err.split("trying again").length, 2);
  assert.match(err, "there again");
  assert.match(err, "changes may be missing");
  await peer.close();
});

test("tail that reaches no server at all ends with 69, and one that may not read, later too, with 77", async () => {
  assert.is((await runs(["tail"])).code, 69);
  const { routes } = server([changes([], "p0"), { status: 401, body: {} }], "messages/changes");
  const peer = await openMessagingPeer({ routes });
  serverRuns({ url: peer.url });
  assert.is((await runs(["tail"])).code, 77);
  await peer.close();
});

test("tail --stuck tells what joins and what leaves, why, and ends with 1 while any is stuck", async () => {
  const due = new Date(Date.now() - 60_000).toISOString();
  const page = (items: object[], next: string | null = null): Answer => ({ status: 200, body: { items, next } });
  const { asked, routes } = server(
    [page([stuckPage(1), stuckPage(2, { dueAt: due })]), page([stuckPage(2, { dueAt: due })]), page([stuckPage(3)])],
    "messages",
  );
  const peer = await openMessagingPeer({ routes });
  serverRuns({ url: peer.url });
  const people = await runs(["tail", "--stuck", "--destination", "1001", "--timeout", "3"]);
  assert.is(people.code, 1);
  const lines = people.out.trim().split("\n");
  assert.match(lines[0]!, /ENROUTE +high +.* t-1 +not fetched by its deadline, .* ago$/);
  assert.match(lines[1]!, /t-2 +its next step is overdue by 1 min.*: no node drives it$/);
  assert.is(lines[2], "no longer stuck: t-1");
  assert.equal([asked[0]!.get("stuck"), asked[0]!.get("destination")], ["true", "1001"]);
  const programs = starts(["tail", "--stuck", "--json"]);
  await eventually("the third is told", () => programs.records().length === 1);
  programs.child.kill("SIGINT");
  assert.is((await programs.ended).code, 1);
  assert.equal(
    programs.records().map(({ trackingId, stuck }) => [trackingId, stuck]),
    [["t-3", true]],
  );
  await peer.close();
});

test("tail --stuck says that none is, and ends with 0", async () => {
  const { routes } = server([{ status: 200, body: { items: [], next: null } }], "messages");
  const peer = await openMessagingPeer({ routes });
  serverRuns({ url: peer.url });
  const { code, out } = await runs(["tail", "--stuck", "--timeout", "1"]);
  assert.equal([code, out], [0, "No page is stuck.\n"]);
  await peer.close();
});

for (const args of [
  ["--status", "LOST"],
  ["--priority", "urgent"],
  ["--timeout", "0"],
  ["--stuck", "now"],
]) {
  test(`tail ${args.join(" ")} is a wrong command line`, async () => {
    serverRuns({});
    assert.is((await runs(["tail", ...args])).code, 64);
  });
}

test.run();
