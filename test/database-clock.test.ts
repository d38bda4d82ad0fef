import { test } from "uvu";
import * as assert from "uvu/assert";
import { openDatabaseClock } from "../cluster/clock.ts";
import { silentLog } from "../log.ts";

const HOUR_MS = 3_600_000;

function machine(ahead: number) {
  const time = { monotonic: 1_000, ahead };
  const lines: string[] = [];
  const log = {
    ...silentLog,
    error: ({ aheadMs }: object & { aheadMs?: unknown }) => lines.push(`wrong ${aheadMs}`),
    info: () => lines.push("right"),
  };
  /** True time is the monotonic. */
  const clock = openDatabaseClock(
    { wall: () => time.monotonic + time.ahead, monotonic: () => time.monotonic },
    { log: log as never },
  );
  return { time, lines, clock };
}

test("until the database has spoken the machine's clock is all there is", () => {
  const { clock, time } = machine(HOUR_MS);
  assert.is(clock.wall(), time.monotonic + HOUR_MS);
});

test("from its first word on the time is the database's, and the machine's jumps change nothing", () => {
  const { clock, time, lines } = machine(HOUR_MS);
  clock.heard(1_000, 1_000);
  time.monotonic += 400;
  assert.is(clock.wall(), 1_400);
  time.ahead = -HOUR_MS;
  assert.is(clock.wall(), 1_400);
  clock.heard(1_400, 1_400);
  clock.heard(1_400, 1_400);
  time.ahead = 0;
  clock.heard(1_400, 1_400);
  assert.equal(lines, [`wrong ${HOUR_MS}`, "right"], "said at each change and not at each word");
});

test("a word that was long under way is not believed while there is a better one, and is when there is none", () => {
  const { clock, time } = machine(0);
  clock.heard(1_000, 1_000);
  time.monotonic = 7_000;
  clock.heard(1_200, 1_100); // answered at once, but the event loop stood still
  assert.is(clock.wall(), 7_000);
  time.monotonic = 12_000;
  clock.heard(11_000, 10_000);
  assert.is(clock.wall(), 12_000, "half of a second's way each way");
});

test.run();
