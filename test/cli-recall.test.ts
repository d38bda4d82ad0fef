/** `tocsin recall`, against an HTTP peer. */
import type { IncomingMessage } from "node:http";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine, recordsOf } from "./helpers/command-line.ts";
import { type Answer, openMessagingPeer } from "./helpers/messaging-peer.ts";

const { runs, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

const [FIRST, SECOND] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];
const page = (uniqueId: string) => ({
  uniqueId,
  ...{ trackingId: "t 1", destination: "1001", status: "FAILED", outcome: "RECALLED" },
});

/** Who was recalled, and why, in order. */
async function serverWith(pages: readonly string[]) {
  const recalled: string[] = [];
  const found: Answer = { status: 200, body: { ...page(pages[0]!), outcome: undefined, status: "DELIVERED" } };
  const recall = (uniqueId: string) => ({
    [`POST /api/v1/messages/${uniqueId}/recall`]: (request: IncomingMessage): Answer => {
      request.on("data", (body: Buffer) => recalled.push(`${uniqueId} ${body}`));
      return { status: 200, body: page(uniqueId) };
    },
  });
  const peer = await openMessagingPeer({
    routes: {
      ...{ "GET /api/v1/messages/t%201/trace": found, "GET /api/v1/messages/last/trace": found },
      [`GET /api/v1/messages/${FIRST}/trace`]: found,
      "GET /api/v1/messages?trackingId=t%201&limit=200": { status: 200, body: { items: pages.map(page), next: null } },
      "GET /api/v1/messages/refused/trace": { status: 200, body: { ...page(FIRST), uniqueId: null } },
      "GET /api/v1/messages/nothing/trace": { status: 404, body: {} },
      ...recall(FIRST),
      ...recall(SECOND),
    },
  });
  serverRuns({ url: peer.url });
  return { peer, recalled };
}

test("recall takes a trackingId, a uniqueId or last, and says what its host was told", async () => {
  const { peer, recalled } = await serverWith([FIRST]);
  for (const id of ["t 1", FIRST, "last"]) {
    const { code, out, err } = await runs(["recall", id, "--reason", "wrong ward"]);
    assert.is(code, 0, err);
    assert.is(out, `Recalled ${FIRST} to 1001; what its host was told last: FAILED\n`);
  }
  const { out } = await runs(["recall", "last", "--json"]);
  assert.equal(recordsOf(out), [page(FIRST)]);
  assert.equal(recalled, [...Array.from({ length: 3 }, () => `${FIRST} {"reason":"wrong ward"}`), `${FIRST} {}`]);
  await peer.close();
});

test("of several pages under one trackingId none is recalled unless all are meant, and they are listed", async () => {
  const { peer, recalled } = await serverWith([FIRST, SECOND]);
  const { code, out, err } = await runs(["recall", "t 1"]);
  assert.equal([code, out, recalled], [64, "", []]);
  for (const said of [FIRST, SECOND, "2 pages have this trackingId", "--all"]) assert.match(err, said);
  assert.is((await runs(["recall", FIRST])).code, 0);
  assert.is((await runs(["recall", "t 1", "--all"])).code, 0);
  assert.equal(recalled, [`${FIRST} {}`, `${FIRST} {}`, `${SECOND} {}`]);
  await peer.close();
});

test("what there is none of, or what cannot be said, is refused before anything is recalled", async () => {
  const { peer, recalled } = await serverWith([FIRST]);
  assert.is((await runs(["recall", "nothing"])).code, 67);
  assert.is((await runs(["recall", "refused"])).code, 67, "refused before it became a page");
  for (const reason of ["", "x".repeat(201), "two\nlines"])
    assert.is((await runs(["recall", FIRST, "--reason", reason])).code, 64, reason);
  assert.equal(recalled, []);
  await peer.close();
});

test.run();
