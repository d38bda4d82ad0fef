/** An entry that waits may be taken out, by who writes it himself. */
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BatchFull } from "../persistence/batch.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Entry, entry, heldBatch, keysOf } from "./helpers/held-batch.ts";

const any = () => true;

test("what is withdrawn is not written, and ends as its taker says", async () => {
  const { batch, calls } = heldBatch();
  const flying = batch.submit(entry("a"));
  await turn();
  const [withdrawn, waiting] = [batch.submit(entry("b")), batch.submit(entry("c"))];
  const taken = batch.withdraw("b", any)!;
  assert.equal([taken.entry.key, batch.depth()], ["b", 2]);
  calls[0]!.answer();
  await flying;
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["c"]]);
  taken.settle("by its taker");
  assert.is(await withdrawn, "by its taker");
  calls[1]!.answer();
  await waiting;
});

test("what was withdrawn may be submitted again, and ends as that does", async () => {
  const { batch, calls } = heldBatch({ waitingMax: 1 });
  const withdrawn = batch.submit(entry("a"));
  const taken = batch.withdraw("a", any)!;
  taken.settle(batch.submit(taken.entry));
  await turn();
  calls[0]!.answer();
  assert.is(await withdrawn, `done ${taken.entry.id}`);

  const refused = batch.submit(entry("b"));
  const again = batch.withdraw("b", any)!;
  const other = batch.submit(entry("c"));
  again.settle(batch.submit(again.entry));
  assert.instance(await refused.catch((error: unknown) => error), BatchFull);
  await turn();
  calls[1]!.answer();
  await other;
});

test("only what waits, of that key, and is meant is withdrawn; the first that came, urgent or not", async () => {
  const { batch, calls } = heldBatch();
  void batch.submit(entry("a"));
  await turn();
  assert.is(batch.withdraw("a", any), null, "it is in flight");
  const waiting = [entry("b", { poison: true }), entry("b"), entry("b"), entry("u", { urgent: true })];
  for (const one of waiting) void batch.submit(one);
  const sound = ({ poison }: Entry) => !poison;
  assert.equal(
    ["b", "b", "b", "u", "u"].map((key) => batch.withdraw(key, sound)?.entry.id),
    [waiting[1]!.id, waiting[2]!.id, undefined, waiting[3]!.id, undefined],
  );
  calls[0]!.answer();
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["b"]]);
  calls[1]!.answer();
  await turn();
  assert.is(batch.depth(), 0);
});

test("a batch all of whose entries were withdrawn is not written, and is no stroke of its pace", async () => {
  const { batch, calls } = heldBatch({ paceMs: 100 });
  void batch.submit(entry("a"));
  await turn();
  calls[0]!.answer();
  await turn();
  void batch.submit(entry("b"));
  batch.withdraw("b", any);
  // The stroke that finds nothing comes meanwhile, and would put off the next until 200 ms.
  await sleep(130);
  assert.is(calls.length, 1);
  const last = batch.submit(entry("c"));
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["c"]], "at once");
  const next = batch.submit(entry("d"));
  calls[1]!.answer();
  await last;
  await eventually("the next goes", () => calls.length === 3);
  calls[2]!.answer();
  await next;
});

test.run();
