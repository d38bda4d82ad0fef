import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type FailureRecord, judge, type Loop, type RestartPolicy, superviseLoop } from "../cluster/supervision.ts";
import { type Clock, systemClock } from "../domain.ts";
import { type Log, silentLog } from "../log.ts";
import { eventually } from "./helpers/eventually.ts";

const policy: RestartPolicy = { failuresMax: 3, windowMs: 1_000, pauseMinMs: 10, pauseMaxMs: 50 };

function judgeAll(times: readonly number[]): { pauses: number[]; spent: boolean[] } {
  let record: FailureRecord = [];
  const pauses: number[] = [];
  const spent: boolean[] = [];
  for (const at of times) {
    const verdict = judge(record, at, policy);
    record = verdict.record;
    pauses.push(verdict.pauseMs);
    spent.push(verdict.spent);
  }
  return { pauses, spent };
}

const table: [string, number[], number[], boolean[]][] = [
  ["a first failure", [0], [10], [false]],
  ["as many as the budget holds", [0, 1, 2], [10, 20, 40], [false, false, false]],
  ["one more than the budget", [0, 1, 2, 3], [10, 20, 40, 50], [false, false, false, true]],
  [
    "many more stay at the longest pause",
    [0, 1, 2, 3, 4, 5],
    [10, 20, 40, 50, 50, 50],
    [false, false, false, true, true, true],
  ],
  ["failures further apart than the window", [0, 1_000, 2_000, 3_000], [10, 10, 10, 10], [false, false, false, false]],
  [
    "the oldest leaves the window",
    [0, 400, 800, 1_000, 1_399],
    [10, 20, 40, 40, 50],
    [false, false, false, false, true],
  ],
  ["quiet mends it", [0, 1, 2, 3, 2_000], [10, 20, 40, 50, 10], [false, false, false, true, false]],
];
for (const [name, times, pauses, spent] of table) {
  test(`budget: ${name}`, () => assert.equal(judgeAll(times), { pauses, spent }));
}

test("however often something fails, its record and pause stay within their limits", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(500), { maxLength: 60 }), (gaps) => {
      let record: FailureRecord = [];
      let now = 0;
      for (const gap of gaps) {
        now += gap;
        const verdict = judge(record, now, policy);
        record = verdict.record;
        assert.ok(record.length <= policy.failuresMax + 1);
        assert.ok(verdict.pauseMs >= policy.pauseMinMs && verdict.pauseMs <= policy.pauseMaxMs);
        assert.is(verdict.spent, record.length > policy.failuresMax);
        assert.ok(record.every((at) => at > now - policy.windowMs));
      }
    }),
  );
});

const loops: Loop[] = [];
function openLoop(
  pauseMs: () => number,
  round: () => Promise<void>,
  log: Log = silentLog,
  clock: Clock = systemClock,
): Loop {
  const loop = superviseLoop("test", pauseMs, round, { log, clock });
  loops.push(loop);
  return loop;
}
test.after.each(async () => {
  await Promise.all(loops.splice(0).map((loop) => loop.close()));
});

test("a loop runs at once, again after its pause, and never two rounds at a time", async () => {
  let rounds = 0;
  let running = 0;
  const loop = openLoop(
    () => 5,
    async () => {
      running += 1;
      assert.is(running, 1);
      rounds += 1;
      await sleep(2);
      running -= 1;
    },
  );
  assert.is(rounds, 1);
  for (let n = 0; n < 20; n += 1) loop.wake();
  await eventually("it has run again", () => rounds >= 5);
  await loop.close();
  const closedAt = rounds;
  await sleep(30);
  assert.is(rounds, closedAt);
});

test("a wake ends the pause, and one that comes in a round is kept for the end of it", async () => {
  let rounds = 0;
  let release = () => {};
  const loop = openLoop(
    () => 3_600_000,
    () => {
      rounds += 1;
      return new Promise((resolve) => {
        release = resolve;
      });
    },
  );
  loop.wake();
  loop.wake();
  release();
  await eventually("the kept wake starts a round", () => rounds === 2);
  release();
  await sleep(20);
  assert.is(rounds, 2, "two wakes in one round are one");
  loop.wake();
  await eventually("a wake in the pause starts a round", () => rounds === 3);
  release();
});

