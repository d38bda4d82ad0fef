import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  CLAIM_MS,
  type Effect,
  type Message,
  messageBehaviour,
  type Row,
  type State,
  step,
} from "../actors/message.ts";
import { openPaging, type Paging } from "../actors/paging.ts";
import { startActorSystem } from "../cluster/actor-system.ts";
import { openBus } from "../cluster/bus.ts";
import type { Membership } from "../cluster/membership.ts";
import { openBranches } from "../cluster/shards.ts";
import type { DeviceId, NotificationId, Receipt, SubscriberId, UniqueId } from "../domain.ts";
import { shardOf, systemClock } from "../domain.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import type { PageToAccept, WakeTarget } from "../persistence/acceptance.ts";
import type { Device } from "../persistence/devices.ts";
import { waitingPages } from "../persistence/inbox.ts";
import { type Change, changeMessages, type DueMessage, dueMessages, type Written } from "../persistence/messages.ts";
import type { Notification } from "../persistence/notifications.ts";
import { eventually } from "./helpers/eventually.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

// The step, without a database.

const NOW = 1_000_000;
const target = (n: number): WakeTarget => ({
  deviceId: `device-${n}` as DeviceId,
  tenantId: "default" as WakeTarget["tenantId"],
  siteId: "site" as WakeTarget["siteId"],
  gatewayType: "GCM",
  notificationAddress: `address-${n}`,
});
const row: Row = {
  uniqueId: "page" as UniqueId,
  version: 5,
  status: "QUEUED",
  answer: null,
  outcome: null,
  wakeups: 1,
  priority: "high",
  subscriberId: "00" as SubscriberId,
  deviceDeadline: NOW + 1_000,
  userDeadline: null,
  expiresAt: NOW + 10_000,
  targets: [target(1), target(2)],
};
const written = (version: number): Message => ({ kind: "written", result: { version, news: null, ageSeconds: 1 } });
const handed = (n: number): Message => ({
  kind: "handed",
  deviceId: target(n).deviceId,
  notificationId: `n${n}` as NotificationId,
});
const notHanded = (n: number): Message => ({ kind: "not-handed", deviceId: target(n).deviceId, reason: `no ${n}` });
const drive: Message = { kind: "drive", claimed: false, now: NOW };
const asking = (...unanswered: number[]): State & { kind: "asking" } => ({
  kind: "asking",
  row,
  unanswered: new Set(unanswered.map((n) => target(n).deviceId)),
  handed: [],
  reasons: [],
});

/** An effect in one word, or for a write what it writes. */
const wordOf = (effect: Effect) => (effect.kind === "write" ? effect.change.event : effect.kind);

const states: Record<string, State> = {
  fresh: { kind: "fresh", row },
  claiming: { kind: "claiming", row },
  asking: asking(1),
  noting: { kind: "noting" },
  done: { kind: "done" },
};
const messages: Record<string, Message> = {
  drive,
  claimed: { ...drive, claimed: true },
  written: written(6),
  lost: { kind: "written", result: null },
  handed: handed(1),
  "not-handed": notHanded(1),
};
const moves: Record<string, Record<string, string>> = {
  fresh: { drive: "claiming WAKE", claimed: "asking ask" },
  claiming: { written: "asking ask", lost: "done end" },
  asking: { handed: "noting ENROUTE", "not-handed": "noting WAIT" },
  noting: { written: "done end", lost: "done end" },
  done: {},
};
for (const [from, state] of Object.entries(states)) {
  test(`${from}: every message does what is drawn, or nothing`, () => {
    for (const [name, message] of Object.entries(messages)) {
      const { state: next, effects } = step(state, message);
      const expected = moves[from]![name] ?? from;
      assert.is([next.kind, ...effects.map(wordOf)].join(" "), expected, `${from}, ${name}`);
      if (expected === from) assert.is(next, state);
    }
  });
}

