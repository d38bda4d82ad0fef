/** What phones are told of pages they may show (`Notices` of GetMessages), by a running node. */
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHospital } from "./helpers/hospital.ts";

const hospital = await openHospital();
test.after(() => hospital.close());
const host = await hospital.host("lab");

type Phone = Awaited<ReturnType<typeof hospital.phone>>;
type Body = {
  readonly Messages: readonly object[];
  readonly More: boolean;
  readonly Notices: readonly { NoticeId: string; UniqueId: string; Kind: string; Answer?: string; At: string }[];
};

async function fetches({ registration }: Phone, fields: object): Promise<Body> {
  const { vendorId, deviceToken } = registration;
  const answer = await fetch(`${hospital.node.run().url}/ClientMessaging/V2/GetMessages`, {
    method: "POST",
    headers: { authorization: `Bearer ${deviceToken}`, "content-type": "application/json" },
    body: JSON.stringify({ vendorId, ...fields }),
  });
  assert.is(answer.status, 200);
  return (await answer.json()) as Body;
}

test("a phone hears what it may show was recalled, with each fetch until it confirms that, whatever its list of pages says", async () => {
  const [phone, other] = [await hospital.phone(), await hospital.phone()];
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "QUEUED");
  const [page] = await phone.fetches();
  const uniqueId = page!.UniqueId;
  assert.is((await hospital.operator("POST", `/messages/${uniqueId}/recall`)).status, 200);
  const before = await fetches(phone, {});
  assert.equal(Object.keys(before).slice(3), ["Messages", "More"], "clients of old hear nothing");
  for (const times of [1, 2]) {
    const body = await fetches(phone, { v: 3, confirm: times === 2 ? [uniqueId] : [] });
    assert.equal([body.Messages, body.More], [[], false]);
    const [notice, ...more] = body.Notices;
    assert.equal(Object.keys(notice!), ["NoticeId", "UniqueId", "Kind", "At"]);
    assert.equal([notice!.UniqueId, notice!.Kind, more], [uniqueId, "RECALLED", []]);
    assert.ok(Math.abs(Date.parse(notice!.At) - Date.now()) < 60_000);
  }
  const { NoticeId } = (await fetches(phone, { v: 3 })).Notices[0]!;
  assert.equal((await fetches(other, { v: 3, confirm: [NoticeId] })).Notices, []);
  assert.is((await fetches(phone, { v: 3 })).Notices.length, 1, "another's confirmation takes nothing");
  assert.equal((await fetches(phone, { v: 3, confirm: [randomUUID(), NoticeId.toUpperCase()] })).Notices, []);
});

test("of many notices the newest hundred come at once, and those before them when these are confirmed", async () => {
  const phone = await hospital.phone();
  const sql = postgres(hospital.databaseUrl, { max: 1 });
  await sql`insert into premise_core.device_notices (device_id, unique_id, kind, answer, at, expires_at)
    select ${phone.registration.vendorId}, gen_random_uuid(), 'ANSWERED', 'IGNORED', now() - n * interval '1 minute', now() + interval '1 hour'
    from generate_series(1, 250) as n`;
  await sql.end();
  const seen = new Set<string>();
  let before = Number.POSITIVE_INFINITY;
  let confirm: string[] = [];
  for (const count of [100, 100, 50, 0]) {
    const { Notices } = await fetches(phone, { v: 3, confirm });
    assert.is(Notices.length, count);
    assert.ok(Notices.every((notice) => notice.Answer === "IGNORED"));
    const at = Notices.map((notice) => Date.parse(notice.At));
    assert.equal(
      at,
      [...at].sort((a, b) => a - b),
    );
    assert.ok(at.every((ms) => ms < before));
    before = at[0] ?? before;
    confirm = Notices.map((notice) => notice.NoticeId);
    for (const id of confirm) seen.add(id);
  }
  assert.is(seen.size, 250);
});

test.run();
