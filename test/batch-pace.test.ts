import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { entry, heldBatch, keysOf } from "./helpers/held-batch.ts";

test("with a pace what comes alone goes at once, and what comes soon after it goes together with the next stroke", async () => {
  const paceMs = 60;
  const { batch, calls } = heldBatch({ paceMs });
  const begun: number[] = [];
  const calledTimes = async (count: number) => {
    await eventually(`call ${count}`, () => calls.length === count);
    begun.push(performance.now());
  };
  const first = batch.submit(entry("a"));
  await turn();
  assert.is(calls.length, 1, "at once");
  begun.push(performance.now());
  calls[0]!.answer();
  await first;
  const rest = ["c", "b"].map((key) => batch.submit(entry(key)));
  await turn();
  const urgent = batch.submit(entry("u", { urgent: true }));
  await turn();
  assert.equal(calls.map(keysOf), [["a"], ["u"]], "lanes have each their own");
  calls[1]!.answer();
  await urgent;
  rest.push(batch.submit(entry("d")));
  await calledTimes(3);
  assert.equal(keysOf(calls[2]), ["b", "c", "d"]);
  assert.ok(begun[1]! - begun[0]! >= paceMs - 2, `${begun[1]! - begun[0]!} ms between the two`);
  // This one takes longer than a stroke: the next does not wait any more.
  await sleep(paceMs);
  const last = batch.submit(entry("e"));
  calls[2]!.answer();
  await Promise.all(rest);
  await turn();
  assert.equal(keysOf(calls[3]), ["e"]);
  calls[3]!.answer();
  await last;
  await turn();
  assert.is(batch.depth(), 0);
});

test.run();
