// limit: 120 s, waits
/** Changes of settings reach phones that listen, on the node they listen to, by hints and without them. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openBus } from "../cluster/bus.ts";
import { type DeviceId, systemClock } from "../domain.ts";
import type { Settings } from "../gateways/client/settings-answer.ts";
import { openSettingsReach, type SettingsListener, type SettingsReach } from "../gateways/client/settings-reach.ts";
import { silentLog } from "../log.ts";
import { type Database, DatabaseDown } from "../persistence/database.ts";
import {
  changeGroup,
  createGroup,
  type DeviceGroup,
  findGroup,
  laneOfGroup,
  moveDevices,
  removeGroup,
} from "../persistence/device-groups.ts";
import { recordVersions, settingsOf, versionsOf } from "../persistence/device-settings.ts";
import { eventually } from "./helpers/eventually.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const bus = openBus(null, { log: silentLog });
const slice = { urls: () => ["http://a"], coreVersion: "1" };
const owner = { siteId: ward.siteId, tenantId: "default" as never };
const rooms: SettingsReach[] = [];
function room(premise: Database = ward.database): SettingsReach {
  const one = openSettingsReach(slice, { premise, bus, log: silentLog, clock: systemClock });
  rooms.push(one);
  return one;
}
test.after(async () => {
  await Promise.all(rooms.map((one) => one.close()));
  await bus.close();
  await ward.close();
});

async function group(): Promise<DeviceGroup> {
  return (await createGroup(ward.database, owner, { name: randomUUID(), settings: {}, locked: [] }))!;
}
async function change({ id }: DeviceGroup, retentionDays: number, hinted = true): Promise<number> {
  const { version, name } = (await findGroup(ward.database, id))!;
  const given = { name, settings: { retentionDays }, locked: [] };
  const changed = (await changeGroup(ward.database, id, version, given)) as DeviceGroup;
  if (hinted) bus.publish(laneOfGroup(changed));
  return changed.version;
}
async function phones(count: number, its: DeviceGroup): Promise<DeviceId[]> {
  const subscriber = await ward.subscriber(randomUUID());
  const rows = await ward.sql<{ id: DeviceId }[]>`
    insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
      notification_address, confirms, token_hash, group_id)
    select gen_random_uuid(), 'default', ${ward.siteId}, ${subscriber}, 'ANDROID', '15', '1.0', 'GCM', gen_random_uuid()::text, true,
      uuid_send(gen_random_uuid()), ${its.isDefault ? null : its.id} from generate_series(1, ${count}) returning id`;
  return rows.map(({ id }) => id).sort();
}

type Listening = SettingsListener & { readonly got: Settings[] };
/** As its token's look-up found it. */
async function listens(id: DeviceId): Promise<Listening> {
  const [read] = await versionsOf(ward.database, [id]);
  const got: Settings[] = [];
  const settings = { lane: read!.lane, version: read!.version, had: read!.has };
  return { got, device: { id, settings }, tellSettings: (its) => void got.push(its) };
}
/** All have what they are to have already. */
async function current(ids: readonly DeviceId[]): Promise<Listening[]> {
  const read = await settingsOf(
    ward.database,
    ids.map((deviceId) => ({ deviceId })),
  );
  await recordVersions(
    ward.database,
    ids.map((deviceId, n) => ({ deviceId, version: read[n]!.version })),
  );
  return Promise.all(ids.map(listens));
}
const until = (what: string, holds: () => boolean) => eventually(what, () => holds() || undefined);
/** Before the room's first look at all: by a hint. */
const byHint = (what: string, holds: () => boolean) => eventually(what, () => holds() || undefined, 8_000);

test("a phone that has another version is told when it comes, one that has the right one is not", async () => {
  const [its, reach] = [await group(), room()];
  const [new_, known] = await phones(2, its);
  const [knows] = await current([known!]);
  const news = await listens(new_!);
  for (const one of [knows!, news]) reach.add(one);
  await byHint("it is told", () => news.got.length > 0);
  assert.equal([news.got.map(({ Version }) => Version), knows!.got], [[its.version], []]);
});

