/** Pages as they change, followed from place to place: none left out, whoever writes, and none from before. */
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, HostSystemId, LinkId } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { claimNews, openLink } from "../persistence/outbox.ts";
import { type ChangeFilter, changesSince, type PageChange } from "../persistence/page-changes.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { eventually } from "./helpers/eventually.ts";
import { openPagedWard, type PagedWard } from "./helpers/paged-ward.ts";
import { pageFor } from "./helpers/ward.ts";

let ward: PagedWard;
test.before(async () => {
  ward = await openPagedWard();
});
test.after(() => ward.close());

const ANY: ChangeFilter = { host: null, destination: null, status: null, priority: null };

async function follow(filter: Partial<ChangeFilter> = {}, limit = 100) {
  let place = (await changesSince(ward.database, { ...ANY, ...filter }, null, limit)).next;
  return {
    /** Of one look after the other, until there is no more. */
    async sees(): Promise<PageChange[]> {
      const seen: PageChange[] = [];
      for (;;) {
        const { items, next, more } = await changesSince(ward.database, { ...ANY, ...filter }, place, limit);
        assert.ok(items.length <= limit);
        seen.push(...items);
        place = next;
        if (!more) return seen;
      }
    },
  };
}
const words = (items: readonly PageChange[]) => items.map(({ trackingId, status }) => [trackingId, status]);

test("each change is seen once and in order, by however small looks, and what was before is not", async () => {
  await ward.accepted({ trackingId: "before" });
  const [whole, small] = [await follow(), await follow({}, 1)];
  const { page, device } = await ward.accepted({ trackingId: "change", text: "SECRET" });
  await recordReceipts(ward.database, "node-b", [{ uniqueId: page.uniqueId, deviceId: device, receipt: "READ" }]);
  const expected = [
    ["change", "ACCEPTED"],
    ["change", "QUEUED"],
    ["change", "READ"],
  ];
  const seen = await whole.sees();
  assert.equal(words(seen), expected);
  assert.equal(words(await small.sees()), expected);
  assert.not.match(JSON.stringify(seen), "SECRET");
  assert.equal(await whole.sees(), []);
  await recordReceipts(ward.database, "node-a", [
    { uniqueId: page.uniqueId, deviceId: device, receipt: "ACKNOWLEDGED" },
  ]);
  assert.equal(words(await whole.sees()), [["change", "ACKNOWLEDGED"]]);
  assert.equal(words(await small.sees()), [["change", "ACKNOWLEDGED"]]);
});

test("a change that is committed late, behind others dated after it, is not passed by", async () => {
  const { page, device } = await ward.accepted({ trackingId: "slow" });
  const followed = await follow();
  const other = postgres(ward.url, { max: 1, onnotice: () => {} });
  const finish = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const late = other.begin(async (tx) => {
    await tx`update premise_core.messages set told = 'READ' where unique_id = ${page.uniqueId}`;
    await tx`
      insert into premise_core.host_outbox (lane, host_system_id, unique_id, status, at)
      values (${page.hostSystemId}, ${page.hostSystemId}, ${page.uniqueId}, 'READ', clock_timestamp())`;
    begun.resolve();
    await finish.promise;
  });
  await begun.promise;
  const next = await ward.accepted({ trackingId: "quick" });
  assert.equal(await followed.sees(), [], "nothing is shown past it");
  finish.resolve();
  await late;
  assert.equal(words(await followed.sees()), [
    ["slow", "READ"],
    ["quick", "ACCEPTED"],
    ["quick", "QUEUED"],
  ]);
  assert.ok(next.device && device);
  await other.end();
});