test("a failing loop rests longer each time, is told to the log once as lasting, and recovers", async () => {
  let failing = true;
  let rounds = 0;
  const begun: number[] = [];
  const errors: string[] = [];
  const log: Log = { ...silentLog, error: (_fields, event) => errors.push(event) };
  // Time as the budget sees it stands still, so that the window never passes.
  const loop = openLoop(
    () => 5,
    async () => {
      rounds += 1;
      begun.push(performance.now());
      if (failing) throw new Error("the round failed");
    },
    log,
    { wall: () => 0, monotonic: () => 1_234 },
  );
  await eventually("it is tried again and again", () => rounds === 5);
  const rest = begun.slice(1).map((at, index) => at - begun[index]!);
  assert.ok(rest[0]! >= 95 && rest[1]! >= 195 && rest[2]! >= 395 && rest[3]! >= 795, rest.join(" "));
  assert.is(loop.failingSince(), null, "inside the budget");
  loop.wake();
  await eventually("a wake ends even this rest", () => rounds === 6);
  await eventually("the budget is spent", () => loop.failingSince() !== null);
  assert.is(loop.failingSince(), 1_234);
  loop.wake();
  await eventually("it is tried again", () => rounds === 7);
  await sleep(20);
  assert.equal(errors, ["loop keeps failing"]);
  failing = false;
  loop.wake();
  await eventually("it has recovered", () => loop.failingSince() === null);
  const before = rounds;
  await eventually("it is back at its own pace", () => rounds >= before + 3);
});

test("a failure that is over is forgotten: the next rest is short again", async () => {
  let rounds = 0;
  const times: number[] = [];
  openLoop(
    () => 1,
    async () => {
      rounds += 1;
      times.push(performance.now());
      if (rounds % 2 === 0) throw new Error("every other round");
    },
  );
  await eventually("several failures have come and gone", () => rounds >= 12, 10_000);
  const rests = times.slice(1).map((at, index) => at - times[index]!);
  assert.ok(Math.max(...rests) < 400, `the rests did not grow: ${rests.map(Math.round).join(" ")}`);
});

test("closing waits for the round under way, and ends a rest at once", async () => {
  let ended = false;
  const busy = openLoop(
    () => 1,
    async () => {
      await sleep(100);
      ended = true;
    },
  );
  await busy.close();
  assert.is(ended, true);
  const idle = openLoop(
    () => 3_600_000,
    async () => {},
  );
  await sleep(5);
  await eventually("close returns", () => idle.close().then(() => true));
  const failing = openLoop(
    () => 1,
    async () => {
      throw new Error("the round failed");
    },
  );
  await sleep(5);
  await eventually("close returns from the rest of a failure", () => failing.close().then(() => true));
});

test("a pause that cannot be told is a failure of the loop, not of the process", async () => {
  let asked = 0;
  openLoop(
    () => {
      asked += 1;
      if (asked < 3) throw new Error("no pause");
      return 1;
    },
    async () => {},
  );
  await eventually("the loop goes on", () => asked >= 5);
});

test("a round that is asked for begins after the asking, and its asker hears how it ended", async () => {
  let begun = 0;
  let fails = false;
  const loop = openLoop(
    () => 60_000,
    async () => {
      begun += 1;
      await sleep(20);
      if (fails) throw new Error("as told");
    },
  );
  await loop.run();
  assert.is(begun, 2, "the one under way had begun before");
  fails = true;
  const [first, second] = [loop.run(), loop.run()];
  const faults = await Promise.all([first, second].map((asked) => asked.catch((error: Error) => error.message)));
  assert.equal(faults, ["as told", "as told"]);
  assert.is(begun, 3, "one round serves all who ask before it");
  fails = false;
  await loop.run();
  assert.is(begun, 4, "though the failure before asked for a pause");
});

test("who asks a loop that closes for a round is told that there is none", async () => {
  const loop = openLoop(
    () => 60_000,
    () => sleep(20),
  );
  const waits = loop.run().catch((error: Error) => error.name);
  const closing = loop.close();
  assert.is(await loop.run().catch((error: Error) => error.name), "LoopClosed");
  await closing;
  assert.is(await waits, "LoopClosed");
});

test.run();
