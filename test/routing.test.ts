import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type ActorSystem, type Behaviour, startActorSystem } from "../cluster/actor-system.ts";
import { type Leaves, type LeavesSlice, openLeaves } from "../cluster/routing.ts";
import { openBranches } from "../cluster/shards.ts";
import type { Shard } from "../domain.ts";
import { type Log, type LogFields, silentLog } from "../log.ts";
import { type Meter, silentMeter } from "../meter.ts";
import { eventually } from "./helpers/eventually.ts";

type Place = {
  readonly leaves: Leaves<string>;
  readonly system: ActorSystem;
  /** Time as the leaves see it, ms. */
  readonly clock: { now: number };
  readonly failures: () => number;
  readonly warnings: (LogFields & { event: string })[];
};

const systems: ActorSystem[] = [];
test.after.each(() => {
  for (const system of systems.splice(0)) system.close();
});

function open(more: Partial<LeavesSlice> = {}): Place {
  const system = startActorSystem("test");
  systems.push(system);
  const clock = { now: 0 };
  let failures = 0;
  const meter: Meter = {
    ...silentMeter,
    count(metric, labels) {
      assert.equal([metric, labels], ["actor_failures", { actor: "message" }]);
      failures += 1;
    },
  };
  const warnings: Place["warnings"] = [];
  const log: Log = { ...silentLog, warn: (fields, event) => warnings.push({ ...fields, event }) };
  const leaves = openLeaves<string>(
    { kind: "message", residentMax: 100, mailboxMax: 10, turnMs: 1_000, lifeMs: 30_000, ...more },
    { system, branch: openBranches(system, "test"), log, meter, clock: { wall: () => 0, monotonic: () => clock.now } },
  );
  return { leaves, system, clock, failures: () => failures, warnings };
}

const shard = 3 as Shard;
const quiet = (): Behaviour<string> => () => {};
const failing = (): Behaviour<string> => () => {
  throw new Error("Bed 12: potassium 6.8");
};

async function fail(place: Place, id: string): Promise<void> {
  const before = place.failures();
  assert.is(place.leaves.start(id, shard, failing)?.tell("go"), "queued");
  await eventually("it has failed", () => place.failures() === before + 1);
}

test("a leaf is started once, found by its id, and takes messages until it is ended", async () => {
  const { leaves, system } = open();
  const seen: string[] = [];
  const address = leaves.start("a", shard, () => (message) => void seen.push(message))!;
  assert.is(leaves.get("a"), address);
  assert.is(leaves.start("a", shard, quiet), null);
  assert.is(leaves.room(), 99);
  address.tell("one");
  await eventually("it is taken", () => seen.length === 1);
  leaves.end("a", address);
  assert.is(address.tell("two"), "gone");
  assert.is(leaves.get("a"), undefined);
  assert.equal([leaves.room(), system.actors()], [100, 0]);
  const next = leaves.start("a", 200 as Shard, quiet);
  assert.ok(next, "and may come back at once");
  leaves.end("a", address);
  assert.is(leaves.get("a"), next, "the one before it does not end it");
});

test("a behaviour knows its own address", async () => {
  const { leaves } = open();
  const seen: string[] = [];
  const address = leaves.start("a", shard, (self) => (message) => {
    seen.push(message);
    if (message === "first") self().tell("from itself");
  })!;
  address.tell("first");
  await eventually("it has told itself", () => seen.includes("from itself"));
});

test("there is no room beyond the limit, and a leaf that ends makes some", () => {
  const { leaves } = open({ residentMax: 3 });
  for (const id of ["a", "b", "c"]) assert.ok(leaves.start(id, shard, quiet));
  assert.is(leaves.room(), 0);
  assert.is(leaves.start("d", shard, quiet), null);
  leaves.end("b", leaves.get("b")!);
  assert.ok(leaves.start("d", shard, quiet));
});

test("a leaf that fails is gone, counted, and rests longer each time it fails again", async () => {
  const place = open();
  const { leaves, clock, system } = place;
  for (const rest of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    await fail(place, "a");
    assert.is(leaves.get("a"), undefined);
    assert.is(leaves.room(), 100);
    clock.now += rest - 1;
    assert.is(leaves.start("a", shard, quiet), null, `before ${rest} ms`);
    clock.now += 1;
  }
  assert.is(system.actors(), 0);
  assert.equal(
    place.warnings.map((one) => one.event),
    [...Array.from({ length: 5 }, () => "actor failed"), ...Array.from({ length: 2 }, () => "actor keeps failing")],
  );
});