test("what a host was owed from before comes not again when it takes it up, and what is new comes under its old id", async () => {
  const { page } = await ward.accepted({ trackingId: "old" });
  await ward.sql`update premise_core.host_outbox set at = at - interval '1 minute' where unique_id = ${page.uniqueId}`;
  const followed = await follow();
  const { page: fresh } = await ward.accepted({ trackingId: "new", hostSystemId: page.hostSystemId });
  const first = await followed.sees();
  const link = randomUUID() as LinkId;
  await openLink(ward.database, link, page.hostSystemId as HostSystemId, randomUUID() as BootId);
  assert.is((await claimNews(ward.database, link, page.hostSystemId, 100)).moved, 4);
  const again = await followed.sees();
  assert.equal(words(first), [
    ["new", "ACCEPTED"],
    ["new", "QUEUED"],
  ]);
  assert.equal(
    again.map(({ id, uniqueId }) => [id, uniqueId]),
    first.map(({ id }) => [id, fresh.uniqueId]),
  );
});

test("changes of many hosts written at once by many connections are all seen", async () => {
  const hosts = await Promise.all(Array.from({ length: 5 }, (_, n) => ward.host(`crowd ${n}`)));
  const destination = "5559100";
  await ward.device(await ward.subscriber(destination));
  const followed = await follow({}, 7);
  const pages = Array.from({ length: 200 }, (_, n) =>
    pageFor(ward, hosts[n % 5]!, destination, { trackingId: `crowd-${n}` }),
  );
  let writing = true;
  const seen: PageChange[] = [];
  const watching = (async () => {
    while (writing) seen.push(...(await followed.sees()));
  })();
  await Promise.all(pages.map((page) => acceptPages(ward.database, "node-a", [page])));
  writing = false;
  await watching;
  await eventually("all are seen", async () => {
    seen.push(...(await followed.sees()));
    return seen.length >= 400;
  });
  assert.is(new Set(seen.map(({ id }) => id)).size, 400);
  assert.is(seen.length, 400);
});

test("host, destination, priority and status narrow what is seen", async () => {
  const host = await ward.host("narrow");
  const followed = await Promise.all(
    [
      { host: "narrow" },
      { destination: "555-9200" },
      { priority: "low" },
      { status: "QUEUED" },
      { host: "nobody" },
    ].map((filter) => follow(filter as Partial<ChangeFilter>)),
  );
  await ward.device(await ward.subscriber("5559200"));
  await acceptPages(ward.database, "node-a", [pageFor(ward, host, "5559200", { trackingId: "mine", priority: "low" })]);
  await ward.accepted({ trackingId: "theirs" });
  const mine = [
    ["mine", "ACCEPTED"],
    ["mine", "QUEUED"],
  ];
  const seen = await Promise.all(followed.map(async (each) => words(await each.sees())));
  assert.equal(seen, [
    mine,
    mine,
    mine,
    [
      ["mine", "QUEUED"],
      ["theirs", "QUEUED"],
    ],
    [],
  ]);
});

test("test pages of our own are not seen", async () => {
  const host = await ward.host("tocsin-synthetic-1");
  await ward.sql`update premise_core.host_systems set synthetic = true where id = ${host}`;
  const followed = await follow();
  await ward.accepted({ hostSystemId: host, synthetic: true });
  assert.equal(await followed.sees(), []);
});

test("a place of another server, or of one that went on without it, says that there is a gap and goes on from now", async () => {
  const { next } = await changesSince(ward.database, ANY, null, 10);
  const [timeline, written, id, since] = next.split(".") as [string, string, string, string];
  for (const place of [`FF.${written}.${id}.${since}`, `${timeline}.${BigInt(written) + 1_000_000n}.${id}.${since}`]) {
    const jump = await changesSince(ward.database, ANY, place, 10);
    assert.equal([jump.gap, jump.items], [true, []]);
    const { page } = await ward.accepted();
    const on = await changesSince(ward.database, ANY, jump.next, 10);
    assert.equal([on.gap, on.items.map(({ uniqueId }) => uniqueId)], [false, [page.uniqueId, page.uniqueId]]);
  }
});

test("a place nobody gave out is refused", async () => {
  for (const place of ["", "1", "1.2.3", "x.1.1.1", `1.${"9".repeat(19)}.1.1`, `1.1.${"9".repeat(19)}.1`, "1.1.1.1'"]) {
    try {
      await changesSince(ward.database, ANY, place, 1);
      assert.unreachable(place);
    } catch (error) {
      assert.instance(error, RangeError, place);
    }
  }
});

test.run();
