import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, NotificationId, Receipt, UniqueId } from "../domain.ts";
import { acceptPages, type PageToAccept } from "../persistence/acceptance.ts";
import { openNotifications, storeNotifications } from "../persistence/notifications.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { openWakeUps } from "./helpers/wake-ups.ts";
import { pageFor } from "./helpers/ward.ts";

const ward = await openWakeUps();
const { database, sql } = ward;
test.after(() => ward.close());
const host = await ward.host("lab");

let people = 0;
async function person(devices = 1) {
  people += 1;
  const destination = `555${String(people).padStart(4, "0")}`;
  const subscriber = await ward.subscriber(destination);
  const phones: DeviceId[] = [];
  for (let n = 0; n < devices; n += 1) phones.push(await ward.device(subscriber));
  return { destination, subscriber, phone: phones[0]!, phones };
}
async function pageTo({ destination }: { destination: string }, more: Partial<PageToAccept> = {}): Promise<UniqueId> {
  const page = pageFor(ward, host, destination, { timeoutUserSeconds: null, ...more });
  const [verdict] = await acceptPages(database, "node", [page]);
  assert.is(verdict?.kind, "accepted");
  return page.uniqueId;
}
const says = (deviceId: DeviceId, uniqueId: UniqueId, receipt: Receipt) =>
  recordReceipts(database, "node", [{ uniqueId, deviceId, receipt }]);
const asks = (deviceId: DeviceId) => storeNotifications(database, [ward.notification({ deviceId })]);
/** Of the newest request for it that waits. */
async function wanted(device: DeviceId): Promise<boolean | undefined> {
  return (await openNotifications(database, [device]))[0]?.wanted;
}

test("a push is wanted until its device has fetched every page that waits for it", async () => {
  const someone = await person();
  const pages = [await pageTo(someone), await pageTo(someone)] as const;
  await asks(someone.phone);
  assert.is(await wanted(someone.phone), true);
  await says(someone.phone, pages[0], "DELIVERED");
  assert.is(await wanted(someone.phone), true, "one still waits");
  await says(someone.phone, pages[1], "READ");
  assert.is(await wanted(someone.phone), false);
  const next = await pageTo(someone);
  assert.is(await wanted(someone.phone), true, "what comes next waits again");
  await sql`update premise_core.messages set expires_at = clock_timestamp() where unique_id = ${next}`;
  assert.is(await wanted(someone.phone), false, "an expired page waits for nobody");
});

test("each device fetches for itself, and a page for one device is waited for by that one", async () => {
  const someone = await person(2);
  const [first, second] = someone.phones as [DeviceId, DeviceId];
  const page = await pageTo(someone);
  for (const phone of [first, second]) await asks(phone);
  await says(first, page, "READ");
  assert.equal([await wanted(first), await wanted(second)], [false, true]);
  await says(second, page, "DELIVERED");
  const narrowed = await pageTo(someone, { deviceId: first });
  assert.equal([await wanted(first), await wanted(second)], [true, false]);
  await sql`update premise_core.devices set state = 'REMOVED' where id = ${first}`;
  assert.equal(
    [await wanted(first), await wanted(second)],
    [false, true],
    "the named device is gone: any other will do",
  );
  await says(second, narrowed, "DELIVERED");
  assert.is(await wanted(second), false);
});

test("a reminder is wanted until the page is answered, and what was asked for before the page was fetched is none", async () => {
  const someone = await person();
  const page = await pageTo(someone, { timeoutUserSeconds: 300 });
  await asks(someone.phone);
  await says(someone.phone, page, "DELIVERED");
  assert.is(await wanted(someone.phone), false, "the first wake-up has no errand any more");
  await asks(someone.phone);
  assert.is(await wanted(someone.phone), true);
  await says(someone.phone, page, "READ");
  assert.is(await wanted(someone.phone), true, "read is not answered");
  await says(someone.phone, page, "ACKNOWLEDGED");
  assert.is(await wanted(someone.phone), false);
});

