/** The message actor among the others, on the real database, with a hosted side of the test's own. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { messageBehaviour } from "../actors/message.ts";
import { openPaging, type Paging } from "../actors/paging.ts";
import { startActorSystem } from "../cluster/actor-system.ts";
import { openBus } from "../cluster/bus.ts";
import type { Membership } from "../cluster/membership.ts";
import { openBranches } from "../cluster/shards.ts";
import type { Receipt, SubscriberId, UniqueId } from "../domain.ts";
import { shardOf, systemClock } from "../domain.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import type { PageToAccept } from "../persistence/acceptance.ts";
import type { Device } from "../persistence/devices.ts";
import { inboxes } from "../persistence/inbox.ts";
import { changeMessages, type DueMessage, dueMessages, type Written } from "../persistence/messages.ts";
import type { Notification } from "../persistence/notifications.ts";
import type { WakeTarget } from "../persistence/page-devices.ts";
import { eventually } from "./helpers/eventually.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
const closers: (() => void)[] = [];
test.after.each(() => {
  for (const close of closers.splice(0)) close();
});
test.after(() => ward.close());

type Hosted = { readonly requests: Notification[]; answer: (notification: Notification) => Promise<void> };
function openNode(more: { drives?: () => boolean } = {}): { paging: Paging; hosted: Hosted } {
  const hosted: Hosted = { requests: [], answer: async () => {} };
  const system = startActorSystem("node");
  closers.push(() => system.close());
  const paging = openPaging(
    { node: "node-a", urls: () => ["http://127.0.0.1:1"], coreVersion: "1" },
    {
      database,
      system,
      branch: openBranches(system, "node"),
      membership: { drives: more.drives ?? (() => true) } as unknown as Membership,
      bus: openBus(null, { log: silentLog }),
      hosted: {
        request(notification) {
          hosted.requests.push(notification);
          return hosted.answer(notification);
        },
      },
      log: silentLog,
      meter: silentMeter,
      clock: systemClock,
    },
  );
  return { paging, hosted };
}

let numbers = 0;
async function recipient(addresses: readonly (string | null)[] = [randomUUID()]) {
  numbers += 1;
  const destination = `555${numbers}`;
  const subscriberId = await ward.subscriber(destination);
  const devices = await Promise.all(addresses.map((address) => ward.device(subscriberId, { address })));
  return { destination, subscriberId, deviceId: devices[0]! };
}
type Recipient = Awaited<ReturnType<typeof recipient>>;

async function accept(paging: Paging, to: Recipient, more: Partial<PageToAccept> = {}): Promise<UniqueId> {
  const page = pageFor(ward, lab, to.destination, more);
  assert.is((await paging.accept(page)).kind, "accepted");
  return page.uniqueId;
}

async function history(id: UniqueId): Promise<string[]> {
  return (
    await sql<{ event: string }[]>`select event from premise_core.message_history where unique_id = ${id} order by seq`
  ).map((one) => one.event);
}
async function told(id: UniqueId): Promise<string[]> {
  return (
    await sql<{ status: string }[]>`select status from premise_core.host_outbox where unique_id = ${id} order by id`
  ).map((one) => one.status);
}
async function reasonTold(id: UniqueId): Promise<string> {
  return (await sql`select reason from premise_core.host_outbox where unique_id = ${id} and status = 'FAILED'`)[0]!
    .reason;
}
/** In how many ms something is due next; null: never. */
async function dueIn(id: UniqueId): Promise<number | null> {
  const [one] =
    await sql`select extract(epoch from due_at - clock_timestamp())::float8 * 1000 as ms from premise_core.messages where unique_id = ${id}`;
  return one!.ms;
}
const near = (actual: number | null, expected: number) =>
  assert.ok(actual !== null && actual <= expected && actual > expected - 1_500, `${actual}, not ${expected}`);
const hears = (id: UniqueId, events: string) =>
  eventually(`the history ends in ${events}`, async () => (await history(id)).join(" ").endsWith(events));
const receipt = (paging: Paging, to: Recipient, uniqueId: UniqueId, kind: Receipt) =>
  paging.record({ uniqueId, deviceId: to.deviceId, receipt: kind });

