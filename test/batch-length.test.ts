/** How long entries share a statement: see test/batch.test.ts for all else. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeBatch } from "../persistence/batch.ts";

/** What went together, when all of these were waiting at once. */
async function statements(lengths: readonly number[], max: number): Promise<number[][]> {
  const written: number[][] = [];
  const batch = makeBatch<{ id: number; length: number }, true>({
    key: ({ id }) => String(id).padStart(5, "0"),
    urgent: () => false,
    length: { of: ({ length }) => length, max },
    entriesMax: 10,
    waitingMax: 1_000,
    write: async (entries) => {
      written.push(entries.map(({ length }) => length));
      return entries.map(() => true as const);
    },
  });
  await Promise.all(lengths.map((length, id) => batch.submit({ id, length })));
  assert.is(batch.depth(), 0);
  return written;
}

test("entries go together as far as their length allows, in the order they came", async () => {
  assert.equal(await statements([40, 40, 40, 10, 10], 100), [
    [40, 40],
    [40, 10, 10],
  ]);
});

test("one that is too long by itself goes alone", async () => {
  assert.equal(await statements([10, 500, 10], 100), [[10], [500], [10]]);
});

test("no statement is longer than allowed, none holds more entries, and every entry is written once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 150 }), { maxLength: 60 }), async (lengths) => {
      const written = await statements(lengths, 100);
      assert.equal(written.flat(), lengths);
      for (const entries of written) {
        assert.ok(entries.length >= 1 && entries.length <= 10);
        assert.ok(entries.length === 1 || entries.reduce((sum, length) => sum + length, 0) <= 100);
      }
    }),
    { numRuns: 200 },
  );
});

test.run();
