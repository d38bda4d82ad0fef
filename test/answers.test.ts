/** Of the answers to one page one stands; everybody who reports of the page is told which, and whose it was. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, Receipt, UniqueId } from "../domain.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { recordReplies } from "../persistence/replies.ts";
import { openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const { accept, statusesTold } = openPages(ward);
const lab = await ward.host("lab");
let people = 0;
test.after(() => ward.close());

/** To somebody with three devices. */
async function pageGiven(): Promise<{ uniqueId: UniqueId; devices: [DeviceId, DeviceId, DeviceId] }> {
  people += 1;
  const destination = `555${people}`;
  const subscriber = await ward.subscriber(destination);
  const devices: [DeviceId, DeviceId, DeviceId] = [
    await ward.device(subscriber),
    await ward.device(subscriber),
    await ward.device(subscriber),
  ];
  const page = pageFor(ward, lab, destination);
  await accept(page);
  return { uniqueId: page.uniqueId, devices };
}

async function says(uniqueId: UniqueId, deviceId: DeviceId, receipt: Receipt, node = "node-a") {
  const [result] = await recordReceipts(database, node, [{ uniqueId, deviceId, receipt }]);
  return result!;
}
const notices = (uniqueId: UniqueId) =>
  sql`select device_id, kind, answer from premise_core.device_notices where unique_id = ${uniqueId} order by device_id`;

test("of two devices that answer at once on two nodes one wins, both are told which, and the person's others have a notice", async () => {
  for (let round = 0; round < 20; round += 1) {
    const { uniqueId, devices } = await pageGiven();
    const words = ["ACKNOWLEDGED", "IGNORED"] as const;
    const results = await Promise.all(words.map((word, at) => says(uniqueId, devices[at]!, word, `node-${at}`)));
    const won = results.findIndex(({ kind, answer }) => kind === "recorded" && answer?.byThisDevice === true);
    const stands = words[won]!;
    assert.equal(results[won]!.answer, { status: stands, byThisDevice: true });
    assert.equal(results[1 - won]!.answer, { status: stands, byThisDevice: false });
    const told = await statusesTold(uniqueId);
    assert.equal(told, ["ACCEPTED", "QUEUED", stands]);
    const others = devices.filter((id) => id !== devices[won]).sort();
    assert.equal(
      (await notices(uniqueId)).map((one) => ({ ...one })),
      others.map((device_id) => ({ device_id, kind: "ANSWERED", answer: stands })),
    );
    const winner = results[won]!;
    assert.equal(winner.kind === "recorded" && [...winner.noticed].sort(), others, "who is to be hinted to");
  }
});

test("whoever reports anything after an answer is told which one stands and whether it was its own", async () => {
  const { uniqueId, devices } = await pageGiven();
  const [mine, other] = devices;
  const stands = (byThisDevice: boolean) => ({ status: "ACKNOWLEDGED", byThisDevice });
  for (const [device, word, kind, answer] of [
    [mine, "DELIVERED", "recorded", null],
    [mine, "ACKNOWLEDGED", "recorded", stands(true)],
    [mine, "ACKNOWLEDGED", "repeated", stands(true)],
    [mine, "IGNORED", "repeated", stands(true)],
    [other, "READ", "repeated", stands(false)],
    [other, "IGNORED", "repeated", stands(false)],
  ] as const) {
    const result = await says(uniqueId, device, word);
    assert.equal([result.kind, result.answer], [kind, answer], word);
  }
  assert.is((await notices(uniqueId)).length, 2);
});

test("a reply is an answer too: the person's other devices have a notice of whichever came first, and of no other", async () => {
  const replies = async (uniqueId: UniqueId, deviceId: DeviceId) => {
    const [result] = await recordReplies(database, "node-a", [
      { uniqueId, deviceId, clientId: deviceId, text: "coming" },
    ]);
    assert.is(result!.kind, "recorded");
    return result!.kind === "recorded" ? [...result!.noticed].sort() : [];
  };
  const { uniqueId, devices } = await pageGiven();
  const others = devices.slice(1).sort();
  assert.equal(await replies(uniqueId, devices[0]), others, "who is to be hinted to");
  assert.equal(
    (await notices(uniqueId)).map((one) => ({ ...one })),
    others.map((device_id) => ({ device_id, kind: "ANSWERED", answer: null })),
  );
  await sql`delete from premise_core.device_notices where unique_id = ${uniqueId}`;
  assert.equal(await replies(uniqueId, devices[1]), []);
  const answered = await says(uniqueId, devices[2], "ACKNOWLEDGED");
  assert.equal(answered.kind === "recorded" && answered.noticed, []);
  assert.is((await notices(uniqueId)).length, 0, "they had it, and have confirmed it");

  const acknowledged = await pageGiven();
  await says(acknowledged.uniqueId, acknowledged.devices[0], "ACKNOWLEDGED");
  assert.equal(await replies(acknowledged.uniqueId, acknowledged.devices[0]), []);
  assert.is((await notices(acknowledged.uniqueId)).length, 2);
});

test("a notice goes only to devices the page is for, and none for a page whose time is over", async () => {
  const { uniqueId, devices } = await pageGiven();
  await sql`update premise_core.devices set state = 'REMOVED' where id = ${devices[2]}`;
  await says(uniqueId, devices[0], "IGNORED");
  assert.equal(
    (await notices(uniqueId)).map(({ device_id }) => device_id),
    [devices[1]],
  );
  const named = await pageGiven();
  await sql`update premise_core.messages set device_id = ${named.devices[0]} where unique_id = ${named.uniqueId}`;
  await says(named.uniqueId, named.devices[0], "ACKNOWLEDGED");
  assert.is((await notices(named.uniqueId)).length, 0);
  const over = await pageGiven();
  await sql`update premise_core.messages set expires_at = now() where unique_id = ${over.uniqueId}`;
  const late = await says(over.uniqueId, over.devices[0], "ACKNOWLEDGED");
  assert.is(late.kind, "recorded");
  assert.is((await notices(over.uniqueId)).length, 0);
});

test.run();
