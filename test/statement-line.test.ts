import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DatabaseBusy, DatabaseDown } from "../persistence/database-faults.ts";
import { openStatementLine } from "../persistence/statement-line.ts";
import { eventually } from "./helpers/eventually.ts";

type Sent = { readonly name: string; settle(): void; fail(error: Error): void };

/** A line whose statements end when the test says so. */
function open(slice: { places?: number; waitingMax?: number; waitMs?: number } = {}) {
  const line = openStatementLine({ places: 1, waitingMax: 100, waitMs: 60_000, ...slice });
  const sent: Sent[] = [];
  const names = () => sent.map(({ name }) => name).join("");
  return {
    ...line,
    sent,
    names,
    ask: (name: string, urgent = false): Promise<string> =>
      line.enter(
        urgent,
        () => new Promise((resolve, reject) => sent.push({ name, settle: () => resolve(name), fail: reject })),
      ),
    /** Settles the statement that was sent as the n-th. */
    async settles(n: number) {
      await eventually(`${n + 1} were sent`, () => sent.length > n);
      sent[n]!.settle();
    },
  };
}
const faultOf = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (error: Error) => error,
  );

test("as many are sent at once as there are places, the others in the order they came", async () => {
  const line = open({ places: 2 });
  const answers = Promise.all(["a", "b", "c", "d"].map((name) => line.ask(name)));
  await sleep(5);
  assert.is(line.names(), "ab");
  assert.is(line.waiting(), 2);
  await line.settles(1);
  await eventually("the next is sent", () => line.names() === "abc");
  for (const n of [0, 2, 3]) await line.settles(n);
  assert.equal(await answers, ["a", "b", "c", "d"]);
  assert.is(line.waiting(), 0);
});

test("the urgent pass the others, but not for ever", async () => {
  const line = open();
  const asked = [line.ask("-")];
  for (const name of "123") asked.push(line.ask(name));
  for (const name of "abcdefghij") asked.push(line.ask(name, true));
  for (let n = 0; n < asked.length; n += 1) await line.settles(n);
  await Promise.all(asked);
  assert.is(line.names(), "-abcd1efgh2ij3");
});

test("a full lane refuses at once, and the urgent one has room of its own", async () => {
  const line = open({ waitingMax: 2 });
  const asked = ["a", "b", "c"].map((name) => line.ask(name));
  const fault = await faultOf(line.ask("d"));
  assert.instance(fault, DatabaseBusy);
  assert.instance(fault, DatabaseDown, "whoever can wait for a database can wait for a busy one");
  assert.is((fault as DatabaseDown).unknown, false);
  asked.push(line.ask("u", true));
  for (let n = 0; n < asked.length; n += 1) await line.settles(n);
  await Promise.all(asked);
  assert.is(line.names(), "aubc");
});

test("who waits too long is refused and never sent; those behind are", async () => {
  const line = open({ waitMs: 40 });
  const first = line.ask("a");
  const late = faultOf(line.ask("b"));
  assert.instance(await late, DatabaseBusy);
  const next = line.ask("c");
  await line.settles(0);
  await line.settles(1);
  assert.equal([await first, await next], ["a", "c"]);
});

test("a statement that fails, or is not even built, gives its place to the next", async () => {
  const line = open();
  const [failed, unbuilt, next] = [
    faultOf(line.ask("a")),
    faultOf(
      line.enter(false, () => {
        throw new Error("not built");
      }),
    ),
    line.ask("c"),
  ];
  await eventually("it is sent", () => line.sent.length === 1);
  line.sent[0]!.fail(new Error("failed"));
  assert.is((await failed)?.message, "failed");
  assert.is((await unbuilt)?.message, "not built");
  await line.settles(1);
  assert.is(await next, "c");
});

test("when the pool is gone those that wait and those that come are told, those sent settle by themselves", async () => {
  const line = open();
  const sent = line.ask("a");
  const waits = [faultOf(line.ask("b")), faultOf(line.ask("c", true))];
  const gone = new DatabaseDown(false);
  line.end(gone);
  assert.equal(await Promise.all(waits), [gone, gone]);
  assert.is(await faultOf(line.ask("d")), gone);
  await line.settles(0);
  assert.is(await sent, "a");
  assert.is(line.names(), "a");
});

test("whatever comes and however it ends, no place is lost or used twice, and every statement is answered once", async () => {
  const step = fc.record({ urgent: fc.boolean(), ms: fc.nat(3), fails: fc.boolean(), pause: fc.nat(2) });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 40 }), async (places, steps) => {
      const line = openStatementLine({ places, waitingMax: 8, waitMs: 6 });
      let flying = 0;
      let most = 0;
      let sent = 0;
      const ends: Promise<string>[] = [];
      for (const { urgent, ms, fails, pause } of steps) {
        const asked = line.enter(urgent, async () => {
          sent += 1;
          flying += 1;
          most = Math.max(most, flying);
          await sleep(ms);
          flying -= 1;
          if (fails) throw new Error("failed");
        });
        ends.push(
          asked.then(
            () => "sent",
            (error: Error) => (error instanceof DatabaseBusy ? "busy" : "sent"),
          ),
        );
        if (pause > 0) await sleep(pause);
      }
      const settled = await Promise.all(ends);
      assert.ok(most <= places);
      assert.is(settled.filter((end) => end === "sent").length, sent);
      assert.equal([flying, line.waiting()], [0, 0]);
      const all = Promise.all(Array.from({ length: places }, () => line.enter(false, () => sleep(1))));
      await all;
      assert.is(line.waiting(), 0, "every place is free again");
    }),
    { numRuns: 60 },
  );
});

test.run();