const dues: [string, Partial<Row>, Partial<Change>][] = [
  ["a wake-up", {}, { event: "WAKE", wakes: true, tell: null, due: CLAIM_MS }],
  [
    "the device deadline",
    { deviceDeadline: NOW },
    { event: "FAILED", outcome: "FAILED", tell: "FAILED", due: "expiry" },
  ],
  [
    "the device deadline, told before",
    { deviceDeadline: NOW, outcome: "FAILED" },
    { event: "WAIT", outcome: null, tell: null, due: "expiry" },
  ],
  ["expiry", { expiresAt: NOW }, { event: "EXPIRED", outcome: "EXPIRED", tell: "FAILED", due: "never" }],
  ["expiry before the device deadline", { expiresAt: NOW, deviceDeadline: NOW }, { event: "EXPIRED", tell: "FAILED" }],
  ["expiry after FAILED", { expiresAt: NOW, outcome: "FAILED" }, { event: "EXPIRED", tell: null, due: "never" }],
  [
    "expiry after DELIVERED",
    { expiresAt: NOW, status: "DELIVERED" },
    { event: "EXPIRED", outcome: null, tell: null, due: "never" },
  ],
  [
    "a reminder",
    { status: "DELIVERED", userDeadline: NOW + 1 },
    { event: "WAKE", wakes: true, tell: null, due: CLAIM_MS },
  ],
  [
    "a reminder whatever the device deadline",
    { status: "READ", deviceDeadline: NOW, userDeadline: NOW + 1 },
    { event: "WAKE", outcome: null },
  ],
  [
    "the user deadline",
    { status: "DELIVERED", userDeadline: NOW },
    { event: "FAILED", outcome: "FAILED", tell: "FAILED", due: "never" },
  ],
  [
    "the user deadline after FAILED",
    { status: "READ", userDeadline: NOW, outcome: "FAILED" },
    { event: "FAILED", tell: null, due: "never" },
  ],
  [
    "an answered page",
    { status: "READ", answer: "IGNORED", userDeadline: NOW },
    { event: "WAIT", outcome: null, tell: null, due: "never" },
  ],
  ["a delivered page that asks for no answer", { status: "DELIVERED" }, { event: "WAIT", tell: null, due: "never" }],
];
for (const [name, more, expected] of dues) {
  test(`due: ${name}`, () => {
    const { state, effects } = step({ kind: "fresh", row: { ...row, ...more } }, drive);
    assert.is(effects.length, 1);
    const change = (effects[0] as Effect & { kind: "write" }).change;
    for (const [key, value] of Object.entries(expected)) assert.is(change[key as keyof Change], value, key);
    assert.equal([change.uniqueId, change.version, change.transport], [row.uniqueId, row.version, null]);
    assert.is(state.kind, expected.event === "WAKE" ? "claiming" : "noting");
  });
}

test("a page above QUEUED that is woken again is no ENROUTE, and one nobody could be asked for waits longer each time", () => {
  for (const status of ["ENROUTE", "DELIVERED", "READ"] as const) {
    const { effects } = step({ ...asking(1), row: { ...row, status } }, handed(1));
    assert.equal(effects.map(wordOf), ["PUSH"]);
    assert.is((effects[0] as Effect & { kind: "write" }).change.tell, null);
  }
  const pauses = [1, 2, 3, 4, 5, 100].map((wakeups) => {
    const { effects } = step({ kind: "fresh", row: { ...row, wakeups, targets: [] } }, { ...drive, claimed: true });
    const { change } = effects[0] as Effect & { kind: "write" };
    assert.equal([change.event, change.tell, change.wakes], ["WAIT", null, false]);
    return change.due;
  });
  assert.equal(pauses, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
});

test("whatever comes in whatever order: one claim, one ENROUTE, one write a version, and an end once all devices answered", () => {
  const any: fc.Arbitrary<Message> = fc.oneof(
    fc.constantFrom(...Object.values(messages)),
    fc.integer({ min: 1, max: 3 }).map(handed),
    fc.integer({ min: 1, max: 3 }).map(notHanded),
  );
  fc.assert(
    fc.property(fc.array(any, { maxLength: 30 }), fc.nat(3), (sent, devices) => {
      const targets = Array.from({ length: devices }, (_, n) => target(n + 1));
      let state: State = { kind: "fresh", row: { ...row, targets } };
      let version = row.version;
      const writes: Change[] = [];
      let ends = 0;
      const tell = (message: Message) => {
        const stepped = step(state, message);
        state = stepped.state;
        for (const effect of stepped.effects) {
          assert.is(ends, 0, "nothing happens after the end");
          if (effect.kind === "end") ends += 1;
          if (effect.kind !== "write") continue;
          assert.is(effect.change.version, version, "each write is made on the version the last one left");
          assert.not(writes.some((other) => other.version === effect.change.version));
          writes.push(effect.change);
          version += 1;
          tell(written(version));
        }
      };
      // Writes are answered inside the turn, so from outside come only the rest.
      for (const message of sent) if (message.kind !== "written") tell(message);
      assert.ok(writes.filter((change) => change.event === "WAKE").length <= 1);
      assert.ok(writes.filter((change) => change.event === "ENROUTE").length <= 1);
      if (state.kind === "fresh") return;
      for (const one of targets) tell({ kind: "not-handed", deviceId: one.deviceId, reason: "late" });
      assert.is(state.kind, "done");
      assert.is(ends, 1);
    }),
  );
});

// The behaviour, on the real database.

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
      bus: openBus(),
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
  await sql`update premise_core.messages set ${sql(column)} = clock_timestamp() - interval '1 ms', due_at = clock_timestamp() - interval '1 ms' where unique_id = ${id}`;
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
  near(await dueIn(id), 30_000);
});

test("a hosted side that cannot be reached leaves the page QUEUED, and is asked again after growing pauses", async () => {
  const { paging, hosted } = openNode();
  hosted.answer = () => Promise.reject(new Error("away"));
  const id = await accept(paging, await recipient());
  const pauses = [2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
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
  hosted.answer = () => new Promise((resolve) => void (release = resolve));
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
  stuck.hosted.answer = () => new Promise(() => {});
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
    (await waitingPages(database, device, 10)).map((page) => [page.uniqueId, page.outcome]),
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
  near(await dueIn(id), 30_000);
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
  assert.equal(await waitingPages(database, { id: to.deviceId, subscriberId: to.subscriberId } as Device, 10), []);
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
