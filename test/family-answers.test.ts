/** That somebody has answered for all who have a page, as the phones of the others hear it. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, UniqueId } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { noticesOf } from "../persistence/device-notices.ts";
import { takeSteps } from "../persistence/escalations.ts";
import { tellFamilies } from "../persistence/family-answers.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { recordReplies } from "../persistence/replies.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql, siteId } = ward;
const lab = await ward.host("lab");
test.after(() => ward.close());

type Member = { id: UniqueId; phone: DeviceId };
let people = 0;

/** A page that went to as many groups of so many; each has one phone. The page's own first. */
async function family(...sizes: readonly number[]): Promise<Member[]> {
  const destination = `44${people++}`;
  const subscriber = await ward.subscriber(destination);
  const phone = await ward.device(subscriber);
  const page = pageFor(ward, lab, destination);
  await acceptPages(database, "node", [page]);
  for (const [n, size] of sizes.entries()) {
    const first = people + 1;
    people += size;
    await sql`
      with person as (
        insert into premise_core.subscribers (tenant_id, site_id, name, destination, registration_code_hash)
        select 'default', ${siteId}, 'Dr Test', '55' || n, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        from generate_series(${first}::integer, ${people}::integer) as n returning id
      )
      insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
        notification_address, confirms, token_hash)
      select gen_random_uuid(), 'default', ${siteId}, id, 'ANDROID', '15', '1.0', 'GCM', id::text, true, uuid_send(id) || uuid_send(id) from person`;
    const [group] = await sql<{ id: string }[]>`
      with made as (
        insert into premise_core.subscriber_groups (tenant_id, site_id, name) values ('default', ${siteId}, ${randomUUID()}) returning id
      ), members as (
        insert into premise_core.subscriber_group_members
        select made.id, subscribers.id from made, premise_core.subscribers
        where destination = any (array(select '55' || n from generate_series(${first}::integer, ${people}::integer) as n))
      )
      select id from made`;
    const step = { kind: "GROUP", groupId: group!.id, waitSeconds: 60 } as const;
    const [taken] = await takeSteps(database, "node", [
      { uniqueId: page.uniqueId, version: 2 + n, number: 1 + n, step, urgent: false },
    ]);
    assert.is(taken?.kind === "passed" && taken.children.length, size);
  }
  const children = await sql<Member[]>`
    select unique_id as id, devices.id as phone from premise_core.messages join premise_core.devices using (subscriber_id)
    where parent_id = ${page.uniqueId} order by unique_id`;
  return [{ id: page.uniqueId, phone }, ...children];
}

const tell = async ({ id }: Member) => (await tellFamilies(database, "node", [id]))[0]!;
const acknowledges = ({ id, phone }: Member) =>
  recordReceipts(database, "node", [{ uniqueId: id, deviceId: phone, receipt: "ACKNOWLEDGED" }]);
const replies = ({ id, phone }: Member) =>
  recordReplies(database, "node", [{ uniqueId: id, deviceId: phone, clientId: "1", text: "coming" }]);
const dueNow = async (members: readonly Member[]) =>
  (
    await sql<{ id: UniqueId }[]>`
      select unique_id as id from premise_core.messages
      where unique_id = any (${members.map(({ id }) => id)}) and due_at <= clock_timestamp()`
  ).map(({ id }) => id);
const heard = async (...members: Member[]) => {
  const phones = members.map(({ phone }) => phone);
  return [...(await noticesOf(database, phones, 10))];
};

test("an answer by one of a group is due to be told at once, and then the phones of all others, its page's too, have heard of it once", async () => {
  for (const answers of [acknowledges, replies]) {
    const [page, ben, cem, dee] = (await family(3)) as [Member, Member, Member, Member];
    assert.equal(await tell(page), [], "nobody has answered");
    assert.equal(await dueNow([page, cem, dee]), []);
    await answers(cem);
    assert.equal(await dueNow([page, ben, cem, dee]), [cem.id]);
    // What is said meanwhile does not put it off.
    await recordReceipts(database, "node", [{ uniqueId: cem.id, deviceId: cem.phone, receipt: "READ" }]);
    assert.equal(await dueNow([page, ben, cem, dee]), [cem.id]);
    const others = [page, ben, dee];
    assert.equal([...(await tell(cem))].sort(), others.map(({ phone }) => phone).sort(), "who is to be hinted to");
    const answer = answers === replies ? null : "ACKNOWLEDGED";
    assert.equal(
      (await heard(...others)).map((one) => [one.deviceId, one.uniqueId, one.kind, one.answer, one.byOther]),
      others.map(({ id, phone }) => [phone, id, "ANSWERED", answer, true]),
    );
    assert.equal(await heard(cem), []);
    assert.equal(await dueNow([page, ben, cem, dee]), []);
    await sql`delete from premise_core.device_notices`;
    assert.equal([await tell(cem), await tell(ben)], [[], []]);
    await answers(dee);
    assert.equal([await tell(dee), await heard(page, ben, cem, dee)], [[], []], "the first is enough");
  }
});

test("a large family hears in several goes, and is due until the last of them has", async () => {
  const all = await family(100, 100, 100);
  const who = all[7]!;
  await replies(who);
  const told = new Set<DeviceId>();
  for (const goes of [250, 50]) {
    assert.equal(await dueNow(all), [who.id]);
    const devices = await tell(who);
    assert.is(devices.length, goes);
    for (const device of devices) told.add(device);
  }
  assert.equal(await dueNow(all), []);
  assert.equal(told, new Set(all.filter((one) => one !== who).map(({ phone }) => phone)));
});

test("when many answer at once on several nodes, while their family is told by several, each phone hears at most once", async () => {
  for (let round = 0; round < 5; round += 1) {
    const all = await family(12);
    const some = all.slice(0, 8);
    await Promise.all(some.flatMap((one, n) => [(n % 2 === 0 ? acknowledges : replies)(one), tell(all[n + 3]!)]));
    await Promise.all(all.map(tell));
    assert.equal(await dueNow(all), []);
    const notices = await heard(...all);
    const rest = all.slice(8);
    assert.equal(
      rest.map(({ phone }) => notices.filter(({ deviceId }) => deviceId === phone).length),
      rest.map(() => 1),
    );
    assert.is(new Set(notices.map(({ deviceId }) => deviceId)).size, notices.length);
  }
});

test("of one who declined and then replied the others hear of a reply, not that it was declined", async () => {
  const [page, ben] = (await family(1)) as [Member, Member];
  await recordReceipts(database, "node", [{ uniqueId: ben.id, deviceId: ben.phone, receipt: "IGNORED" }]);
  await replies(ben);
  await tell(ben);
  assert.equal(
    (await heard(page)).map(({ kind, answer }) => [kind, answer]),
    [["ANSWERED", null]],
  );
});

test("nobody hears that a recalled page was answered", async () => {
  const [page, ben] = (await family(1)) as [Member, Member];
  await acknowledges(ben);
  await recallPage(database, "node", { uniqueId: page.id, by: "operator", reason: null });
  assert.equal(await tell(ben), []);
  assert.equal(
    (await heard(page, ben)).map(({ kind }) => kind),
    ["RECALLED", "RECALLED"],
  );
});

test.run();
