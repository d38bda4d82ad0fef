/** Recalling a page, by what its rows then say: whatever became of it before, whatever happens at the same time. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type DeviceId, rankOf, SHARD_COUNT, type Shard, type Transport, type UniqueId } from "../domain.ts";
import { noticesOf } from "../persistence/device-notices.ts";
import { inboxes } from "../persistence/inbox.ts";
import { changeMessages, dueMessages } from "../persistence/messages.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReplies } from "../persistence/replies.ts";
import { eventually } from "./helpers/eventually.ts";
import { change, openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const pages = openPages(ward);
const lab = await ward.host("lab");
test.after(() => ward.close());
test.before.each(async () => {
  await sql`truncate premise_core.messages, premise_core.message_history, premise_core.host_outbox, premise_core.device_notices`;
});

const recall = (uniqueId: UniqueId, reason: string | null = null) =>
  recallPage(database, "node-a", { uniqueId, by: "night shift", reason });

async function person(phones = 1) {
  const destination = `555${Math.floor(Math.random() * 1e9)}`;
  const subscriberId = await ward.subscriber(destination);
  const devices: DeviceId[] = [];
  for (let n = 0; n < phones; n += 1) devices.push(await ward.device(subscriberId));
  return { destination, subscriberId, devices, phone: devices[0]! };
}
type Someone = Awaited<ReturnType<typeof person>>;

async function pageTo(someone: Someone, more: Parameters<typeof pageFor>[3] = {}): Promise<UniqueId> {
  const page = pageFor(ward, lab, someone.destination, more);
  await pages.accept(page);
  return page.uniqueId;
}
async function row(uniqueId: UniqueId) {
  const [found] = await sql<
    {
      status: number;
      answer: string | null;
      outcome: string | null;
      reason: string | null;
      told: string;
      open: boolean;
      due: boolean;
      asks: boolean;
      version: number;
    }[]
  >`select status, answer, outcome, outcome_reason as reason, told, open, due_at is not null as due, user_deadline is not null as asks, version
    from premise_core.messages where unique_id = ${uniqueId}`;
  return found!;
}
async function reaches(uniqueId: UniqueId, transport: Transport): Promise<void> {
  const { version } = await row(uniqueId);
  const changes = [change(uniqueId, version, { event: "ENROUTE", transport, tell: "ENROUTE" })];
  assert.is((await changeMessages(database, "node-a", changes))[0] !== null, true);
}
const inboxOf = async ({ phone, subscriberId }: Someone) =>
  (await inboxes(database, [{ device: { id: phone, subscriberId }, limit: 10 }]))[0]!.pages.map(
    (page) => page.uniqueId,
  );
const noticesTo = async (...devices: DeviceId[]) =>
  (await noticesOf(database, devices, 10)).map(({ deviceId, uniqueId, kind }) => [deviceId, uniqueId, kind]);
const ALL = Array.from({ length: SHARD_COUNT }, (_, shard) => shard as Shard);
const due = async () =>
  (await dueMessages(database, ALL, 100)).map(({ uniqueId, outcome, targets }) => ({
    uniqueId,
    outcome,
    targets: targets.map(({ deviceId }) => deviceId),
  }));

test("a page that nobody was woken for leaves the inbox, its host hears FAILED, and no phone is woken to hear of it", async () => {
  const someone = await person();
  const page = await pageTo(someone);
  const recalled = await recall(page, "wrong ward");
  assert.equal(
    recalled!.pages.map(({ uniqueId, priority, synthetic }) => [uniqueId, priority, synthetic]),
    [[page, "high", false]],
  );
  assert.equal(recalled!.devices, [someone.phone]);
  assert.equal(await row(page), {
    ...{
      status: rankOf("QUEUED"),
      answer: null,
      outcome: "RECALLED",
      reason: "recalled by an operator",
      told: "FAILED",
    },
    ...{ open: false, due: false, asks: false, version: 3 },
  });
  assert.equal(await inboxOf(someone), []);
  assert.equal(await pages.statusesTold(page), ["ACCEPTED", "QUEUED", "FAILED"]);
  assert.equal(await pages.history(page), ["ACCEPTED", "QUEUED", "RECALLED"]);
  const [line] = await sql`select detail from premise_core.message_history where event = 'RECALLED'`;
  assert.is(line!.detail, "by night shift: wrong ward");
  assert.equal(
    await noticesTo(someone.phone),
    [[someone.phone, page, "RECALLED"]],
    "it may have fetched it all the same",
  );
});

test("one whose phones were woken is due at once, for those alone that have yet to hear so", async () => {
  const someone = await person(3);
  const [heard, other, asleep] = someone.devices as [DeviceId, DeviceId, DeviceId];
  const page = await pageTo(someone);
  await reaches(page, "ENROUTE");
  await recall(page);
  await sql`delete from premise_core.device_notices where device_id = ${heard}`;
  const [found, ...others] = await due();
  assert.equal([found!.uniqueId, found!.outcome, others], [page, "RECALLED", []]);
  assert.equal(new Set(found!.targets), new Set([other, asleep]));
});

test("while a phone of its person listens, it has 3 s to hear so by its stream", async () => {
  const someone = await person();
  await sql`update premise_core.devices set stream_boot = gen_random_uuid() where id = ${someone.phone}`;
  const page = await pageTo(someone);
  await reaches(page, "ENROUTE");
  await recall(page);
  assert.equal(await due(), []);
  const [left] =
    await sql`select extract(epoch from due_at - clock_timestamp())::float as s from premise_core.messages`;
  assert.ok(left!.s > 2 && left!.s <= 3, `${left!.s}`);
});

for (const [what, receipts, told] of [
  ["fetched", ["DELIVERED"], ["DELIVERED"]],
  ["read", ["READ"], ["READ"]],
  ["answered", ["READ", "IGNORED"], ["READ", "IGNORED"]],
] as const) {
  test(`a page that was ${what} is recalled like any other: its host hears FAILED behind it, and no reminder follows`, async () => {
    const someone = await person();
    const page = await pageTo(someone);
    for (const receipt of receipts) await pages.receipt(page, someone.phone, receipt);
    const before = await row(page);
    await recall(page);
    const after = await row(page);
    assert.equal(
      [after.status, after.answer, after.outcome, after.asks],
      [before.status, before.answer, "RECALLED", false],
    );
    assert.equal(await pages.statusesTold(page), ["ACCEPTED", "QUEUED", ...told, "FAILED"]);
    assert.equal(await noticesTo(someone.phone), [[someone.phone, page, "RECALLED"]]);
  });
}

test("the same again changes nothing and tells nobody, were it twice in the same instant", async () => {
  const someone = await person(2);
  const page = await pageTo(someone);
  const both = await Promise.all([recall(page), recall(page), recall(page)]);
  assert.is(
    both.reduce((sum, recalled) => sum + recalled!.pages.length, 0),
    1,
  );
  const stands = await row(page);
  assert.equal(await recall(page, "again"), { pages: [], devices: [] });
  assert.equal(await row(page), stands);
  assert.equal(await pages.statusesTold(page), ["ACCEPTED", "QUEUED", "FAILED"]);
  assert.is((await noticesTo(...someone.devices)).length, 2);
  assert.is(await recall(randomUUID() as UniqueId), null);
});

test("an outcome told before is not told again, and its reason stays; the page goes from the phones all the same", async () => {
  const someone = await person();
  const failed = await pageTo(someone);
  await changeMessages(database, "node-a", [
    change(failed, 2, {
      event: "FAILED",
      outcome: "FAILED",
      tell: "FAILED",
      detail: "not fetched in time",
      due: "expiry",
    }),
  ]);
  assert.equal(await inboxOf(someone), [failed]);
  const recalled = await recall(failed);
  assert.is(recalled!.pages[0]!.news, null);
  const { outcome, reason } = await row(failed);
  assert.equal([outcome, reason], ["RECALLED", "not fetched in time"]);
  assert.equal(await pages.statusesTold(failed), ["ACCEPTED", "QUEUED", "FAILED"]);
  assert.equal(await inboxOf(someone), []);

  const expired = await pageTo(someone);
  await changeMessages(database, "node-a", [
    change(expired, 2, { event: "EXPIRED", outcome: "EXPIRED", tell: "FAILED", detail: "expired", due: "never" }),
  ]);
  await sql`update premise_core.messages set expires_at = now() where unique_id = ${expired}`;
  await recall(expired);
  assert.equal(await pages.statusesTold(expired), ["ACCEPTED", "QUEUED", "FAILED"]);
  assert.is((await row(expired)).due, false, "what is past its expiry wakes nobody");
});

test("what comes from a phone behind a recall is recorded and told, and wakes and reminds nobody", async () => {
  const someone = await person(2);
  const [one, other] = someone.devices as [DeviceId, DeviceId];
  const page = await pageTo(someone);
  await reaches(page, "ENROUTE");
  await recall(page);
  const replied = () =>
    recordReplies(database, "node-a", [{ uniqueId: page, deviceId: one, clientId: "1", text: "late" }]);
  for (const receipt of ["DELIVERED", "READ", "ACKNOWLEDGED", "a reply"] as const) {
    const said = receipt === "a reply" ? (await replied())[0]!.kind : await pages.receipt(page, one, receipt);
    assert.is(said, "recorded");
    const { asks, open } = await row(page);
    assert.equal([asks, open], [false, false], receipt);
    assert.equal(
      (await due()).map(({ targets }) => new Set(targets)),
      [new Set([one, other])],
      `after ${receipt} the phones are still to be woken for the recall`,
    );
  }
  assert.is(await pages.receipt(page, other, "DELIVERED"), "repeated");
  assert.equal(await pages.statusesTold(page), [
    ...["ACCEPTED", "QUEUED", "ENROUTE", "FAILED"],
    ...["DELIVERED", "READ", "ACKNOWLEDGED", "REPLY"],
  ]);
  assert.equal((await row(page)).outcome, "RECALLED");
});

test("a driver that had claimed a step before the recall writes nothing behind it", async () => {
  const someone = await person();
  const page = await pageTo(someone);
  await recall(page);
  const late = change(page, 2, { event: "ENROUTE", transport: "ENROUTE", tell: "ENROUTE" });
  assert.equal(await changeMessages(database, "node-b", [late]), [null]);
  assert.equal(await pages.statusesTold(page), ["ACCEPTED", "QUEUED", "FAILED"]);
});

test("a recall and a receipt in the same instant, over and over: one FAILED, the receipt once, and the page is gone", async () => {
  for (let round = 0; round < 40; round += 1) {
    const someone = await person(2);
    const page = await pageTo(someone);
    const [, said] = await Promise.all(
      round % 2 === 0
        ? [recall(page), pages.receipt(page, someone.phone, "DELIVERED")]
        : [pages.receipt(page, someone.phone, "DELIVERED"), recall(page)].reverse(),
    );
    assert.ok(said !== undefined);
    const told = await pages.statusesTold(page);
    assert.equal([...told].sort(), ["ACCEPTED", "DELIVERED", "FAILED", "QUEUED"]);
    const { open, outcome, asks } = await row(page);
    assert.equal([open, outcome, asks], [false, "RECALLED", false]);
    assert.is((await pages.history(page)).length, 4);
  }
});

/** As whoever passes a page on leaves it: one statement that changes the parent and makes the child. */
async function passesOn(parent: UniqueId, to: Someone, run: typeof sql = sql): Promise<UniqueId> {
  const child = randomUUID() as UniqueId;
  await run`
    with parent as (
      update premise_core.messages set version = version + 1, step = step + 1 where unique_id = ${parent} returning *
    )
    insert into premise_core.messages
    select (json_populate_record(null::premise_core.messages, (to_json(parent)::jsonb || ${sql.json({
      ...{ unique_id: child, parent_id: parent, subscriber_id: to.subscriberId, version: 2, status: 2, told: "QUEUED" },
      ...{ destination: to.destination, open: true, step: 0 },
    })})::json)).* from parent`;
  await run`insert into premise_core.message_history (unique_id, seq, event, at, node)
    select ${child}, seq, event, now(), 'node-a' from (values (1, 'ACCEPTED'), (2, 'QUEUED')) as step (seq, event)`;
  return child;
}

