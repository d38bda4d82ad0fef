// limit: 180 s
/** What a phone that listens hears of its settings, on whichever node it listens and whichever node is told of the change. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openTestDatabase } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { type Listening, listen } from "./helpers/listening-phone.ts";
import { startNode } from "./helpers/node.ts";
import { startRedis } from "./helpers/redis.ts";

const database = await openTestDatabase();
const redis = await startRedis();
const hospital = await openHospital({ TOCSIN_REDIS_URL: redis.url }, { databaseUrl: database.url });
const other = await startNode({
  ...{ TOCSIN_PREMISE_DATABASE_URL: database.url, TOCSIN_REDIS_URL: redis.url },
  TOCSIN_ADMIN_KEY: hospital.node.adminKey,
});
const open: Listening[] = [];
test.after(async () => {
  await Promise.all(open.map((one) => one.closes()));
  await other.close();
  await hospital.close();
  await redis.close();
  await database.close();
});

type Phone = Awaited<ReturnType<typeof hospital.phone>>;
async function listens(phone: Phone, url = other.run().url): Promise<Listening> {
  const one = await listen(phone, { url });
  open.push(one);
  await one.expects("resumed");
  return one;
}
type Group = { id: string; version: number };
async function groupOf(...phones: readonly Phone[]): Promise<Group> {
  const { siteId } = hospital;
  const name = `Group ${Math.random()}`;
  const made = (await hospital.operator("POST", "/device-groups", { siteId, name })).body as unknown as Group;
  const deviceIds = phones.map(({ registration }) => registration.vendorId);
  await hospital.operator("POST", `/device-groups/${made.id}/devices`, { deviceIds });
  return made;
}
async function change({ id, version }: Group, retentionDays: number): Promise<Group> {
  const changed = await hospital.operator("PATCH", `/device-groups/${id}`, { version, settings: { retentionDays } });
  assert.is(changed.status, 200, JSON.stringify(changed.body));
  return changed.body as unknown as Group;
}
const progress = async ({ id }: Group) =>
  (await hospital.operator("GET", `/device-groups/${id}/progress`)).body as unknown as {
    have: number;
    waiting: number;
  };

test("a change made on one node reaches phones that listen on another, counts when they confirm it, and is not told them again", async () => {
  const phones = await Promise.all([hospital.phone(), hospital.phone()]);
  const made = await groupOf(...phones);
  const streams = await Promise.all(phones.map((phone) => listens(phone)));
  for (const stream of streams) {
    const { data } = await stream.expects("settings");
    assert.is(data.Version, made.version);
    assert.equal((await stream.says("confirm", { version: made.version })).data.Result, "recorded");
  }
  const group = await change(made, 4);
  for (const [n, stream] of streams.entries()) {
    const frame = await stream.expects("settings", ({ data }) => data.Version === group.version);
    assert.equal([frame.seq, frame.data.RetentionDays], [0, 4], "what a phone resumes by does not count them");
    assert.equal((await progress(group)).have, n);
    await stream.says("confirm", { version: group.version });
  }
  await eventually("all have it", async () => (await progress(group)).waiting === 0);
  await streams[0]!.closes();
  const again = await listens(phones[0]!);
  const last = await change(group, 5);
  const frame = await again.expects("settings");
  assert.equal([frame.data.Version, again.frames("settings").length], [last.version, 1]);
});

test("a phone that did not confirm is told by its next stream", async () => {
  const phone = await hospital.phone();
  const group = await groupOf(phone);
  const first = await listens(phone);
  await first.expects("settings");
  first.vanishes();
  const second = await listens(phone, hospital.node.run().url);
  assert.is((await second.expects("settings")).data.Version, group.version);
  assert.is((await progress(group)).have, 0);
});

test("a phone that is moved while it listens is told what it is set to now", async () => {
  const phone = await hospital.phone();
  await groupOf(phone);
  const stream = await listens(phone);
  await stream.expects("settings");
  const next = await groupOf(phone);
  await stream.expects("settings", ({ data }) => data.Version === next.version);
  const changed = await change(next, 2);
  await stream.expects("settings", ({ data }) => data.Version === changed.version);
  await hospital.operator("DELETE", `/device-groups/${next.id}`);
  await stream.expects("settings", ({ data }) => (data.Group as { Name: string }).Name === "Default");
});

test.run();