test("what a failing leaf threw is logged without its words", async () => {
  const place = open();
  await fail(place, "a");
  assert.not.match(JSON.stringify(place.warnings), "potassium");
});

test("one id's failures are no other's, and a leaf that ends well is forgiven", async () => {
  const place = open();
  await fail(place, "a");
  assert.ok(place.leaves.start("b", shard, quiet), "another starts at once");
  place.clock.now += 1_000;
  assert.ok(place.leaves.start("a", shard, quiet));
  place.leaves.end("a", place.leaves.get("a")!);
  await fail(place, "a");
  place.clock.now += 1_000;
  assert.ok(place.leaves.start("a", shard, quiet), "its pause is the first again");
});

test("a turn over its deadline is a failure like any other", async () => {
  const place = open({ turnMs: 30 });
  place.leaves.start("a", shard, () => () => new Promise(() => {}))!.tell("go");
  await eventually("it has failed", () => place.failures() === 1);
  assert.is(place.leaves.start("a", shard, quiet), null);
});

test("failures of very many ids are remembered only up to a limit", async () => {
  const place = open({ residentMax: 20_000 });
  await fail(place, "first");
  for (let n = 0; n < 10_000; n += 1) place.leaves.start(`id-${n}`, shard, failing)?.tell("go");
  await eventually("all have failed", () => place.failures() === 10_001, 10_000);
  assert.is(place.leaves.start("id-9999", shard, quiet), null, "the last is resting");
  assert.ok(place.leaves.start("first", shard, quiet), "the first rest made way");
});

test("leaves that stay too long are ended, the others stay", async () => {
  const { leaves, clock, system } = open({ lifeMs: 1_000 });
  const old = [leaves.start("a", shard, quiet)!, leaves.start("b", shard, quiet)!];
  clock.now = 600;
  const young = leaves.start("c", shard, quiet)!;
  clock.now = 999;
  assert.is(leaves.reap(), 0);
  clock.now = 1_000;
  assert.is(leaves.reap(), 2);
  assert.equal(
    old.map((address) => address.tell("late")),
    ["gone", "gone"],
  );
  assert.is(young.tell("in time"), "queued");
  assert.is(system.actors(), 1);
  assert.ok(leaves.start("a", shard, quiet), "a reaped one may come back at once: its row is due");
  clock.now = 1_600;
  assert.is(leaves.reap(), 1);
  assert.is(leaves.reap(), 0);
});

test("a leaf that was reaped in the middle of a turn that fails does not make its successor rest", async () => {
  const place = open({ lifeMs: 1_000 });
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  place.leaves
    .start("a", shard, () => async () => {
      await held;
      throw new Error("late");
    })!
    .tell("go");
  await sleep(10);
  place.clock.now = 1_000;
  place.leaves.reap();
  const successor = place.leaves.start("a", shard, quiet)!;
  release();
  await sleep(20);
  assert.is(place.failures(), 0);
  assert.is(place.leaves.get("a"), successor);
});

test("whatever is started, ended, reaped and fails: room, residents and actors agree", async () => {
  const commands = fc.array(
    fc.record({
      what: fc.constantFrom("start", "end", "tell", "fail", "reap", "wait"),
      id: fc.nat(7),
      ms: fc.nat(900),
    }),
    { maxLength: 60 },
  );
  await fc.assert(
    fc.asyncProperty(commands, async (all) => {
      const place = open({ residentMax: 5, lifeMs: 2_000 });
      const { leaves, system, clock } = place;
      for (const { what, id, ms } of all) {
        const name = `id-${id}`;
        if (what === "start") leaves.start(name, (id * 30) as Shard, quiet);
        const address = leaves.get(name);
        if (what === "end" && address !== undefined) leaves.end(name, address);
        if (what === "tell") leaves.get(name)?.tell("hello");
        if (what === "reap") leaves.reap();
        if (what === "wait") clock.now += ms;
        if (what === "fail") {
          const before = place.failures();
          const address = leaves.start(name, (id * 30) as Shard, failing);
          address?.tell("go");
          if (address !== null) await eventually("it has failed", () => place.failures() > before);
        }
        const residents = [...Array(8).keys()].filter((n) => leaves.get(`id-${n}`) !== undefined).length;
        assert.is(leaves.room(), 5 - residents);
        assert.is(system.actors(), residents);
      }
      system.close();
    }),
    { numRuns: 40 },
  );
});

test.run();