test("a reminder whose time is over is not wanted", async () => {
  const someone = await person();
  const page = await pageTo(someone, { timeoutUserSeconds: 300 });
  await says(someone.phone, page, "DELIVERED");
  await asks(someone.phone);
  // As the message's own driver leaves it when it has told FAILED: nothing more is due.
  await sql`update premise_core.messages set outcome = 'FAILED', due_at = null where unique_id = ${page}`;
  assert.is(await wanted(someone.phone), false);
});

test("a page that was told FAILED can still be fetched, and its push is still wanted", async () => {
  const someone = await person();
  const page = await pageTo(someone);
  await asks(someone.phone);
  await sql`update premise_core.messages set outcome = 'FAILED', due_at = expires_at where unique_id = ${page}`;
  assert.is(await wanted(someone.phone), true);
});

test("a removed device, or one that is somebody else's now, wants no push for the pages of before", async () => {
  const [gone, moved, next] = [await person(), await person(), await person()];
  for (const someone of [gone, moved]) {
    await pageTo(someone);
    await asks(someone.phone);
  }
  await sql`update premise_core.devices set state = 'REMOVED' where id = ${gone.phone}`;
  await sql`update premise_core.devices set subscriber_id = ${next.subscriber} where id = ${moved.phone}`;
  assert.equal([await wanted(gone.phone), await wanted(moved.phone)], [false, false]);
});

async function toldOf(device: DeviceId): Promise<[wanted: boolean, messageCount: number] | undefined> {
  const [found] = await openNotifications(database, [device]);
  return found && [found.wanted, found.messageCount];
}
const recall = (uniqueId: UniqueId) => recallPage(database, "node", { uniqueId, by: "operator", reason: null });

test("what was asked for before a page was recalled is not sent; asked for behind that, it is until the phone has heard, and does not ring", async () => {
  const someone = await person();
  const page = await pageTo(someone);
  await asks(someone.phone);
  await recall(page);
  assert.equal(await toldOf(someone.phone), [false, 0]);
  await asks(someone.phone);
  assert.equal(await toldOf(someone.phone), [true, 0]);
  await sql`update premise_core.device_notices set expires_at = clock_timestamp() where device_id = ${someone.phone}`;
  assert.equal(await toldOf(someone.phone), [false, 0]);
});

test("while another page waits for the phone, or for an answer, a push for a recall rings: it may take the place of one that had to", async () => {
  const [unfetched, unanswered] = [await person(), await person()];
  await pageTo(unfetched);
  const asking = await pageTo(unanswered, { timeoutUserSeconds: 300 });
  await says(unanswered.phone, asking, "READ");
  for (const someone of [unfetched, unanswered]) {
    await recall(await pageTo(someone));
    await storeNotifications(database, [ward.notification({ deviceId: someone.phone, messageCount: 0 })]);
    assert.equal(await toldOf(someone.phone), [true, 1]);
  }
});

test("a recalled page that asked for an answer reminds nobody of it", async () => {
  const someone = await person();
  const page = await pageTo(someone, { timeoutUserSeconds: 300 });
  await says(someone.phone, page, "READ");
  await recall(page);
  await asks(someone.phone);
  assert.equal(await toldOf(someone.phone), [true, 0], "the recall alone is told");
});

test("of a device this database does not know, nothing is concluded", async () => {
  const stranger = randomUUID() as DeviceId;
  await asks(stranger);
  assert.is(await wanted(stranger), true);
});

test("many devices are read at once, each with its newest request", async () => {
  const [waits, done] = [await person(), await person()];
  await pageTo(waits);
  const older = ward.notification({ deviceId: waits.phone });
  await storeNotifications(database, [older]);
  const newer = ward.notification({ deviceId: waits.phone });
  await storeNotifications(database, [newer]);
  // As two nodes leave it that store at the same instant.
  await sql`update premise_core.notifications set state = 'STORED', superseded_by = null where id = ${older.id}`;
  await asks(done.phone);
  const found = await openNotifications(database, [waits.phone, done.phone]);
  assert.equal(
    new Map(found.map((one) => [one.deviceId, one.wanted])),
    new Map([
      [waits.phone, true],
      [done.phone, false],
    ]),
  );
  assert.is(found.find((one) => one.deviceId === waits.phone)!.id, newer.id as NotificationId);
});

test.run();
