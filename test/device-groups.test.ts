// limit: 180 s
/** Device groups as operators meet them: made, changed by two at once, filled, followed and removed, on a real database. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId } from "../domain.ts";
import { changeGroup, createGroup, makeDefaultGroups, moveDevices, removeGroup } from "../persistence/device-groups.ts";
import { recordVersions, settingsOf, versionsOf } from "../persistence/device-settings.ts";
import { type AdminApi, type Json, openAdminApi } from "./helpers/admin-api.ts";

let api: AdminApi;
let siteId: string;
test.before(async () => {
  api = await openAdminApi();
  siteId = api.ward.siteId;
  await api.ward.sql`insert into meta.sites (id, tenant_id, name) values (${siteId}, 'default', 'General')`;
});
test.after(() => api.close());

const NOBODY = "00000000-0000-4000-8000-000000000009";
const owner = () => ({ siteId: api.ward.siteId, tenantId: "default" as never });

async function groupsOf(site: string): Promise<readonly Json[]> {
  const { status, body } = await api.call("GET", `/api/v1/device-groups?siteId=${site}&limit=200`);
  assert.is(status, 200);
  return body.items!;
}
async function defaultGroup(site = siteId): Promise<Json> {
  return (await groupsOf(site)).find((group) => (group.isDefault as unknown) === true)!;
}
async function group(settings: object = {}, locked: readonly string[] = []): Promise<Json> {
  const made = await api.call("POST", "/api/v1/device-groups", { siteId, name: randomUUID(), settings, locked });
  assert.is(made.status, 201, made.text);
  return made.body;
}
const change = (id: string, body: object) => api.call("PATCH", `/api/v1/device-groups/${id}`, body);
async function phone(): Promise<DeviceId> {
  return api.ward.device(await api.ward.subscriber(randomUUID()));
}
async function phones(count: number): Promise<DeviceId[]> {
  const subscriber = await api.ward.subscriber(randomUUID());
  const rows = await api.ward.sql<{ id: DeviceId }[]>`
    insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
      notification_address, confirms, token_hash)
    select gen_random_uuid(), 'default', ${siteId}, ${subscriber}, 'ANDROID', '15', '1.0', 'GCM', gen_random_uuid()::text, true,
      uuid_send(gen_random_uuid()) from generate_series(1, ${count}) returning id`;
  return rows.map(({ id }) => id).sort();
}
async function settings(device: DeviceId) {
  const [read] = await settingsOf(api.ward.database, [{ deviceId: device }]);
  return read!;
}

test("a site has one default group from its making on, and two who need it at once make one", async () => {
  const made = await api.call("POST", "/api/v1/sites", { name: "St Mary" });
  const [own, ...others] = await groupsOf(made.body.id!);
  assert.equal([own!.name, own!.isDefault as unknown, own!.siteId, others], ["Default", true, made.body.id, []]);
  const older = { siteId: randomUUID() as never, tenantId: "default" as never };
  await Promise.all(Array.from({ length: 10 }, () => makeDefaultGroups(api.ward.database, [older, older])));
  const rows = await api.ward.sql`select from premise_core.device_groups where site_id = ${older.siteId}`;
  assert.is(rows.length, 1);
});

test("the default group of a site that was there before is made when its first phone asks", async () => {
  const device = await phone();
  const other = randomUUID();
  await api.ward.sql`update premise_core.devices set site_id = ${other} where id = ${device}`;
  const read = await settings(device);
  assert.equal([read.group.name, read.lane], ["Default", other]);
  assert.ok(read.version > 0);
});

test("the default group can be renamed and set, and not be removed", async () => {
  const { id, version } = await defaultGroup();
  const changed = await change(id!, { version, name: "Everyone", settings: { retentionDays: 7 } });
  assert.equal(
    [changed.status, changed.body.name, changed.body.settings!.retentionDays as unknown],
    [200, "Everyone", 7],
  );
  const refused = await api.call("DELETE", `/api/v1/device-groups/${id}`);
  assert.equal([refused.status, refused.body.code], [409, "default-group"]);
  assert.is((await defaultGroup()).id, id);
});

test("a group is made, found, listed, its name taken once at its site, and its settings answered whole", async () => {
  const made = await api.call("POST", "/api/v1/device-groups", {
    siteId,
    name: "ICU",
    settings: { priorities: { high: { tone: "siren", volume: 100 } } },
    locked: ["high.tone"],
  });
  assert.is(made.status, 201, made.text);
  assert.equal(made.body.settings!.priorities!.high as unknown, {
    ...{ tone: "siren", volume: 100, intervalSeconds: 60, repeats: 10 },
  });
  assert.equal((await api.call("GET", `/api/v1/device-groups/${made.body.id}`)).body, made.body);
  assert.ok((await groupsOf(siteId)).some(({ id }) => id === made.body.id));
  for (const name of ["ICU", (await defaultGroup()).name])
    assert.is((await api.call("POST", "/api/v1/device-groups", { siteId, name })).body.code, "name-taken");
  const second = await group();
  assert.is((await change(second.id!, { version: second.version, name: "ICU" })).body.code, "name-taken");
  assert.is((await api.call("POST", "/api/v1/device-groups", { siteId: NOBODY, name: "x" })).body.code, "unknown-site");
});

test("what no phone could be set to is refused by field, and changes nothing", async () => {
  const one = await group();
  const { version } = one;
  const cases: [object, string][] = [
    [{ name: "no version" }, "body.version"],
    [{ version: "1" }, "body.version"],
    [
      { version, settings: { priorities: { high: { intervalSeconds: 9 } } } },
      "body.settings.priorities.high.intervalSeconds",
    ],
    [{ version, settings: { priorities: { low: { repeats: 101 } } } }, "body.settings.priorities.low.repeats"],
    [{ version, settings: { priorities: { high: { repeats: 1.5 } } } }, "body.settings.priorities.high.repeats"],
    [{ version, settings: { priorities: { high: { tone: "../zzz" } } } }, "body.settings.priorities.high.tone"],
    [{ version, settings: { priorities: { high: { volume: 101 } } } }, "body.settings.priorities.high.volume"],
    [{ version, settings: { priorities: { urgent: {} } } }, "body.settings.priorities"],
    [{ version, settings: { retentionDays: 0 } }, "body.settings.retentionDays"],
    [{ version, settings: { minimumVersion: "v1" } }, "body.settings.minimumVersion"],
    [{ version, locked: ["minimumVersion"] }, "body.locked.0"],
    [{ version, locked: ["high.tone", "high.tone"] }, "body.locked"],
    [{ version, isDefault: true }, "body"],
  ];
  for (const [body, field] of cases) {
    const refused = await change(one.id!, body);
    assert.equal([refused.status, refused.body.code], [400, "invalid-field"], JSON.stringify(body));
    assert.ok(
      refused.body.errors!.some((error) => error.field === field),
      `${field}: ${refused.text}`,
    );
    assert.not.match(refused.text, /zzz|urgent/);
  }
  assert.equal((await api.call("GET", `/api/v1/device-groups/${one.id}`)).body, one);
});

test("of operators who change one group at once one succeeds, and the others hear that it was changed", async () => {
  for (let round = 0; round < 5; round += 1) {
    const { id, version } = await group();
    const results = await Promise.all(
      [11, 12, 13, 14, 15].map((days) => change(id!, { version, settings: { retentionDays: days } })),
    );
    const done = results.filter(({ status }) => status === 200);
    assert.is(done.length, 1);
    for (const { status, body } of results)
      if (status !== 200) assert.equal([status, body.code], [409, "changed-meanwhile"]);
    const now = (await api.call("GET", `/api/v1/device-groups/${id}`)).body;
    assert.equal(now, done[0]!.body);
    assert.ok(Number(now.version) > Number(version));
  }
});

test("a change of a group is told in its lane, that of a site's default group in the site's", async () => {
  const one = await group();
  const before = api.settingsChanged.length;
  await change(one.id!, { version: one.version, settings: { retentionDays: 3 } });
  const own = await defaultGroup();
  await change(own.id!, { version: own.version, locked: ["high.tone"] });
  await change(own.id!, { version: own.version, locked: [] });
  assert.equal(api.settingsChanged.slice(before), [one.id, siteId], "nothing is told of a change refused");
});

test("10,000 phones are moved, followed until all have what they are to have, and fall to the default group when theirs goes", async () => {
  const one = await group();
  const all = await phones(10_000);
  const devicesOf = `/api/v1/device-groups/${one.id}/devices`;
  const progress = async (query = "") =>
    (await api.call("GET", `/api/v1/device-groups/${one.id}/progress${query}`)).body;
  const elsewhere = await phone();
  await api.ward.sql`update premise_core.devices set site_id = gen_random_uuid() where id = ${elsewhere}`;
  const strangers = [NOBODY, elsewhere].sort();
  const before = api.settingsChanged.length;
  const first = await api.call("POST", devicesOf, { deviceIds: [...all.slice(0, 4_900), all[0], ...strangers] });
  assert.equal([first.status, first.body.moved as unknown, first.body.unknown as unknown], [200, 4_900, strangers]);
  const rest = await api.call("POST", devicesOf, { deviceIds: all.slice(4_900, 9_900) });
  assert.equal([rest.status, rest.body.moved as unknown], [200, 5_000]);
  assert.is((await api.call("POST", devicesOf, { deviceIds: all.slice(0, 5_001) })).status, 400);
  const last = await api.call("POST", devicesOf, { deviceIds: all.slice(9_800) });
  assert.equal([last.status, last.body.moved as unknown], [200, 100]);
  assert.equal(
    api.settingsChanged.slice(before),
    [siteId, siteId, siteId],
    "those who listen for them listen to where they were",
  );

  const waiting = await progress("?limit=1");
  assert.equal({ ...(waiting as object), changedAt: null } as unknown, {
    changedAt: null,
    ...{ version: one.version, devices: 10_000, have: 0, waiting: 10_000 },
    ...{ items: [{ id: all[0], has: null, lastSeenAt: null }], next: all[0] },
  });
  for (let n = 0; n < 9_998; n += 250) {
    const some = all.slice(n, Math.min(n + 250, 9_998));
    const due = await versionsOf(api.ward.database, some);
    await recordVersions(
      api.ward.database,
      due.map(({ id, version }) => ({ deviceId: id, version })),
    );
  }
  const nearly = await progress(`?cursor=${all[9_998]}`);
  assert.equal([nearly.have, nearly.waiting, nearly.items!.map(({ id }) => id)] as unknown, [9_998, 2, [all[9_999]]]);
  // One has an older version, one its user's own.
  await recordVersions(api.ward.database, [{ deviceId: all[9_998]!, version: 1 }]);
  assert.is((await progress()).waiting as unknown, 2);
  const own = await settingsOf(api.ward.database, [{ deviceId: all[9_999]!, userSettings: { retentionDays: 2 } }]);
  for (const id of all.slice(9_998))
    await recordVersions(api.ward.database, [{ deviceId: id, version: (await settings(id)).version }]);
  assert.ok(own[0]!.version > Number(one.version), "a user's own settings are another state of the group's");
  const { have, items } = await progress();
  assert.equal([have, items] as unknown, [10_000, []]);

  const told = api.settingsChanged.length;
  const gone = await api.call("DELETE", `/api/v1/device-groups/${one.id}`);
  assert.is(gone.status, 204, gone.text);
  assert.equal(api.settingsChanged.slice(told), [one.id]);
  assert.equal(
    [(await api.call("DELETE", `/api/v1/device-groups/${one.id}`)).status, (await progress()).code],
    [404, "not-found"],
  );
  const { group: fallen, version, lane } = await settings(all[0]!);
  assert.equal([fallen.name, lane], [(await defaultGroup()).name, siteId]);
  assert.is.not(version, one.version as unknown);
});

test("a group of more phones than can be moved at once is not removed", async () => {
  const one = await group();
  const id = one.id!;
  await phones(10_001);
  await api.ward.sql`update premise_core.devices set group_id = ${id} where id in (
    select id from premise_core.devices where group_id is null limit 10001)`;
  const refused = await api.call("DELETE", `/api/v1/device-groups/${id}`);
  assert.equal([refused.status, refused.body.code], [409, "in-use"]);
  await api.ward.sql`update premise_core.devices set group_id = null where group_id = ${id}`;
  assert.is((await api.call("DELETE", `/api/v1/device-groups/${id}`)).status, 204);
});

test("phones that are moved while their group goes are in the default group, and nothing fails", async () => {
  for (let round = 0; round < 10; round += 1) {
    const made = await createGroup(api.ward.database, owner(), { name: randomUUID(), settings: {}, locked: [] });
    const some = await phones(50);
    const [, removed] = await Promise.all([
      moveDevices(api.ward.database, made!.id, some),
      removeGroup(api.ward.database, made!.id),
      changeGroup(api.ward.database, made!.id, made!.version, { name: randomUUID(), settings: {}, locked: [] }),
    ]);
    assert.is(removed, "removed");
    const left = await api.ward
      .sql`select from premise_core.devices where id = any (${some}::uuid[]) and group_id is not null`;
    assert.is(left.length, 0);
  }
});

test("one phone is put into another group of its site, and shows it", async () => {
  const [one, device] = [await group({ retentionDays: 5 }), await phone()];
  const before = (await settings(device)).version;
  const move = (id: string, to: string) => api.call("PATCH", `/api/v1/devices/${id}`, { groupId: to });
  assert.is((await move(device, one.id!)).status, 204);
  const { version, group: its } = await settings(device);
  assert.equal([version, its.name, version === before], [Number(one.version), one.name, false]);
  const subscribers = await api.ward.sql<{ id: string }[]>`
    select subscriber_id as id from premise_core.devices where id = ${device}`;
  const [shown] = (await api.call("GET", `/api/v1/devices?subscriberId=${subscribers[0]!.id}`)).body.items!;
  assert.equal([shown!.id, shown!.groupId, shown!.settingsVersion as unknown], [device, one.id, null]);
  assert.is((await move(device, (await defaultGroup()).id!)).status, 204);
  assert.is((await settings(device)).version, before, "what it is set to is what it was before");
  assert.is((await move(device, NOBODY)).status, 404);
  assert.is((await move(NOBODY, one.id!)).status, 404);
});

test("a change that meets another of the same phone's user is never hidden by it", async () => {
  // What a phone was told last must differ from what it is to have, however the two writes met.
  for (let round = 0; round < 20; round += 1) {
    const made = await createGroup(api.ward.database, owner(), { name: randomUUID(), settings: {}, locked: [] });
    const [device] = await phones(1);
    await moveDevices(api.ward.database, made!.id, [device!]);
    const change = { name: made!.name, settings: { retentionDays: 9 }, locked: [] };
    const [[told]] = await Promise.all([
      settingsOf(api.ward.database, [{ deviceId: device!, userSettings: { retentionDays: 3 + round } }]),
      changeGroup(api.ward.database, made!.id, made!.version, change),
    ]);
    const now = await settings(device!);
    if (JSON.stringify(told!.group) === JSON.stringify(now.group)) assert.is(told!.version, now.version);
    else assert.is.not(told!.version, now.version);
  }
});

test.run();
