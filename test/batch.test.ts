import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BatchFull, makeBatch } from "../persistence/batch.ts";
import { BadData, Conflict, DatabaseDown } from "../persistence/database.ts";
import { type Entry, entry, heldBatch, keysOf } from "./helpers/held-batch.ts";

/** How each promise ended, in the order given. */
async function endings(promises: readonly Promise<string>[]): Promise<string[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((one) => (one.status === "fulfilled" ? one.value : (one.reason as Error).name));
}

test("entries that come while a batch is in flight go together in the next", async () => {
  const { batch, calls } = heldBatch();
  const first = batch.submit(entry("a"));
  await turn();
  const rest = ["d", "b", "c"].map((key) => batch.submit(entry(key)));
  await turn();
  assert.equal(calls.map(keysOf), [["a"]]);
  assert.is(batch.depth(), 4);
  calls[0]!.answer();
  await first;
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["b", "c", "d"]], "together, and sorted by key");
  calls[1]!.answer();
  await Promise.all(rest);
  await turn();
  assert.is(batch.depth(), 0);
});

test("entries of one turn share a statement, and an idle batch does not wait for more", async () => {
  const { batch, calls } = heldBatch();
  void batch.submit(entry("b"));
  void batch.submit(entry("a"));
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(calls.map(keysOf), [["a", "b"]]);
});

test("two entries of one key are never in one statement, and keep their order", async () => {
  const { batch, calls } = heldBatch();
  const entries = [entry("a"), entry("b"), entry("a"), entry("a")];
  const promises = entries.map((one) => batch.submit(one));
  for (let round = 0; round < 3; round += 1) {
    await turn();
    calls[round]!.answer();
  }
  assert.equal(
    await endings(promises),
    entries.map((one) => `done ${one.id}`),
  );
  const wrote = calls.map((call) => call.entries.map((one) => entries.indexOf(one)));
  assert.equal(wrote, [[0, 1], [2], [3]]);
});

test("a batch holds no more than its limit, and what is left goes with the next", async () => {
  const { batch, calls } = heldBatch({ entriesMax: 2 });
  const promises = ["a", "b", "c", "d", "e"].map((key) => batch.submit(entry(key)));
  for (let round = 0; round < 3; round += 1) {
    await turn();
    calls[round]!.answer();
  }
  await Promise.all(promises);
  assert.equal(calls.map(keysOf), [["a", "b"], ["c", "d"], ["e"]]);
});

test("an urgent entry does not wait behind the rest", async () => {
  const { batch, calls } = heldBatch();
  const slow = batch.submit(entry("a"));
  await turn();
  const waiting = batch.submit(entry("b"));
  const urgent = batch.submit(entry("c", { urgent: true }));
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["c"]], "while the first is still in flight");
  calls[1]!.answer();
  await urgent;
  calls[0]!.answer();
  await slow;
  await turn();
  calls[2]!.answer();
  await waiting;
});

test("a full lane refuses at once with BatchFull, and the urgent one has room of its own", async () => {
  const { batch, calls } = heldBatch({ waitingMax: 3 });
  const flying = batch.submit(entry("a"));
  await turn();
  const waiting = ["b", "c", "d"].map((key) => batch.submit(entry(key)));
  const refused = batch.submit(entry("e"));
  assert.equal(await endings([refused]), ["BatchFull"]);
  await refused.catch((error) => assert.instance(error, BatchFull));
  const urgent = batch.submit(entry("f", { urgent: true }));
  await turn();
  for (const call of calls) call.answer();
  await turn();
  calls[2]!.answer();
  assert.is(
    (await endings([flying, ...waiting, urgent])).every((end) => end.startsWith("done ")),
    true,
  );
  const again = batch.submit(entry("g"));
  await turn();
  calls[3]!.answer();
  assert.ok((await again).startsWith("done "), "and there is room again");
});

test("a batch refused for bad data is split until the poison fails alone", async () => {
  for (const poisons of [[0], [6], [12], [0, 12], [3, 4, 5], [...Array(13).keys()]]) {
    const entries = Array.from({ length: 13 }, (_, n) =>
      entry(String(n).padStart(2, "0"), { poison: poisons.includes(n) }),
    );
    const stored: number[] = [];
    const batch = makeBatch<Entry, string>({
      entriesMax: 100,
      waitingMax: 100,
      key: (one) => one.key,
      urgent: () => false,
      async write(written) {
        await turn();
        if (written.some((one) => one.poison)) throw new BadData("22021", null);
        stored.push(...written.map((one) => one.id));
        return written.map((one) => `done ${one.id}`);
      },
    });
    const ends = await endings(entries.map((one) => batch.submit(one)));
    assert.equal(
      ends,
      entries.map((one) => (one.poison ? "BadData" : `done ${one.id}`)),
    );
    assert.equal(
      stored,
      entries.filter((one) => !one.poison).map((one) => one.id),
      "each is stored once",
    );
  }
});

test("a conflict is tried again, and given up after a few", async () => {
  const { batch, calls } = heldBatch();
  const mended = batch.submit(entry("a"));
  await turn();
  calls[0]!.fail(new Conflict("40P01"));
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["a"]]);
  calls[1]!.answer();
  assert.ok((await mended).startsWith("done "));

  const lasting = endings([batch.submit(entry("b"))]);
  for (let tries = 2; calls.length < 20; tries += 1) {
    await turn();
    if (calls[tries] === undefined) break;
    calls[tries]!.fail(new Conflict("40P01"));
  }
  assert.equal(await lasting, ["Conflict"]);
  assert.ok(calls.length < 20, "the tries have a limit");
});

