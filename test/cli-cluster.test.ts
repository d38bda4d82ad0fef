// limit: 180 s
/** `tocsin cluster`: against an HTTP peer, and against two real nodes that tell the same and are steered by it. */
import type { IncomingMessage } from "node:http";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine, recordsOf } from "./helpers/command-line.ts";
import { openTestDatabase } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Answer, openMessagingPeer } from "./helpers/messaging-peer.ts";
import { startNode } from "./helpers/node.ts";

const { runs, starts, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

const seen = {
  nodes: [
    {
      ...{ name: "n1", boot: "00000000-0000-4000-8000-000000000001", address: "127.0.0.1", state: "LIVE", why: null },
      ...{ load: 0.125, shards: 200, owns: "0-199", leaseLeftMs: 1_700, ageMs: 125_000 },
    },
    {
      ...{ name: "n2", boot: "00000000-0000-4000-8000-000000000002", address: "127.0.0.1", state: "DRAINING" },
      ...{ why: "service http keeps failing", load: 0.5, shards: 56, owns: "200-255", leaseLeftMs: 1_200, ageMs: 900 },
    },
  ],
  unowned: 0,
  moves: [{ at: "2026-01-02T03:04:05.000Z", from: "n2", to: "n1", shards: 72 }],
};

test("cluster shows a line for each node and what moved; with --json, what the server said as one object", async () => {
  const peer = await openMessagingPeer({ routes: { "GET /api/v1/cluster": { status: 200, body: seen } } });
  serverRuns({ url: peer.url });
  const people = await runs(["cluster"]);
  assert.is(people.code, 0, people.err);
  assert.match(people.out, /^node +state +shards +load +lease +up for +why\n/);
  assert.match(people.out, /n1 +LIVE +200 +13 % +1\.7 s +2 min 5 s\n/);
  assert.match(people.out, /n2 +DRAINING +56 +50 % +1\.2 s +900 ms +service http keeps failing/);
  assert.match(people.out, /\d\d:04:05 +72 +n2 +n1/);
  const programs = await runs(["cluster", "--json"]);
  assert.equal(JSON.parse(programs.out), seen);
  await peer.close();
});

test("shards without an owner end it with 1, and are said", async () => {
  const body = { nodes: [], unowned: 256, moves: [] };
  const peer = await openMessagingPeer({ routes: { "GET /api/v1/cluster": { status: 200, body } } });
  serverRuns({ url: peer.url });
  const { code, out } = await runs(["cluster"]);
  assert.is(code, 1);
  assert.match(out, "256 shards have no owner");
  await peer.close();
});

test("--watch shows it again and again, through a moment without a server, until it is interrupted", async () => {
  let asked = 0;
  const answer = (): Answer => {
    asked += 1;
    return asked === 2 ? { status: 503, body: {} } : { status: 200, body: seen };
  };
  const peer = await openMessagingPeer({ routes: { "GET /api/v1/cluster": answer } });
  serverRuns({ url: peer.url });
  const typed = starts(["cluster", "--watch", "--json"]);
  await eventually("it was shown three times", () => typed.records().length >= 3);
  typed.child.kill("SIGINT");
  const { code, err } = await typed.ended;
  assert.is(code, 130);
  assert.match(err, "trying again");
  await peer.close();
});

for (const [status, code, words] of [
  [404, 67, "no living node is named n 9"],
  [401, 77, "TOCSIN_ADMIN_KEY"],
  [503, 69, "Try again"],
  [418, 76, "HTTP 418"],
] as const) {
  test(`cluster drain and undrain end with ${code} when the server answers HTTP ${status}`, async () => {
    const answer = { status, body: { title: "No" } };
    const peer = await openMessagingPeer({
      routes: {
        "POST /api/v1/cluster/nodes/n%209/drain": answer,
        "DELETE /api/v1/cluster/nodes/n%209/drain": answer,
      },
    });
    for (const command of ["drain", "undrain"]) {
      const ended = await runs(["cluster", command, "n 9", "--url", `${peer.url}/`, "--key", "k"]);
      assert.is(ended.code, code, ended.err);
      assert.match(ended.err, words);
    }
    await peer.close();
  });
}

test("cluster drain and undrain say what they ask for", async () => {
  const calls: string[] = [];
  const answer = ({ method, url }: IncomingMessage): Answer => {
    calls.push(`${method} ${url}`);
    return { status: 200, body: {} };
  };
  const route = "/api/v1/cluster/nodes/n1/drain";
  const peer = await openMessagingPeer({ routes: { [`POST ${route}`]: answer, [`DELETE ${route}`]: answer } });
  serverRuns({ url: peer.url });
  assert.match((await runs(["cluster", "drain", "n1"])).out, "n1 gives its shards away");
  assert.equal(recordsOf((await runs(["cluster", "undrain", "n1", "--json"])).out), [{ node: "n1", drain: false }]);
  assert.equal(calls, [`POST ${route}`, `DELETE ${route}`]);
  assert.is((await runs(["cluster", "drain"])).code, 64);
  await peer.close();
});

test("two nodes tell the same; one that is drained through the other gives all it has, says why, and takes shards again", async () => {
  const database = await openTestDatabase();
  const settings = { TOCSIN_PREMISE_DATABASE_URL: database.url, TOCSIN_ADMIN_KEY: "the-key-of-both-nodes" };
  const first = await startNode({ ...settings, TOCSIN_NODE: "first" });
  const second = await startNode({ ...settings, TOCSIN_NODE: "second" });
  type Seen = { nodes: { name: string; state: string; why: string | null; shards: number }[]; moves: object[] };
  const see = async ({ run }: typeof first) => {
    const { code, out, err } = await runs([
      "cluster",
      "--json",
      "--url",
      run().url,
      "--key",
      settings.TOCSIN_ADMIN_KEY,
    ]);
    assert.is(code, 0, err);
    const { nodes, moves } = JSON.parse(out) as Seen;
    return { nodes: nodes.map(({ name, state, why, shards }) => ({ name, state, why, shards })), moves };
  };
  const steer = async (command: string, node: string) =>
    (await runs(["cluster", command, node, "--url", second.run().url, "--key", settings.TOCSIN_ADMIN_KEY])).code;
  const balanced = async () => (await see(first)).nodes.every(({ shards, state }) => shards > 64 && state === "LIVE");
  try {
    await eventually("both drive shards", balanced, 30_000);
    await eventually("both tell the same", async () => assert.equal(await see(first), await see(second)) === undefined);
    assert.is(await steer("drain", "first"), 0);
    await eventually(
      "the first drives none",
      async () => (await see(first)).nodes.find(({ name }) => name === "first")!.shards === 0,
    );
    const drained = { name: "first", state: "DRAINING", why: "an operator asked", shards: 0 };
    for (const node of [first, second]) {
      const { nodes } = await see(node);
      assert.equal(nodes, [drained, { name: "second", state: "LIVE", why: null, shards: 256 }]);
    }
    const ready = await fetch(`${first.run().url}/readyz`);
    assert.is(ready.status, 503);
    assert.match(await ready.text(), "an operator asked");
    assert.match(
      second.said(),
      /"part":"audit","call":"POST \/api\/v1\/cluster\/nodes\/:name\/drain","about":"first","key":"bootstrap"/,
    );
    const metrics = await (await fetch(first.run().metricsUrl!)).text();
    assert.match(metrics, /tocsin_nodes\{state="DRAINING"\} 1\n/);
    assert.match(metrics, /tocsin_shard_moves_total\{direction="given"\} [1-9]/);
    assert.match(metrics, /tocsin_lease_seconds [01]\.\d/);
    assert.is(await steer("drain", "nobody"), 67);

    assert.is(await steer("undrain", "first"), 0);
    await eventually("both drive shards again", balanced, 30_000);
    assert.is((await fetch(`${first.run().url}/readyz`)).status, 200);
  } finally {
    await second.close();
    await first.close();
    await database.close();
  }
});

test.run();
