import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Membership } from "../cluster/membership.ts";
import { openSweep, type Sweep } from "../cluster/shards.ts";
import { type Shard, type SubscriberId, shardOf, systemClock, type UniqueId } from "../domain.ts";
import { silentLog } from "../log.ts";
import { acceptPages, type PageToAccept } from "../persistence/acceptance.ts";
import { type Database, DatabaseDown } from "../persistence/database.ts";
import { changeMessages, type DueMessage } from "../persistence/messages.ts";
import { eventually } from "./helpers/eventually.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const lab = await ward.host("lab");
const sweeps: Sweep[] = [];
test.after.each(async () => {
  await Promise.all(sweeps.splice(0).map((sweep) => sweep.close()));
  await sql`update premise_core.messages set due_at = null, open = false`;
});
test.after(() => ward.close());

let numbers = 0;
async function recipient(): Promise<{ destination: string; subscriber: SubscriberId }> {
  numbers += 1;
  const destination = `555${numbers}`;
  const subscriber = await ward.subscriber(destination);
  await ward.device(subscriber);
  return { destination, subscriber };
}

/** Accepts pages and makes them due. */
async function due(destination: string, count: number, more: Partial<PageToAccept> = {}): Promise<UniqueId[]> {
  const pages = Array.from({ length: count }, () => pageFor(ward, lab, destination, more));
  await acceptPages(database, "node-a", pages);
  const ids = pages.map((page) => page.uniqueId);
  await sql`update premise_core.messages set due_at = now() - interval '1 second' where unique_id = any (${ids}::uuid[])`;
  return ids;
}

type Place = {
  readonly sweep: Sweep;
  readonly driven: DueMessage[];
  shards: readonly Shard[];
  room: number;
  reaped: number;
  down: boolean;
  readonly gain: () => void;
};

function open(
  intervalMs: number,
  shards: readonly Shard[],
  drive: (message: DueMessage) => boolean | undefined = () => undefined,
  room = 1_000,
): Place {
  const listeners: (() => void)[] = [];
  const membership = {
    shards: () => place.shards,
    onGain: (listener: () => void) => void listeners.push(listener),
    onRelease: () => {},
  } as unknown as Membership;
  const flaky: Database = {
    ...database,
    run: (build, deadlineMs) =>
      place.down ? Promise.reject(new DatabaseDown(false)) : database.run(build, deadlineMs),
  };
  const place = {
    driven: [] as DueMessage[],
    shards,
    room,
    reaped: 0,
    down: false,
    gain: () => {
      for (const listener of listeners) listener();
    },
  };
  const sweep = openSweep(
    { intervalMs },
    {
      database: flaky,
      membership,
      log: silentLog,
      clock: systemClock,
      room: () => place.room,
      reap: () => {
        place.reaped += 1;
      },
      drive: (message) => {
        place.driven.push(message);
        return drive(message) !== false;
      },
    },
  );
  sweeps.push(sweep);
  return Object.assign(place, { sweep });
}

const idsOf = (driven: readonly DueMessage[]) => driven.map((message) => message.uniqueId);
/** As an actor does that has taken the message: it is due again much later. */
const claim = (message: DueMessage) =>
  void changeMessages(database, "node-a", [
    {
      uniqueId: message.uniqueId,
      version: message.version,
      event: "WAIT",
      detail: null,
      transport: null,
      outcome: null,
      tell: null,
      wakes: false,
      due: 60_000,
    },
  ]);

test("what is due in this node's shards is driven, what is due elsewhere or later is not", async () => {
  const [mine, other] = [await recipient(), await recipient()];
  const ids = await due(mine.destination, 3);
  await due(other.destination, 2);
  const later = await due(mine.destination, 1);
  await sql`update premise_core.messages set due_at = now() + interval '1 hour' where unique_id = any (${later}::uuid[])`;
  const place = open(20, [shardOf(mine.subscriber)]);
  await eventually("it has looked twice", () => place.driven.length >= 6);
  assert.equal([...new Set(idsOf(place.driven))].sort(), [...ids].sort());
});

test("the most urgent come first, then the longest due", async () => {
  const { destination, subscriber } = await recipient();
  const low = await due(destination, 1, { priority: "low" });
  const medium = await due(destination, 1, { priority: "medium" });
  const [older, newer] = [await due(destination, 1), await due(destination, 1)];
  await sql`update premise_core.messages set due_at = now() - interval '1 hour' where unique_id = any (${[...older, ...low]}::uuid[])`;
  const place = open(60_000, [shardOf(subscriber)]);
  await eventually("it has looked", () => place.driven.length === 4);
  assert.equal(idsOf(place.driven), [...older, ...newer, ...medium, ...low]);
});

