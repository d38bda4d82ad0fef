import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Effect, type Message, type Row, type State, step } from "../actors/message.ts";
import type { DeviceId, NotificationId, SubscriberId, UniqueId } from "../domain.ts";
import { type Change, CLAIM_MS } from "../persistence/messages.ts";
import type { WakeTarget } from "../persistence/page-devices.ts";

const NOW = 1_000_000;
const target = (n: number): WakeTarget => ({
  deviceId: `device-${n}` as DeviceId,
  tenantId: "default" as WakeTarget["tenantId"],
  siteId: "site" as WakeTarget["siteId"],
  gatewayType: "GCM",
  notificationAddress: `address-${n}`,
  streaming: false,
});
const row: Row = {
  uniqueId: "page" as UniqueId,
  version: 5,
  status: "QUEUED",
  answer: null,
  outcome: null,
  wakeups: 1,
  priority: "high",
  subscriberId: "00" as SubscriberId,
  deviceDeadline: NOW + 1_000,
  userDeadline: null,
  expiresAt: NOW + 10_000,
  replied: false,
  asksAnswer: false,
  reminders: 0,
  profile: { intervalSeconds: 60, repeats: 3 },
  step: 0,
  stepDeadline: null,
  rule: null,
  settledByFamily: false,
  untoldAnswer: false,
  targets: [target(1), target(2)],
  synthetic: false,
};
const written = (version: number): Message => ({ kind: "written", result: { version, news: null, ageSeconds: 1 } });
const handed = (n: number): Message => ({
  kind: "handed",
  deviceId: target(n).deviceId,
  notificationId: `n${n}` as NotificationId,
});
const notHanded = (n: number): Message => ({ kind: "not-handed", deviceId: target(n).deviceId, reason: `no ${n}` });
const drive: Message = { kind: "drive", claimed: false, now: NOW };
const asking = (...unanswered: number[]): State & { kind: "asking" } => ({
  kind: "asking",
  row,
  unanswered: new Set(unanswered.map((n) => target(n).deviceId)),
  handed: [],
  reasons: [],
});

/** An effect in one word, or for a write what it writes. */
const wordOf = (effect: Effect) => (effect.kind === "write" ? effect.change.event : effect.kind);

const states: Record<string, State> = {
  fresh: { kind: "fresh", row },
  claiming: { kind: "claiming", row },
  asking: asking(1),
  noting: { kind: "noting" },
  done: { kind: "done" },
};
const messages: Record<string, Message> = {
  drive,
  claimed: { ...drive, claimed: true },
  written: written(6),
  lost: { kind: "written", result: null },
  handed: handed(1),
  "not-handed": notHanded(1),
};
const moves: Record<string, Record<string, string>> = {
  fresh: { drive: "claiming WAKE", claimed: "asking ask" },
  claiming: { written: "asking ask", lost: "done end" },
  asking: { handed: "noting ENROUTE", "not-handed": "noting WAIT" },
  noting: { written: "done end", lost: "done end" },
  done: {},
};
for (const [from, state] of Object.entries(states)) {
  test(`${from}: every message does what is drawn, or nothing`, () => {
    for (const [name, message] of Object.entries(messages)) {
      const { state: next, effects } = step(state, message);
      const expected = moves[from]![name] ?? from;
      assert.is([next.kind, ...effects.map(wordOf)].join(" "), expected, `${from}, ${name}`);
      if (expected === from) assert.is(next, state);
    }
  });
}