/** Time passes until this column is in the past, and the row is found due. */
async function passes(
  id: UniqueId,
  column: "due_at" | "device_deadline" | "user_deadline" | "expires_at",
): Promise<DueMessage> {
  await sql`update premise_core.messages set due_at = clock_timestamp() - interval '1 ms' where unique_id = ${id}`;
  await sql`update premise_core.messages set ${sql(column)} = due_at where unique_id = ${id}`;
  const [one] = await sql<
    { subscriber: SubscriberId }[]
  >`select subscriber_id as subscriber from premise_core.messages where unique_id = ${id}`;
  return (await dueMessages(database, [shardOf(one!.subscriber)], 100)).find((message) => message.uniqueId === id)!;
}

test("an accepted page is asked for at once and goes ENROUTE when the request is durable", async () => {
  const { paging, hosted } = openNode();
  const id = await accept(paging, await recipient(["a", "b"].map((name) => name + randomUUID())));
  await hears(id, "ACCEPTED QUEUED ENROUTE");
  assert.is(hosted.requests.length, 2, "one for each device");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE"]);
  near(await dueIn(id), 15_000);
});

test("a hosted side that cannot be reached leaves the page QUEUED, and is asked again after growing pauses", async () => {
  const { paging, hosted } = openNode();
  hosted.answer = () => Promise.reject(new Error("away"));
  const id = await accept(paging, await recipient());
  const pauses = [2_000, 4_000, 8_000, 15_000, 15_000];
  for (const [n, pause] of pauses.entries()) {
    await hears(id, n === 0 ? "QUEUED WAIT" : "WAIT WAKE WAIT");
    await eventually("the page rests", async () => ((await dueIn(id)) ?? 0) > pause - 1_500);
    near(await dueIn(id), pause);
    paging.drive(await passes(id, "due_at"));
    await eventually("it is asked again", () => hosted.requests.length === n + 2);
  }
  assert.is(
    new Set(hosted.requests.map((request) => request.id)).size,
    hosted.requests.length,
    "each wake-up is a request of its own",
  );
  assert.equal(await told(id), ["ACCEPTED", "QUEUED"]);
  hosted.answer = async () => {};
  await hears(id, "WAKE WAIT");
  paging.drive(await passes(id, "due_at"));
  await hears(id, "WAKE ENROUTE");
});

test("a recipient without a live address is waited for, and woken as soon as there is one", async () => {
  const { paging, hosted } = openNode();
  const to = await recipient([null]);
  const id = await accept(paging, to);
  await hears(id, "QUEUED WAIT");
  near(await dueIn(id), 2_000);
  await sql`update premise_core.devices set notification_address = 'new' where id = ${to.deviceId}`;
  paging.drive(await passes(id, "due_at"));
  await hears(id, "WAKE ENROUTE");
  assert.equal(
    hosted.requests.map((request) => request.notificationAddress),
    ["new"],
  );
});

test("a claim that is lost to another node performs nothing", async () => {
  const nodes = [openNode(), openNode(), openNode()];
  const to = await recipient();
  const id = await accept(nodes[0]!.paging, to);
  await hears(id, "ENROUTE");
  const due = await passes(id, "due_at");
  for (const { paging } of nodes) paging.drive(due);
  await hears(id, "ENROUTE WAKE PUSH");
  assert.is(nodes.flatMap(({ hosted }) => hosted.requests).length, 2, "the first wake-up and one more");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE"]);
});

test("a node that may not act writes nothing and asks nobody, also when it loses the right in the middle", async () => {
  let mine = true;
  const { paging, hosted } = openNode({ drives: () => mine });
  const id = await accept(paging, await recipient());
  await hears(id, "ENROUTE");
  const before = await history(id);
  mine = false;
  paging.drive(await passes(id, "due_at"));
  await eventually("the driver has ended", () => paging.room() === 20_000);
  assert.equal([await history(id), hosted.requests.length], [before, 1]);

  const due = await passes(id, "due_at");
  const asked: WakeTarget[] = [];
  let ended = 0;
  let may = true;
  const behave = messageBehaviour(due, {
    mayAct: () => may,
    write: async (change): Promise<Written | null> => {
      const [result] = await changeMessages(database, "node-a", [change]);
      may = false;
      return result!;
    },
    passOn: async () => null,
    tellFamily: async () => {},
    hint: () => {},
    announce: () => {},
    ask: (_row, one) => asked.push(one),
    end: () => {
      ended += 1;
    },
  });
  await behave({ kind: "drive", claimed: false, now: due.readAt });
  assert.equal([asked.length, ended], [0, 1], "claimed, and then another's");
});

test("a page fetched before the request was durable is not told ENROUTE any more", async () => {
  const { paging, hosted } = openNode();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  hosted.answer = () => held;
  const to = await recipient();
  const id = await accept(paging, to);
  await eventually("the hosted side is asked", () => hosted.requests.length === 1);
  await receipt(paging, to, id, "DELIVERED");
  release();
  await eventually("the driver has ended", () => paging.room() === 20_000);
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "DELIVERED"]);
});