test("how late a page is taken is known; one that rests after a failure is no work that is behind, however long it has been due", async () => {
  const { destination, subscriber } = await recipient();
  const ids = await due(destination, 1);
  await sql`update premise_core.messages set due_at = now() - interval '1 hour' where unique_id = any (${ids}::uuid[])`;
  let rests = true;
  const place = open(60_000, [shardOf(subscriber)], () => !rests);
  await eventually("it has looked", () => place.driven.length === 1);
  assert.is(place.sweep.lateMs(), 0);
  rests = false;
  await place.sweep.run();
  assert.ok(place.sweep.lateMs() >= 3_600_000 && place.sweep.lateMs() < 3_700_000, `${place.sweep.lateMs()}`);
});

test("a node without shards looks for nothing, and looks at once when it gains some", async () => {
  const { destination, subscriber } = await recipient();
  const ids = await due(destination, 1);
  const place = open(60_000, []);
  await sleep(50);
  assert.is(place.driven.length, 0);
  place.shards = [shardOf(subscriber)];
  place.gain();
  await eventually("the page is driven", () => place.driven.length === 1);
  assert.equal(idsOf(place.driven), ids);
});

test("no more are taken than there is room for, and more is waiting is not left to the next interval", async () => {
  const { destination, subscriber } = await recipient();
  const ids = await due(destination, 25);
  const place = open(60_000, [shardOf(subscriber)], claim, 10);
  await eventually("all are driven, a few at a time", () => new Set(idsOf(place.driven)).size === ids.length);
  place.room = 0;
  const before = place.driven.length;
  await due(destination, 1);
  place.sweep.wake();
  await sleep(100);
  assert.is(place.driven.length, before);
});

test("a takeover of very many comes in portions", async () => {
  const { destination, subscriber } = await recipient();
  const ids = (await Promise.all([1, 2, 3, 4].map(() => due(destination, 300)))).flat();
  const portions: number[] = [];
  let portion = 0;
  const place = open(
    60_000,
    [shardOf(subscriber)],
    (message) => {
      if (portion === 0) {
        setImmediate(() => {
          portions.push(portion);
          portion = 0;
        });
      }
      portion += 1;
      claim(message);
    },
    20_000,
  );
  await eventually("all are driven", () => new Set(idsOf(place.driven)).size === ids.length, 20_000);
  assert.ok(Math.max(...portions) <= 500);
});

test("leaves that wait too long are ended each round, also while nothing can be looked up", async () => {
  const place = open(10, []);
  place.down = true;
  place.shards = [1 as Shard];
  await eventually("it has reaped", () => place.reaped >= 3);
});

test("a database that is away is a failure the sweep recovers from", async () => {
  const { destination, subscriber } = await recipient();
  const [id] = await due(destination, 1);
  const place = open(20, [shardOf(subscriber)], claim);
  place.down = true;
  await sleep(300);
  const driven = place.driven.length;
  assert.ok(driven <= 1);
  await sql`update premise_core.messages set due_at = now() - interval '1 second' where unique_id = ${id!}`;
  place.down = false;
  await eventually("the page is driven", () => place.driven.length > driven);
});

test("rows that nobody can drive now keep none behind them waiting", async () => {
  const { destination, subscriber } = await recipient();
  const stuck = await due(destination, 600, { priority: "high" });
  const [behind] = await due(destination, 1, { priority: "low" });
  const place = open(200, [shardOf(subscriber)], () => false);
  await eventually("the last of them all is driven", () => place.driven.some((message) => message.uniqueId === behind));
  await eventually(
    "the first come round again",
    () => place.driven.filter((message) => message.uniqueId === stuck[0]).length > 1,
  );
  assert.is(place.sweep.failingSince(), null);
});

test("what nobody takes is found again and again", async () => {
  const { destination, subscriber } = await recipient();
  const [id] = await due(destination, 1);
  const place = open(10, [shardOf(subscriber)]);
  await eventually("it has come several times", () => place.driven.length >= 5);
  assert.equal([...new Set(idsOf(place.driven))], [id]);
  assert.is(place.driven[0]!.targets.length, 1);
});

test.run();