const dues: [string, Partial<Row>, Partial<Change>][] = [
  ["a wake-up", {}, { event: "WAKE", wakes: true, tell: null, due: CLAIM_MS }],
  [
    "the device deadline",
    { deviceDeadline: NOW },
    { event: "FAILED", outcome: "FAILED", tell: "FAILED", due: "expiry" },
  ],
  [
    "the device deadline, told before",
    { deviceDeadline: NOW, outcome: "FAILED" },
    { event: "WAIT", outcome: null, tell: null, due: "expiry" },
  ],
  ["expiry", { expiresAt: NOW }, { event: "EXPIRED", outcome: "EXPIRED", tell: "FAILED", due: "never" }],
  ["expiry before the device deadline", { expiresAt: NOW, deviceDeadline: NOW }, { event: "EXPIRED", tell: "FAILED" }],
  ["expiry after FAILED", { expiresAt: NOW, outcome: "FAILED" }, { event: "EXPIRED", tell: null, due: "never" }],
  [
    "expiry after DELIVERED",
    { expiresAt: NOW, status: "DELIVERED" },
    { event: "EXPIRED", outcome: null, tell: null, due: "never" },
  ],
  [
    "expiry of an alert that nobody has answered",
    { expiresAt: NOW, status: "READ", userDeadline: NOW + 1 },
    { event: "EXPIRED", outcome: "EXPIRED", tell: "FAILED", due: "never" },
  ],
  [
    "expiry of an answered alert",
    { expiresAt: NOW, status: "READ", userDeadline: NOW + 1, answer: "ACKNOWLEDGED" },
    { event: "EXPIRED", outcome: null, tell: null, due: "never" },
  ],
  [
    "a reminder",
    { status: "DELIVERED", userDeadline: NOW + 1 },
    { event: "WAKE", wakes: true, tell: null, due: CLAIM_MS },
  ],
  [
    "a reminder whatever the device deadline",
    { status: "READ", deviceDeadline: NOW, userDeadline: NOW + 1 },
    { event: "WAKE", outcome: null },
  ],
  [
    "the user deadline",
    { status: "DELIVERED", userDeadline: NOW },
    { event: "FAILED", outcome: "FAILED", tell: "FAILED", due: "never" },
  ],
  [
    "the user deadline after FAILED",
    { status: "READ", userDeadline: NOW, outcome: "FAILED" },
    { event: "WAIT", tell: null, due: "never" },
  ],
  [
    "an answered page",
    { status: "READ", answer: "IGNORED", userDeadline: NOW },
    { event: "WAIT", outcome: null, tell: null, due: "never" },
  ],
  [
    "a recalled page whose phones have yet to hear so",
    { outcome: "RECALLED", status: "ENROUTE", deviceDeadline: NOW },
    { event: "WAKE", wakes: true, outcome: null, tell: null, due: CLAIM_MS },
  ],
  [
    "a recalled page whose phones have all heard",
    { outcome: "RECALLED", status: "READ", userDeadline: NOW, targets: [] },
    { event: "WAIT", outcome: null, tell: null, due: "never" },
  ],
  ["expiry of a recalled page", { outcome: "RECALLED", expiresAt: NOW }, { event: "WAIT", tell: null, due: "never" }],
  ["a delivered page that asks for no answer", { status: "DELIVERED" }, { event: "WAIT", tell: null, due: "never" }],
];
for (const [name, more, expected] of dues) {
  test(`due: ${name}`, () => {
    const { state, effects } = step(
      { kind: "fresh", row: { ...row, asksAnswer: more.userDeadline != null, ...more } },
      drive,
    );
    assert.is(effects.length, 1);
    const change = (effects[0] as Effect & { kind: "write" }).change;
    for (const [key, value] of Object.entries(expected)) assert.is(change[key as keyof Change], value, key);
    assert.equal([change.uniqueId, change.version, change.transport], [row.uniqueId, row.version, null]);
    assert.is(state.kind, expected.event === "WAKE" ? "claiming" : "noting");
  });
}