test("with a page goes what it was passed on as, each told to its host; a child goes by itself", async () => {
  const [first, second, third] = [await person(), await person(2), await person()];
  const parent = await pageTo(first);
  const children = [await passesOn(parent, second), await passesOn(parent, third)] as const;
  await recall(children[1]);
  assert.equal([(await row(parent)).outcome, (await row(children[0])).outcome], [null, null]);
  const recalled = await recall(parent);
  assert.equal(new Set(recalled!.pages.map((page) => page.uniqueId)), new Set([parent, children[0]]));
  assert.equal(new Set(recalled!.devices), new Set([first.phone, ...second.devices]));
  for (const page of [parent, ...children]) assert.is((await row(page)).outcome, "RECALLED");
  assert.equal(await pages.statusesTold(children[0]), ["FAILED"]);
  for (const someone of [first, second, third]) assert.equal(await inboxOf(someone), []);
});

test("the phones of a page that one it was passed on to has settled are woken for its recall all the same", async () => {
  const [first, second] = [await person(), await person()];
  const parent = await pageTo(first);
  await reaches(parent, "ENROUTE");
  const child = await passesOn(parent, second);
  assert.is(await pages.receipt(child, second.phone, "ACKNOWLEDGED"), "recorded");
  await recall(parent);
  const { version } = await row(parent);
  assert.ok((await changeMessages(database, "node-a", [change(parent, version, { wakes: true })]))[0] !== null);
});