test("a hosted side that never answers does not keep another node from waking the device", async () => {
  const [stuck, next] = [openNode(), openNode()];
  const never = new Promise<void>((resolve) => closers.push(resolve));
  stuck.hosted.answer = () => never;
  const id = await accept(stuck.paging, await recipient());
  await eventually("the hosted side is asked", () => stuck.hosted.requests.length === 1);
  near(await dueIn(id), 3_000);
  next.paging.drive(await passes(id, "due_at"));
  await hears(id, "QUEUED WAKE ENROUTE");
});

test("the device deadline is told FAILED once; the page stays fetchable and its delivery is told", async () => {
  const { paging } = openNode();
  const to = await recipient();
  const id = await accept(paging, to);
  await hears(id, "ENROUTE");
  paging.drive(await passes(id, "device_deadline"));
  await hears(id, "ENROUTE FAILED");
  assert.is(await reasonTold(id), "woken, but not fetched by any device in time");
  near(await dueIn(id), 259_200_000);
  paging.drive(await passes(id, "due_at"));
  await hears(id, "FAILED WAIT");
  const device = { id: to.deviceId, subscriberId: to.subscriberId } as Device;
  assert.equal(
    (await inboxes(database, [{ device, limit: 10 }]))[0]!.pages.map((page) => [page.uniqueId, page.outcome]),
    [[id, "FAILED"]],
  );
  await receipt(paging, to, id, "DELIVERED");
  await receipt(paging, to, id, "ACKNOWLEDGED");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "FAILED", "DELIVERED", "ACKNOWLEDGED"]);
  assert.is(await dueIn(id), null);
});

test("a delivered alert without an answer is reminded of, then told FAILED at the user deadline; a late answer is told too", async () => {
  const { paging, hosted } = openNode();
  const to = await recipient();
  const id = await accept(paging, to);
  await hears(id, "ENROUTE");
  await receipt(paging, to, id, "DELIVERED");
  near(await dueIn(id), 60_000);
  paging.drive(await passes(id, "due_at"));
  await hears(id, "DELIVERED WAKE PUSH");
  assert.is(new Set(hosted.requests.map((request) => request.id)).size, 2);
  near(await dueIn(id), 60_000);
  paging.drive(await passes(id, "user_deadline"));
  await hears(id, "PUSH FAILED");
  assert.is(await reasonTold(id), "delivered, but not answered in time");
  assert.is(await dueIn(id), null);
  await receipt(paging, to, id, "ACKNOWLEDGED");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "FAILED", "ACKNOWLEDGED"]);
});

test("a page that expires unfetched is told FAILED with that reason and is not handed out any more", async () => {
  const { paging } = openNode();
  const to = await recipient();
  const id = await accept(paging, to);
  await hears(id, "ENROUTE");
  paging.drive(await passes(id, "expires_at"));
  await hears(id, "EXPIRED");
  assert.is(await reasonTold(id), "expired before any device fetched it");
  assert.is(await dueIn(id), null);
  assert.equal(
    (await inboxes(database, [{ device: { id: to.deviceId, subscriberId: to.subscriberId }, limit: 10 }]))[0]!.pages,
    [],
  );
});

test("a page that failed before it expires is told FAILED once, keeps its first outcome and is closed", async () => {
  const { paging } = openNode();
  const id = await accept(paging, await recipient());
  await hears(id, "ENROUTE");
  paging.drive(await passes(id, "device_deadline"));
  await hears(id, "FAILED");
  paging.drive(await passes(id, "expires_at"));
  await hears(id, "FAILED EXPIRED");
  assert.equal(await told(id), ["ACCEPTED", "QUEUED", "ENROUTE", "FAILED"]);
  const [row] = await sql`select outcome, outcome_reason, open from premise_core.messages where unique_id = ${id}`;
  assert.equal(
    { ...row },
    { outcome: "FAILED", outcome_reason: "woken, but not fetched by any device in time", open: false },
  );
});

test("a page without deadlines is delivered and nothing is due any more", async () => {
  const { paging } = openNode();
  const to = await recipient();
  const id = await accept(paging, to, { timeoutUserSeconds: null, timeoutDeviceSeconds: null });
  await hears(id, "ENROUTE");
  await receipt(paging, to, id, "DELIVERED");
  assert.is(await dueIn(id), null);
});

test.run();