test("a page above QUEUED that is woken again is no ENROUTE, and one nobody could be asked for waits longer each time", () => {
  for (const status of ["ENROUTE", "DELIVERED", "READ"] as const) {
    const { effects } = step({ ...asking(1), row: { ...row, status } }, handed(1));
    assert.equal(effects.map(wordOf), ["PUSH"]);
    assert.is((effects[0] as Effect & { kind: "write" }).change.tell, null);
  }
  const pauses = [1, 2, 3, 4, 5, 100].map((wakeups) => {
    const { effects } = step({ kind: "fresh", row: { ...row, wakeups, targets: [] } }, { ...drive, claimed: true });
    const { change } = effects[0] as Effect & { kind: "write" };
    assert.equal([change.event, change.tell, change.wakes], ["WAIT", null, false]);
    return change.due;
  });
  assert.equal(pauses, [2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
});

test("phones are woken once to hear of a recall, which is no ENROUTE; those that could not be are asked again", () => {
  for (const status of ["QUEUED", "ENROUTE", "READ"] as const) {
    const recalled: Row = { ...row, status, outcome: "RECALLED" };
    const noted = (answer: (n: number) => Message) => {
      const { state } = step({ ...asking(1, 2), row: recalled }, handed(1));
      return (step(state, answer(2)).effects[0] as Effect & { kind: "write" }).change;
    };
    const told = noted(handed);
    assert.equal([told.event, told.tell, told.transport, told.due], ["PUSH", null, null, "never"]);
    assert.is(noted(notHanded).due, 2_000);
  }
});

test("every device asked must answer, and one that could be woken is enough", () => {
  const first = step(asking(1, 2), notHanded(1));
  assert.equal([first.state.kind, first.effects], ["asking", []]);
  const { effects } = step(first.state, handed(2));
  const { change } = effects[0] as Effect & { kind: "write" };
  assert.equal([change.event, change.tell, change.detail], ["ENROUTE", "ENROUTE", "n2"]);
  assert.is(change.due, 2_000 * 2 ** (row.wakeups - 1), "the other is asked again as soon as if there were no second");
});

test("a phone that listens hears of its page at once, also where the push service knows its address no more", () => {
  const listens = { ...target(1), notificationAddress: null, streaming: true };
  const first = step({ kind: "fresh", row: { ...row, targets: [listens] } }, { ...drive, claimed: true } as Message);
  assert.equal(first.effects.map(wordOf), ["hint", "end"], "and its claim runs out");
  const again = step({ kind: "claiming", row: { ...row, targets: [listens] } }, written(6));
  assert.equal(again.effects.map(wordOf), ["hint", "WAIT"]);
  const both = { ...row, targets: [listens, target(2)] };
  const { effects } = step({ kind: "claiming", row: both }, written(6));
  assert.equal(effects.map(wordOf), ["hint", "ask"]);
  assert.equal((effects[1] as Effect & { kind: "ask" }).targets, [target(2)]);
});

test("whatever comes in whatever order: one claim, one ENROUTE, one write a version, and an end once all devices answered", () => {
  const any: fc.Arbitrary<Message> = fc.oneof(
    fc.constantFrom(...Object.values(messages)),
    fc.integer({ min: 1, max: 3 }).map(handed),
    fc.integer({ min: 1, max: 3 }).map(notHanded),
  );
  fc.assert(
    fc.property(fc.array(any, { maxLength: 30 }), fc.nat(3), (sent, devices) => {
      const targets = Array.from({ length: devices }, (_, n) => target(n + 1));
      let state = { kind: "fresh", row: { ...row, targets } } as State;
      let version = row.version;
      const writes: Change[] = [];
      let ends = 0;
      const tell = (message: Message) => {
        const stepped = step(state, message);
        state = stepped.state;
        for (const effect of stepped.effects) {
          assert.is(ends, 0, "nothing happens after the end");
          if (effect.kind === "end") ends += 1;
          if (effect.kind !== "write") continue;
          assert.is(effect.change.version, version, "each write is made on the version the last one left");
          assert.not(writes.some((other) => other.version === effect.change.version));
          writes.push(effect.change);
          version += 1;
          tell(written(version));
        }
      };
      // Writes are answered inside the turn, so from outside come only the rest.
      for (const message of sent) if (message.kind !== "written") tell(message);
      assert.ok(writes.filter((change) => change.event === "WAKE").length <= 1);
      assert.ok(writes.filter((change) => change.event === "ENROUTE").length <= 1);
      if ((state as State).kind === "fresh") return;
      for (const one of targets) tell({ kind: "not-handed", deviceId: one.deviceId, reason: "late" });
      assert.is((state as State).kind, "done");
      assert.is(ends, 1);
    }),
  );
});

test.run();
