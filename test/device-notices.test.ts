import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId } from "../domain.ts";
import { confirmNotices, noticesOf } from "../persistence/device-notices.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
test.after(() => ward.close());

const phone = async () => ward.device(await ward.subscriber(randomUUID()));

async function notice(device: DeviceId, kind: string, secondsAgo: number, leftSeconds = 60): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    insert into premise_core.device_notices (device_id, unique_id, kind, at, expires_at)
    values (${device}, ${randomUUID()}, ${kind}, now() - ${secondsAgo} * interval '1 second', now() + ${leftSeconds} * interval '1 second')
    returning id`;
  return row!.id;
}
const idsOf = async (devices: readonly DeviceId[], limit = 100) =>
  (await noticesOf(database, devices, limit)).map(({ deviceId, noticeId }) => [deviceId, noticeId]);

test("each device hears its own notices in order, the newest so many at most, and none whose time is over", async () => {
  const [one, other, quiet] = [await phone(), await phone(), await phone()];
  const late = await notice(one, "RECALLED", 1);
  const early = await notice(one, "EXPIRED", 9);
  await notice(one, "ANSWERED", 99, -1);
  const theirs = await notice(other, "ANSWERED", 5);
  assert.equal(await idsOf([other, quiet, one]), [
    [other, theirs],
    [one, early],
    [one, late],
  ]);
  assert.equal(await idsOf([one], 1), [[one, late]]);
  assert.equal(await idsOf([]), []);
});

test("a notice goes when its own device confirms it, once, and nobody else can take it away", async () => {
  const [one, other] = [await phone(), await phone()];
  const id = await notice(one, "RECALLED", 1);
  const kept = await notice(one, "EXPIRED", 1);
  const entries = [
    { deviceId: other, noticeId: id },
    { deviceId: one, noticeId: randomUUID() },
  ];
  assert.equal(await confirmNotices(database, entries), [false, false]);
  assert.equal(await confirmNotices(database, [{ deviceId: one, noticeId: id }]), [true]);
  assert.equal(await confirmNotices(database, [{ deviceId: one, noticeId: id }]), [false]);
  assert.equal(await idsOf([one]), [[one, kept]]);
});

test.run();
