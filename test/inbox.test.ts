/** What waits for phones, asked for together. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inboxes } from "../persistence/inbox.ts";
import { openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database } = ward;
const lab = await ward.host("lab");
const { accept, receipt } = openPages(ward);
test.after(() => ward.close());

async function owner(destination: string) {
  const subscriberId = await ward.subscriber(destination);
  return { destination, device: { id: await ward.device(subscriberId), subscriberId } };
}

const long = (destination: string) => pageFor(ward, lab, destination, { text: "ü".repeat(50_000) });

test("each of many phones gets its own pages, as many as it asks for, and hears whether there are more", async () => {
  const [one, two, none] = [await owner("1001"), await owner("1002"), await owner("1003")];
  const [first, urgent, other] = [
    pageFor(ward, lab, one.destination, { priority: "low" }),
    pageFor(ward, lab, one.destination, { priority: "high" }),
    pageFor(ward, lab, two.destination),
  ];
  await accept(first);
  await accept(urgent);
  await accept(other);
  const found = await inboxes(database, [
    { device: two.device, limit: 100 },
    { device: one.device, limit: 1 },
    { device: none.device, limit: 100 },
  ]);
  assert.equal(
    found.map(({ pages, more }) => [pages.map(({ uniqueId }) => uniqueId), more]),
    [
      [[other.uniqueId], false],
      [[urgent.uniqueId], true],
      [[], false],
    ],
  );
  await receipt(urgent.uniqueId, one.device.id, "DELIVERED");
  const [rest] = await inboxes(database, [{ device: one.device, limit: 1 }]);
  assert.equal([rest!.pages.map(({ uniqueId }) => uniqueId), rest!.more], [[first.uniqueId], false]);
});

test("however long the pages, they are cut for each and for all together, and each phone gets one at least", async () => {
  const owners = await Promise.all(Array.from({ length: 20 }, (_, n) => owner(`200${n}`)));
  for (const { destination } of owners) await accept(...Array.from({ length: 12 }, () => long(destination)));
  const alone = await inboxes(database, [{ device: owners[0]!.device, limit: 100 }]);
  // 100,000 bytes each
  assert.equal([alone[0]!.pages.length, alone[0]!.more], [10, true]);
  const together = await inboxes(
    database,
    owners.map(({ device }) => ({ device, limit: 100 })),
  );
  assert.equal(new Set(together.map(({ pages, more }) => `${pages.length} ${more}`)), new Set(["4 true"]));
  const crowd = Array.from({ length: 100 }, (_, n) => ({ device: owners[n % owners.length]!.device, limit: 100 }));
  const crowded = await inboxes(database, crowd);
  assert.equal(new Set(crowded.map(({ pages, more }) => `${pages.length} ${more}`)), new Set(["1 true"]));
});

test.run();