test("a write that answers too short or too long rejects all, and the next batch is not shifted by it", async () => {
  for (const surplus of [-1, 1]) {
    const { batch, calls } = heldBatch();
    const promises = ["a", "b", "c"].map((key) => batch.submit(entry(key)));
    await turn();
    calls[0]!.answerWith(Array.from({ length: 3 + surplus }, () => "another's"));
    assert.equal(await endings(promises), ["Error", "Error", "Error"]);
    const next = batch.submit(entry("d"));
    await turn();
    calls[1]!.answer();
    assert.ok((await next).startsWith("done "));
  }
});

test("a database that went away rejects the batch with what it said, without a second try", async () => {
  const { batch, calls } = heldBatch();
  const promises = ["a", "b"].map((key) => batch.submit(entry(key)));
  await turn();
  calls[0]!.fail(new DatabaseDown(true));
  assert.equal(await endings(promises), ["DatabaseDown", "DatabaseDown"]);
  await turn();
  assert.is(calls.length, 1);
});

test("a write that throws before it promises anything rejects, and the batch goes on", async () => {
  let throws = true;
  const batch = makeBatch<Entry, string>({
    entriesMax: 10,
    waitingMax: 10,
    key: (one) => one.key,
    urgent: () => false,
    write(entries) {
      if (throws) throw new TypeError("at once");
      return Promise.resolve(entries.map((one) => `done ${one.id}`));
    },
  });
  assert.equal(await endings([batch.submit(entry("a"))]), ["TypeError"]);
  throws = false;
  assert.ok((await batch.submit(entry("a"))).startsWith("done "));
  await turn();
  assert.is(batch.depth(), 0);
});

type Fault = "none" | "conflict" | "down" | "short";
type Plan = {
  entries: { key: number; urgent: boolean; poison: boolean; pause: number }[];
  faults: Fault[];
  entriesMax: number;
};

const plans: fc.Arbitrary<Plan> = fc.record({
  entries: fc.array(
    fc.record({
      key: fc.integer({ min: 0, max: 6 }),
      urgent: fc.boolean(),
      poison: fc.oneof({ weight: 6, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      pause: fc.integer({ min: 0, max: 2 }),
    }),
    { maxLength: 40 },
  ),
  faults: fc.array(fc.constantFrom<Fault>("none", "none", "none", "conflict", "down", "short"), { maxLength: 20 }),
  entriesMax: fc.integer({ min: 1, max: 8 }),
});

test("whatever fails, every entry is answered with its own answer or with the failure that met it", async () => {
  await fc.assert(
    fc.asyncProperty(plans, async ({ entries: planned, faults, entriesMax }) => {
      const flying = { urgent: 0, normal: 0 };
      const stored: number[] = [];
      const met = new Map<number, Set<string>>();
      let calls = 0;
      const batch = makeBatch<Entry, string>({
        entriesMax,
        waitingMax: 25,
        key: (one) => one.key,
        urgent: (one) => one.urgent,
        async write(entries) {
          const lane = entries[0]!.urgent ? "urgent" : "normal";
          const keys = entries.map((one) => one.key);
          assert.ok(entries.length > 0 && entries.length <= entriesMax);
          assert.equal(keys, [...new Set(keys)].sort(), "one entry a key, sorted");
          assert.ok(entries.every((one) => one.urgent === entries[0]!.urgent));
          flying[lane] += 1;
          assert.is(flying[lane], 1, "one batch a lane at a time");
          const fault = faults[calls++] ?? "none";
          await turn();
          flying[lane] -= 1;
          const meets = (name: string) => {
            for (const one of entries) met.set(one.id, (met.get(one.id) ?? new Set()).add(name));
          };
          if (fault === "conflict") {
            meets("Conflict");
            throw new Conflict("40001");
          }
          if (fault === "down") {
            meets("DatabaseDown");
            throw new DatabaseDown(false);
          }
          if (entries.some((one) => one.poison)) throw new BadData("22021", null);
          if (fault === "short") {
            meets("Error");
            return entries.slice(1).map((one) => `done ${one.id}`);
          }
          stored.push(...entries.map((one) => one.id));
          return entries.map((one) => `done ${one.id}`);
        },
      });
      const entries = planned.map(({ key, urgent, poison }) => entry(`k${key}`, { urgent, poison }));
      const promises: Promise<string>[] = [];
      for (const [index, one] of entries.entries()) {
        for (let pause = planned[index]!.pause; pause > 0; pause -= 1) await turn();
        const promise = batch.submit(one);
        promise.catch(() => {});
        promises.push(promise);
      }
      const ends = await endings(promises);
      for (const [index, one] of entries.entries()) {
        const end = ends[index]!;
        if (end === `done ${one.id}`) {
          assert.is(stored.filter((id) => id === one.id).length, 1, "stored once");
          continue;
        }
        assert.not(stored.includes(one.id), "nothing stored is answered with a failure");
        if (end === "BatchFull") continue;
        if (end === "BadData") assert.ok(one.poison, "only the poison is refused");
        else assert.ok(met.get(one.id)?.has(end), `${end} did not meet this entry`);
      }
      for (const urgent of [false, true]) {
        for (const key of new Set(entries.map((one) => one.key))) {
          const order = stored.filter((id) =>
            entries.some((one) => one.id === id && one.key === key && one.urgent === urgent),
          );
          assert.equal(
            order,
            [...order].sort((a, b) => a - b),
            "entries of one key keep their order",
          );
        }
      }
      await turn();
      assert.is(batch.depth(), 0);
    }),
    { numRuns: 300 },
  );
});

test.run();