test("10,000 phones that listen are told of each change of their group once, and no other's phones are", async () => {
  const [its, other, reach] = [await group(), await group(), room()];
  const ids = await phones(10_000, its);
  const all: Listening[] = [];
  for (let n = 0; n < ids.length; n += 250) all.push(...(await current(ids.slice(n, n + 250))));
  const [stranger] = await current(await phones(1, other));
  for (const one of [...all, stranger!]) reach.add(one);
  const version = await change(its, 9);
  await until("all are told", () => all.every(({ got }) => got.length > 0));
  bus.publish(laneOfGroup(its));
  const [extra] = await current(await phones(1, its));
  reach.add(extra!);
  const last = await change(its, 10);
  await until("all are told again", () => [...all, extra!].every(({ got }) => got.at(-1)?.Version === last));
  assert.ok(all.every(({ got }) => got.length === 2 && got[0]!.Version === version));
  assert.equal([extra!.got.length, stranger!.got], [1, []]);
  for (const one of all) reach.remove(one);
  await change(its, 11);
  await until("the one that stayed is told", () => extra!.got.length === 2);
  assert.ok(
    all.every(({ got }) => got.length === 2),
    "those that left are not",
  );
});

test("a phone that is moved is told, hears of its new group from then on, and of its site's default group when that goes", async () => {
  const [from, to, reach] = [await group(), await group(), room()];
  const ids = await phones(2, from);
  const [moved, stays] = await current(ids);
  for (const one of [moved!, stays!]) reach.add(one);
  const { left } = (await moveDevices(ward.database, to.id, [moved!.device.id]))!;
  for (const lane of left) bus.publish(lane);
  await byHint("it is told", () => moved!.got.at(-1)?.Version === to.version);
  const version = await change(to, 4);
  await byHint("it is told of its group's change", () => moved!.got.at(-1)?.Version === version);
  assert.is(await removeGroup(ward.database, to.id), "removed");
  bus.publish(to.id);
  await byHint("it is told what the default is", () => moved!.got.at(-1)?.Group.Name === "Default");
  assert.equal(stays!.got, []);
});

test("a change nobody hinted at is found by the look at all", async () => {
  const [its, reach] = [await group(), room()];
  const [phone] = await current(await phones(1, its));
  reach.add(phone!);
  const version = await change(its, 6, false);
  await reach.loop.run();
  await until("it is told", () => phone!.got.at(-1)?.Version === version);
});

test("a change during a read, and a database that is away, hide no change", async () => {
  const its = await group();
  const [phone] = await current(await phones(1, its));
  let during: (() => Promise<void>) | null = null;
  let away = 2;
  const premise: Database = {
    ...ward.database,
    async run<Row>(...how: Parameters<typeof ward.database.run<Row>>) {
      if (away > 0) {
        away -= 1;
        throw new DatabaseDown(false);
      }
      const rows = await ward.database.run<Row>(...how);
      const hook = during;
      during = null;
      await hook?.();
      return rows;
    },
  };
  const reach = room(premise);
  reach.add(phone!);
  let last = 0;
  during = async () => {
    last = await change(its, 8);
  };
  await change(its, 7);
  await until("it is told the last", () => last > 0 && phone!.got.at(-1)?.Version === last);
});

test("of two streams of one phone the newer is told, also when the older one ends behind it", async () => {
  const [its, reach] = [await group(), room()];
  const [id] = await phones(1, its);
  const [old] = await current([id!]);
  const fresh = await listens(id!);
  reach.add(old!);
  reach.add(fresh);
  reach.remove(old!);
  const version = await change(its, 5);
  await byHint("the newer is told", () => fresh.got.at(-1)?.Version === version);
  assert.equal(old!.got, []);
});

test.run();
