import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Closer, closeInReverse } from "../lifecycle.ts";
import { type LogFields, silentLog } from "../log.ts";

const limits = { partMs: 300, partsMs: 750, allMs: 2_500 };

async function close(parts: Readonly<Record<string, Closer["close"]>>) {
  const order: string[] = [];
  const warned: LogFields[] = [];
  const closers = Object.entries(parts).map(([part, end]) => ({
    part,
    close: async () => {
      order.push(part);
      await end();
    },
  }));
  const began = performance.now();
  await closeInReverse(closers, { ...silentLog, warn: (fields) => void warned.push(fields) }, limits);
  return { order, warned, ms: performance.now() - began };
}

test("what was opened last is closed first, each when the one before has ended", async () => {
  let ended = 0;
  const { order, warned } = await close({
    stores: () => assert.is(ended, 2),
    actors: async () => {
      assert.is(ended, 1);
      await sleep(10);
      ended += 1;
    },
    listeners: async () => {
      await sleep(10);
      ended += 1;
    },
  });
  assert.equal(order, ["listeners", "actors", "stores"]);
  assert.equal(warned, []);
});

test("a part that fails, at once or later, keeps none of the others and is told by its name", async () => {
  const { order, warned } = await close({
    stores: () => {},
    actors: () => {
      throw new Error("a text nobody should read");
    },
    listeners: () => Promise.reject(new Error("nor this")),
  });
  assert.equal(order, ["listeners", "actors", "stores"]);
  assert.equal(
    warned.map(({ part, fault }) => [part, fault]),
    [
      ["listeners", "Error"],
      ["actors", "Error"],
    ],
  );
  assert.not.match(JSON.stringify(warned), "nobody should read");
});

test("parts that hang are left behind within their time, all are asked to close, and the last has what is left", async () => {
  const hangs = () => new Promise<void>(() => {});
  let storesEnded = false;
  const { order, warned, ms } = await close({
    stores: async () => {
      await sleep(600);
      storesEnded = true;
    },
    a: hangs,
    b: hangs,
    c: hangs,
    d: hangs,
    e: hangs,
  });
  assert.equal(order, ["e", "d", "c", "b", "a", "stores"]);
  assert.equal(
    warned.map(({ part }) => part),
    ["e", "d", "c", "b", "a"],
  );
  assert.is(storesEnded, true);
  assert.ok(ms < limits.allMs, `${ms} ms`);
});

test.run();
