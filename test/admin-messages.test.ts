/** What the admin API tells of pages: lists, changes and traces, over real HTTP. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { acceptPages } from "../persistence/acceptance.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { type AdminApi, openAdminApi } from "./helpers/admin-api.ts";
import { pageFor } from "./helpers/ward.ts";

let api: AdminApi;
test.before(async () => {
  api = await openAdminApi();
});
test.after(() => api.close());

test("pages are listed by status, destination and trackingId, newest first, without their text", async () => {
  const host = await api.ward.host("lister");
  const subscriber = await api.ward.subscriber("5550130");
  const device = await api.ward.device(subscriber);
  const ids: string[] = [];
  for (let n = 0; n < 5; n += 1) {
    const page = pageFor(api.ward, host, "5550130", {
      trackingId: `list-${n}`,
      text: `SECRET ${n}`,
      fromName: "SECRET",
    });
    await acceptPages(api.ward.database, "node-a", [page]);
    ids.unshift(page.uniqueId);
  }
  await recordReceipts(api.ward.database, "node-a", [{ uniqueId: ids[0] as never, deviceId: device, receipt: "READ" }]);
  const all = await api.call("GET", "/api/v1/messages?destination=555-0130&status=&trackingId=");
  assert.equal(
    all.body.items!.map((item) => item.uniqueId),
    ids,
  );
  assert.equal(
    all.body.items!.map((item) => item.status),
    ["READ", "QUEUED", "QUEUED", "QUEUED", "QUEUED"],
  );
  assert.not.match(all.text, "SECRET");
  const read = await api.call("GET", "/api/v1/messages?destination=5550130&status=READ");
  assert.equal(
    read.body.items!.map((item) => item.uniqueId),
    [ids[0]],
  );
  const one = await api.call("GET", "/api/v1/messages?trackingId=list-3");
  assert.equal(
    one.body.items!.map((item) => item.uniqueId),
    [ids[1]],
  );
  const first = await api.call("GET", "/api/v1/messages?destination=5550130&limit=3");
  const second = await api.call("GET", `/api/v1/messages?destination=5550130&limit=3&cursor=${first.body.next}`);
  assert.equal(
    [...first.body.items!, ...second.body.items!].map((item) => item.uniqueId),
    ids,
  );
  assert.is((await api.call("GET", "/api/v1/messages?cursor=nonsense")).body.code, "invalid-cursor");
  const narrow = async (query: string) => {
    const { status, body } = await api.call("GET", `/api/v1/messages?destination=5550130&${query}`);
    return status === 200 ? body.items!.length : body.code;
  };
  const now = encodeURIComponent(new Date().toISOString());
  for (const [query, found] of [
    ["host=lister&priority=high&outcome=", 5],
    ["host=nobody", 0],
    ["priority=low", 0],
    ["outcome=FAILED", 0],
    [`until=${now}`, 5],
    [`since=${now}`, 0],
    ["since=&until=2026-01-02T03:04Z", 0],
    ["since=yesterday", "invalid-field"],
    ["since=2026-13-45T00:00:00Z", "invalid-field"],
    ["priority=urgent", "invalid-field"],
  ] as const)
    assert.is(await narrow(query), found, query);
});

test("changes are followed from place to place, without a page's text", async () => {
  const host = await api.ward.host("changer");
  await api.ward.device(await api.ward.subscriber("5550132"));
  const follow = (query: string) => api.call("GET", `/api/v1/messages/changes?host=changer${query}`);
  const begin = await follow("");
  assert.equal([begin.status, begin.body.items], [200, []], begin.text);
  const page = pageFor(api.ward, host, "5550132", { trackingId: "c-1", text: "SECRET", fromName: "SECRET" });
  await acceptPages(api.ward.database, "node-a", [page]);
  const first = await follow(`&limit=1&after=${begin.body.next}`);
  const second = await follow(`&after=${first.body.next}&status=`);
  const items = [...first.body.items!, ...second.body.items!];
  assert.equal(
    items.map((item) => [item.status, item.uniqueId, item.priority, item.origin, item.destination]),
    ["ACCEPTED", "QUEUED"].map((status) => [status, page.uniqueId, "high", "lab", "5550132"]),
  );
  assert.equal([first.body.more, second.body.more, second.body.gap], [true, false, false]);
  assert.not.match(first.text + second.text, "SECRET");
  assert.is((await follow("&after=nonsense")).body.code, "invalid-cursor");
  assert.is((await follow("&limit=100000")).body.code, "invalid-field");
});

test("a page's trace is found by uniqueId, trackingId and as the last one, and says why without its text", async () => {
  const host = await api.ward.host("tracer");
  await api.ward.device(await api.ward.subscriber("5550131"));
  const page = pageFor(api.ward, host, "5550131", { trackingId: "a/b c?&#", text: "SECRET", fromName: "SECRET" });
  await acceptPages(api.ward.database, "node-a", [page]);
  for (const which of [page.uniqueId, page.uniqueId.toUpperCase(), encodeURIComponent("a/b c?&#"), "last"]) {
    const answer = await api.call("GET", `/api/v1/messages/${which}/trace`);
    assert.is(answer.status, 200, answer.text);
    assert.equal(
      [answer.body.uniqueId, answer.body.status, answer.body.destination],
      [page.uniqueId, "QUEUED", "5550131"],
    );
    assert.equal(
      answer.body.events!.map((event) => [event.event, event.node]),
      [
        ["ACCEPTED", "node-a"],
        ["QUEUED", "node-a"],
      ],
    );
    assert.match(answer.body.why!, "Waiting for the first wake-up");
    assert.not.match(answer.text, "SECRET");
  }
  for (const which of ["nobody-knows", randomUUID()]) {
    assert.is((await api.call("GET", `/api/v1/messages/${which}/trace`)).status, 404);
  }
});

test.run();
