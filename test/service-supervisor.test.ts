/** The supervisor of services: its pure step, by table and property, and the actor around it with services that do as told. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type Effect,
  type Message,
  type Service,
  startedServices,
  step,
  superviseServices,
  type Verdict,
} from "../actors/supervisors/service.ts";
import { startActorSystem } from "../cluster/actor-system.ts";
import { systemClock } from "../domain.ts";
import { type Meter, silentMeter } from "../meter.ts";
import { eventually } from "./helpers/eventually.ts";
import { recordLog } from "./helpers/log-record.ts";

/** Ticks a second apart; each look finds what is said, `!`: the restart fails, `.`: it succeeds. Effects beside looks, by second. */
function play(script: string): string[] {
  let state = startedServices(["it"]);
  const seen: string[] = [];
  const says: Record<string, Verdict> = { w: "well", g: "gone", s: "silent", f: "failing", u: "unknown" };
  for (const [second, word] of [...script].entries()) {
    const now = second * 1_000;
    const take = (message: Message) => {
      const stepped = step(state, message, now);
      state = stepped.state;
      for (const { kind } of stepped.effects) if (kind !== "look") seen.push(`${second} ${kind}`);
      return stepped.effects;
    };
    const [effect] = take({ kind: "tick" });
    if (effect?.kind === "look") take({ kind: "looked", service: "it", verdict: says[word]! });
    if (effect?.kind === "restart")
      take({ kind: "restarted", service: "it", fault: word === "!" ? "EADDRINUSE" : null });
  }
  return seen;
}

const table: readonly [string, string, readonly string[]][] = [
  ["what is well is left alone", "wwwwww", []],
  ["what is gone is restarted at the next tick", "wg.ww", ["2 restart"]],
  ["two silent looks are a busy moment", "sswsswss", []],
  ["three in a row are a failure", "sss.w", ["3 restart"]],
  ["what could not be asked counts for nothing", "ssuus.w", ["5 restart"]],
  ["one that fails again on trial is restarted again", "g.g.w", ["1 restart", "3 restart"]],
  [
    "a sixth failure in two minutes withdraws the node, and it goes on trying",
    "g!!!!!!!!!!!!!!",
    ["1 restart", "2 restart", "3 restart", "5 restart", "9 restart", "9 withdraw", "14 restart"],
  ],
  ["a loop whose own budget is spent withdraws at once, and once", "wfffwwwww", ["1 withdraw", "6 restore"]],
];
for (const [name, script, expected] of table) {
  test(`step: ${name}`, () => assert.equal(play(script), expected));
}

test("step: three good looks in a row bring a withdrawn node back, two and a bad one do not", () => {
  assert.equal(play("fwwfwwsww"), ["0 withdraw"]);
  assert.equal(play("fwwfwww"), ["0 withdraw", "6 restore"]);
});

test("whatever happens in whatever order, withdrawing and restoring take turns, and nothing is looked at or restarted twice at once", () => {
  const message: fc.Arbitrary<Message> = fc.oneof(
    { weight: 3, arbitrary: fc.constant<Message>({ kind: "tick" }) },
    fc.record({
      kind: fc.constant("looked" as const),
      service: fc.constant("it"),
      verdict: fc.constantFrom<Verdict>("well", "gone", "silent", "failing", "unknown"),
    }),
    fc.record({
      kind: fc.constant("restarted" as const),
      service: fc.constant("it"),
      fault: fc.constantFrom(null, "EADDRINUSE"),
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(message, fc.nat(3_000)), { maxLength: 200 }), (script) => {
      let state = startedServices(["it"]);
      let now = 0;
      let withdrawn = false;
      for (const [next, later] of script) {
        now += later;
        const before = state.get("it")!;
        const stepped = step(state, next, now);
        state = stepped.state;
        for (const { kind } of stepped.effects) {
          if (kind === "withdraw" || kind === "restore") {
            assert.is(kind, withdrawn ? "restore" : "withdraw");
            withdrawn = !withdrawn;
          } else if (kind === "look") assert.not.ok(before.looking);
          else assert.is(before.phase, "resting");
        }
        const { phase, record, spent, until } = state.get("it")!;
        assert.is(spent, withdrawn);
        assert.ok(record.length <= 6);
        if (phase === "resting") assert.ok(until <= now + 5_000);
      }
    }),
  );
});

test("from any state, a service that is well from now on is up and its node restored within ten ticks", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("gone", "silent", "failing"), { maxLength: 30 }), (verdicts) => {
      let state = startedServices(["it"]);
      let now = 0;
      const tick = (verdict: Verdict, fault: string | null) => {
        now += 1_000;
        const perform = (message: Message): readonly Effect[] => {
          const stepped = step(state, message, now);
          state = stepped.state;
          return stepped.effects;
        };
        for (const { kind } of perform({ kind: "tick" })) {
          if (kind === "look") perform({ kind: "looked", service: "it", verdict });
          if (kind === "restart") perform({ kind: "restarted", service: "it", fault });
        }
      };
      for (const verdict of verdicts) tick(verdict as Verdict, "EADDRINUSE");
      for (let n = 0; n < 10; n += 1) tick("well", null);
      const { phase, spent } = state.get("it")!;
      assert.equal({ phase, spent }, { phase: "well", spent: false });
    }),
  );
});

test("the actor restarts what is gone, withdraws for what is vital alone, and outlives what its services throw", async () => {
  const system = startActorSystem("services");
  const { log, lines } = recordLog();
  const restarts: string[] = [];
  const meter: Meter = {
    ...silentMeter,
    count: (name, labels) => void restarts.push(`${name} ${JSON.stringify(labels)}`),
  };
  const reasons: string[] = [];
  const verdicts: Record<string, Verdict> = { http: "gone", sweep: "failing", metrics: "failing" };
  const service = (name: string, vital: boolean): Service => ({
    name,
    vital,
    async look() {
      const verdict = verdicts[name];
      if (verdict === undefined) throw new Error("cannot look");
      return verdict;
    },
    async restart() {
      verdicts[name] = "well";
    },
  });
  const supervisor = superviseServices(
    [service("http", true), service("sweep", true), service("metrics", false), service("odd", true)],
    {
      ...{ system, log, meter, clock: systemClock },
      membership: {
        withdraw: (reason) => void reasons.push(`- ${reason}`),
        restore: (reason) => void reasons.push(`+ ${reason}`),
      },
    },
  );
  const up = () => supervisor.standing().flatMap((one) => (one.up ? [one.service.name] : []));
  await eventually("http is up again", () => restarts.length === 1 && up().join() === "http,odd");
  assert.equal(restarts, ['service_restarts {"service":"http"}']);
  assert.equal(reasons, ["- service sweep keeps failing"]);
  assert.is(lines.filter(({ event }) => event === "service keeps failing").length, 2);
  verdicts.sweep = "well";
  await eventually("the node is restored", () => reasons.length === 2);
  assert.is(reasons[1], "+ service sweep keeps failing");
  supervisor.close();
  system.close();
});

test.run();