test("a page that is passed on while its recall waits for the row is recalled with the child that the recall could not see", async () => {
  const [first, second] = [await person(), await person()];
  const parent = await pageTo(first);
  let recalling: ReturnType<typeof recall> | undefined;
  const child = await sql.begin(async (transaction) => {
    const made = await passesOn(parent, second, transaction as never);
    recalling = recall(parent);
    await eventually(
      "the recall waits for the row",
      async () =>
        (await sql`select from pg_stat_activity where wait_event_type = 'Lock' and query like '%RECALLED%'`).length > 0,
    );
    return made;
  });
  assert.is((await recalling!)!.pages.length, 2);
  assert.is((await row(child)).outcome, "RECALLED");
  assert.equal(await inboxOf(second), []);
});

test("a page passed on to a thousand is recalled with all of them", async () => {
  const [first, second] = [await person(), await person()];
  const parent = await pageTo(first);
  const child = await passesOn(parent, second);
  await sql`insert into premise_core.messages
    select (json_populate_record(null::premise_core.messages,
      (to_json(message)::jsonb || jsonb_build_object('unique_id', gen_random_uuid()))::json)).*
    from premise_core.messages as message, generate_series(1, 1_000) where unique_id = ${child}`;
  assert.is((await recall(parent))!.pages.length, 1_002);
  assert.equal(await inboxOf(second), []);
});

test("a page that expires on a phone that may show it is told to that phone, and one nobody was woken for is not", async () => {
  const someone = await person(2);
  const [shown, unseen] = [await pageTo(someone), await pageTo(someone)];
  await reaches(shown, "ENROUTE");
  const expires = async (page: UniqueId) => {
    const { version } = await row(page);
    const over = change(page, version, {
      event: "EXPIRED",
      outcome: "EXPIRED",
      tell: "FAILED",
      detail: "expired",
      due: "never",
    });
    await changeMessages(database, "node-a", [over]);
  };
  await expires(shown);
  await expires(unseen);
  assert.equal(
    new Set((await noticesTo(...someone.devices)).map(String)),
    new Set(someone.devices.map((device) => String([device, shown, "EXPIRED"]))),
  );
});

test.run();
