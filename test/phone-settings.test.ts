// limit: 180 s
/** What a phone is set to, and what it hears of it, from a running node. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";

const hospital = await openHospital();
const { url } = hospital.node.run();
const host = await hospital.host("lab");
test.after(() => hospital.close());

type Phone = Awaited<ReturnType<typeof hospital.phone>>;
type Tone = { Tone: string; Volume: number | null; IntervalSeconds: number; Repeats: number };
type Settings = {
  Version: number;
  Group: { Name: string };
  Tones: Record<"High" | "Medium" | "Low", Tone>;
  Locked: string[];
  RetentionDays: number;
  MinimumVersion: string | null;
  UpdateRequired: boolean;
  CoreVersion: string;
};
type Body = { Settings: Settings; SettingsVersion?: number; Messages: { Text: string }[]; ResponseCode: number };

async function ask(phone: Phone, operation: string, body: object = {}) {
  const { vendorId, deviceToken } = phone.registration;
  const answer = await fetch(`${url}/ClientMessaging/V2/${operation}`, {
    method: "POST",
    headers: { authorization: `Bearer ${deviceToken}`, "content-type": "application/json" },
    body: JSON.stringify({ vendorId, ...body }),
  });
  return { status: answer.status, body: (await answer.json()) as Body };
}
const pulls = async (phone: Phone, body: object = {}) => (await ask(phone, "GetSettings", body)).body.Settings;
const dueFor = async (phone: Phone) => (await ask(phone, "GetMessages", { v: 3 })).body.SettingsVersion;

type Group = { id: string; version: number; name: string };
let groups = 0;
async function groupOf(phones: readonly Phone[], settings: object, locked: readonly string[] = []): Promise<Group> {
  const name = `Group ${(groups += 1)}`;
  const made = await hospital.operator("POST", "/device-groups", { siteId: hospital.siteId, name, settings, locked });
  assert.is(made.status, 201, JSON.stringify(made.body));
  const group = made.body as unknown as Group;
  const deviceIds = phones.map(({ registration }) => registration.vendorId);
  assert.is((await hospital.operator("POST", `/device-groups/${group.id}/devices`, { deviceIds })).status, 200);
  return group;
}
async function change(group: Group, body: object): Promise<Group> {
  const changed = await hospital.operator("PATCH", `/device-groups/${group.id}`, { version: group.version, ...body });
  assert.is(changed.status, 200, JSON.stringify(changed.body));
  return changed.body as unknown as Group;
}
async function progress(group: Group) {
  return (await hospital.operator("GET", `/device-groups/${group.id}/progress`)).body as unknown as {
    devices: number;
    have: number;
    waiting: number;
    items: { id: string }[];
  };
}

test("a new phone is set by its site's default group, and whoever asks for no version hears of none", async () => {
  const phone = await hospital.phone();
  const settings = await pulls(phone);
  assert.equal(settings.Group, { Name: "Default" });
  assert.equal(settings.Tones.High, { Tone: "alarm", Volume: null, IntervalSeconds: 60, Repeats: 10 });
  assert.equal([settings.Locked, settings.MinimumVersion, settings.UpdateRequired], [[], null, false]);
  assert.is(await dueFor(phone), settings.Version);
  assert.not("SettingsVersion" in (await ask(phone, "GetMessages")).body);
});

test("a change shows as another version, and the operator sees each phone that has it, until all have", async () => {
  const phones = await Promise.all([hospital.phone(), hospital.phone(), hospital.phone()]);
  const made = await groupOf(phones, {});
  for (const phone of phones) await pulls(phone, { have: (await pulls(phone)).Version });
  assert.equal((await progress(made)).have, 3);
  const group = await change(made, { settings: { retentionDays: 3 } });
  assert.equal((await progress(group)).have, 0);
  // One says it when it pulls again, one with its next fetch, and one has it from its stream or its call before.
  const [one, two, three] = phones;
  for (const phone of phones) {
    const settings = await pulls(phone);
    assert.equal([settings.Version, settings.RetentionDays], [await dueFor(phone), 3]);
  }
  assert.equal((await progress(group)).have, 0, "an answer sent is not an answer had");
  const version = (await pulls(one!)).Version;
  await pulls(one!, { have: version });
  await ask(two!, "GetMessages", { settingsVersion: version });
  const left = await eventually("two have it", async () => {
    const now = await progress(group);
    return now.have === 2 && now;
  });
  assert.equal([left.devices, left.waiting, left.items.map(({ id }) => id)], [3, 1, [three!.registration.vendorId]]);
  await ask(three!, "GetMessages", { settingsVersion: version });
  await eventually("all have it", async () => (await progress(group)).waiting === 0);
});

test("a user's own values hold where the group does not lock them, and again when it does not any more", async () => {
  const phone = await hospital.phone();
  const group = await groupOf([phone], { priorities: { high: { tone: "siren" } }, retentionDays: 10 }, ["high.tone"]);
  const before = (await pulls(phone)).Version;
  const own = { priorities: { high: { tone: "birdsong", volume: 0 }, low: { repeats: 0 } }, retentionDays: 90 };
  const settings = await pulls(phone, { userSettings: own });
  const { High, Medium, Low } = settings.Tones;
  assert.equal([High.Tone, High.Volume, Medium.Tone, Low.Repeats], ["siren", 0, "chime", 0]);
  assert.equal([settings.RetentionDays, settings.Locked], [10, ["high.tone"]]);
  assert.is.not(settings.Version, before);
  assert.is((await pulls(phone, { userSettings: own })).Version, settings.Version, "the same again is no change");
  await change(group, { locked: [] });
  assert.is((await pulls(phone)).Tones.High.Tone, "birdsong");
  const cleared = await pulls(phone, { userSettings: {} });
  assert.equal([cleared.Tones.High.Tone, cleared.Tones.Low.Repeats], ["siren", 2]);
});

test("values of a user's that cannot be are left out, and the phone gets its settings all the same", async () => {
  const phone = await hospital.phone();
  const { Tones, RetentionDays } = await pulls(phone);
  for (const userSettings of [
    { priorities: { high: { tone: "\u0000", volume: -1, intervalSeconds: 0, repeats: 1e308 } } },
    { priorities: [{ high: 3 }], retentionDays: "3" },
    { priorities: { high: { tone: "\ud800" } }, retentionDays: 0.5 },
    { toString: { retentionDays: 1 }, zzz: "z".repeat(100_000) },
  ]) {
    const { status, body } = await ask(phone, "GetSettings", { userSettings });
    assert.equal([status, body.Settings?.Tones, body.Settings?.RetentionDays], [200, Tones, RetentionDays]);
  }
  for (const wrong of [{ userSettings: 3 }, { userSettings: null }, { have: -1 }, { have: 2 ** 60 }, { have: "1" }])
    assert.is((await ask(phone, "GetSettings", wrong)).status, 400, JSON.stringify(wrong));
});

test("a phone whose program is too old is shown that it is to be updated, and gets its page", async () => {
  const phone = await hospital.phone();
  await groupOf([phone], { minimumVersion: "9.1" });
  const old = await pulls(phone);
  assert.equal([old.MinimumVersion, old.UpdateRequired], ["9.1", true]);
  const trackingId = await host.sends({ destination: phone.person.destination, text: "bed 3" });
  const page = await eventually("the page waits", async () => {
    const { body } = await ask(phone, "GetMessages", { v: 3 });
    return body.Messages.find(({ Text }) => Text === "bed 3") as { UniqueId: string } | undefined;
  });
  await phone.confirms([page.UniqueId]);
  await host.awaits(trackingId, "DELIVERED");
  assert.is(
    (await pulls(phone, { clientVersion: "9.10.2" })).UpdateRequired,
    false,
    "updated without registering anew",
  );
  assert.is((await pulls(phone)).UpdateRequired, false);
});

test("a phone that registers anew keeps its group and what its user set", async () => {
  const phone = await hospital.phone();
  const group = await groupOf([phone], {});
  const own = await pulls(phone, { userSettings: { priorities: { high: { tone: "harp" } } } });
  const { siteId } = hospital;
  const answer = await fetch(`${url}/ClientMessaging/V2/Register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{ siteId, destination: phone.person.destination, registrationCode: phone.person.registrationCode },
      ...{ deviceType: "ANDROID", deviceOS: "16", clientVersion: "2", gatewayType: "GCM" },
      notificationAddress: phone.registration.notificationAddress,
    }),
  });
  const { Settings } = (await answer.json()) as Body;
  assert.equal([Settings.Group.Name, Settings.Tones.High.Tone, Settings.Version], [group.name, "harp", own.Version]);
});

test.run();
