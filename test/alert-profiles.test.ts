/** Against a real Postgres: how often a device's pages are brought back to mind, whatever stands in its group's row. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceId, PRIORITIES } from "../domain.ts";
import {
  type AlertProfile,
  alertProfile,
  DEFAULT_PROFILES,
  INTERVAL_SECONDS,
  REPEATS,
} from "../persistence/alert-profiles.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const { sql } = ward;
test.after(() => ward.close());

async function group(settings: unknown, { isDefault = false, siteId = ward.siteId as string } = {}): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    insert into premise_core.device_groups (tenant_id, site_id, name, is_default, settings)
    values ('default', ${siteId}, ${randomUUID()}, ${isDefault}, ${JSON.stringify(settings)}::text::jsonb) returning id`;
  return row!.id;
}

async function deviceIn(groupId: string | null): Promise<DeviceId> {
  const device = await ward.device(await ward.subscriber(randomUUID()));
  await sql`update premise_core.devices set group_id = ${groupId} where id = ${device}`;
  return device;
}

async function profilesOf(device: DeviceId): Promise<Record<string, AlertProfile>> {
  const rows = await ward.database.run<{ priority: number } & AlertProfile>(
    (sql) => sql`
    select page.priority, profile.interval_seconds as "intervalSeconds", profile.repeats
    from premise_core.devices as device
    cross join unnest('{0,1,2}'::smallint[]) as page (priority)
    cross join lateral (${alertProfile(sql, "device", sql`page.priority`)}) as profile
    where device.id = ${device}`,
  );
  return Object.fromEntries(rows.map(({ priority, ...profile }) => [PRIORITIES[priority]!, profile]));
}

const all = (profile: unknown) => ({ priorities: { high: profile, medium: profile, low: profile } });

test("reminders go by the device's group, without one by its site's default group, and by what is built in where there is none", async () => {
  const device = await deviceIn(null);
  assert.equal(await profilesOf(device), DEFAULT_PROFILES);
  await group(all({ intervalSeconds: 20, repeats: 1 }), { isDefault: true, siteId: randomUUID() });
  assert.equal(await profilesOf(device), DEFAULT_PROFILES, "another site's default");
  await group(all({ intervalSeconds: 30, repeats: 3 }), { isDefault: true });
  const own = await group({ priorities: { high: { intervalSeconds: 45, repeats: 0 } } });
  assert.equal((await profilesOf(device)).low, { intervalSeconds: 30, repeats: 3 });
  const inGroup = await profilesOf(await deviceIn(own));
  assert.equal(inGroup, { ...DEFAULT_PROFILES, high: { intervalSeconds: 45, repeats: 0 } });
});

for (const [what, value, profile] of [
  [
    "too often",
    { intervalSeconds: 0, repeats: 1e300 },
    { intervalSeconds: INTERVAL_SECONDS.min, repeats: REPEATS.max },
  ],
  ["never", { intervalSeconds: 1e300, repeats: -7 }, { intervalSeconds: INTERVAL_SECONDS.max, repeats: REPEATS.min }],
  ["by words", { intervalSeconds: "soon", repeats: null }, DEFAULT_PROFILES.high],
  ["by a list", ["intervalSeconds"], DEFAULT_PROFILES.high],
  ["by a number", 7, DEFAULT_PROFILES.high],
] as const) {
  test(`settings written by hand that remind ${what} stop nothing and hold to the bounds`, async () => {
    assert.equal((await profilesOf(await deviceIn(await group(all(value))))).high, profile);
  });
}

test("settings that are no object at all are as none", async () => {
  for (const settings of [null, [], "high", 3, { priorities: [] }])
    assert.equal(await profilesOf(await deviceIn(await group(settings))), DEFAULT_PROFILES);
});

test.run();
