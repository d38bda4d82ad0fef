import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { deviceBehaviour, idle, type Message, notificationFor, type State, step, type Wake } from "../actors/device.ts";
import type { Message as Answer, PushTarget } from "../actors/message.ts";
import { type Address, startActorSystem } from "../cluster/actor-system.ts";
import type { DeviceId, Priority, UniqueId } from "../domain.ts";
import type { Notification } from "../persistence/notifications.ts";
import { eventually } from "./helpers/eventually.ts";

const closers: (() => void)[] = [];
test.after.each(() => {
  for (const close of closers.splice(0)) close();
});

const target: PushTarget = {
  deviceId: "3f1d6c1e-0000-4000-8000-000000000001" as DeviceId,
  tenantId: "default" as PushTarget["tenantId"],
  siteId: "site" as PushTarget["siteId"],
  gatewayType: "GCM",
  notificationAddress: "address",
  streaming: false,
};
type Asked = Wake & { readonly answers: Answer[] };

let pages = 0;
function wake(more: Partial<Wake> = {}): Asked {
  pages += 1;
  const answers: Answer[] = [];
  const replyTo: Address<Answer> = {
    name: "page",
    tell: (answer) => {
      answers.push(answer);
      return "queued";
    },
    stop: () => {},
    waiting: () => 0,
  };
  return {
    uniqueId: `page-${pages}` as UniqueId,
    wakeup: 1,
    priority: "high",
    expiresAt: 1_000,
    withdrawn: false,
    target,
    replyTo,
    answers,
    ...more,
  };
}

type Request = { readonly notification: Notification; readonly urgent: boolean; stored(): void; refused(): void };

/** A device actor on the real actor system, whose requests wait until the test answers them. */
function openDevice(mailboxMax = 2_000) {
  const system = startActorSystem("test");
  const requests: Request[] = [];
  closers.push(() => {
    system.close();
    for (const request of requests) request.stored(); // an open turn would keep this process until its deadline
  });
  let ends = 0;
  const failures: unknown[] = [];
  const address: Address<Message> = system.spawn<Message>(
    system.root,
    "device",
    { mailboxMax, turnMs: 10_000, onFailure: (error) => failures.push(error) },
    deviceBehaviour({
      hosted: {
        request: (notification, urgent) =>
          new Promise((resolve, reject) => {
            requests.push({ notification, urgent, stored: resolve, refused: () => reject(new Error("away")) });
          }),
      },
      urls: ["http://one", "http://two"],
      coreVersion: "7",
      flushLater: () => address.tell({ kind: "flush" }),
      end: () => {
        if (address.waiting() === 0) ends += 1;
      },
    }),
  );
  const ask = (...wakes: Wake[]) => wakes.map((one) => address.tell({ kind: "wake", wake: one }));
  return { address, requests, ask, failures, ends: () => ends };
}

const kinds = (effects: readonly { kind: string }[]) => effects.map((effect) => effect.kind);

test("step: a wake asks for one flush, more wakes for none, and the flush hands them all over", () => {
  const [one, two] = [wake(), wake()];
  const first = step(idle, { kind: "wake", wake: one });
  assert.equal(kinds(first.effects), ["flush-later"]);
  const second = step(first.state, { kind: "wake", wake: two });
  assert.equal(kinds(second.effects), []);
  const flushed = step(second.state, { kind: "flush" });
  assert.equal(kinds(flushed.effects), ["hand", "end"]);
  assert.equal(flushed.effects[0], { kind: "hand", wakes: [one, two] });
  assert.equal(flushed.state, idle);
});

test("step: a flush with nothing waiting ends, and states are not changed in place", () => {
  assert.equal(kinds(step(idle, { kind: "flush" }).effects), ["end"]);
  const before: State = { waiting: [wake()], flushing: true };
  const copy = [...before.waiting];
  step(before, { kind: "wake", wake: wake() });
  step(before, { kind: "flush" });
  assert.equal(before.waiting, copy);
});

test("step: one request covers at most 500 pages, the rest goes with the next", () => {
  const waiting = Array.from({ length: 1_201 }, () => wake());
  let state: State = { waiting, flushing: true };
  const sizes: number[] = [];
  for (let more = true; more; ) {
    const { state: next, effects } = step(state, { kind: "flush" });
    state = next;
    for (const effect of effects) if (effect.kind === "hand") sizes.push(effect.wakes.length);
    more = effects.some((effect) => effect.kind === "flush-later");
  }
  assert.equal(sizes, [500, 500, 201]);
  assert.equal(state, idle);
});

test("a burst that comes while one request is on its way becomes one more request", async () => {
  const device = openDevice();
  const first = wake();
  device.ask(first);
  await eventually("the first is asked for", () => device.requests.length === 1);
  const burst = Array.from({ length: 20 }, () => wake());
  for (const one of burst) {
    device.ask(one);
    await turn();
  }
  assert.is(device.requests.length, 1);
  device.requests[0]!.stored();
  await eventually("the burst is asked for", () => device.requests.length === 2);
  assert.is(device.requests[1]!.notification.messageCount, 20);
  device.requests[1]!.stored();
  await eventually("all are answered", () => burst.every((one) => one.answers.length === 1));
  assert.equal(first.answers, [
    { kind: "handed", deviceId: target.deviceId, notificationId: device.requests[0]!.notification.id },
  ]);
  for (const one of burst) {
    assert.equal(one.answers[0], {
      kind: "handed",
      deviceId: target.deviceId,
      notificationId: device.requests[1]!.notification.id,
    });
  }
  await eventually("it has ended once idle", () => device.ends() === 1);
});

test("a page is answered only once its request is durable", async () => {
  const device = openDevice();
  const one = wake();
  device.ask(one);
  await eventually("it is asked for", () => device.requests.length === 1);
  await turn();
  assert.equal(one.answers, []);
  device.requests[0]!.stored();
  await eventually("it is answered", () => one.answers.length === 1);
});

test("a hosted side that refuses is answered to every page, and the next request is made all the same", async () => {
  const device = openDevice();
  const refused = [wake(), wake()];
  device.ask(...refused);
  await eventually("they are asked for", () => device.requests.length === 1);
  const next = wake();
  device.ask(next);
  device.requests[0]!.refused();
  await eventually("the next is asked for", () => device.requests.length === 2);
  for (const one of refused) {
    assert.equal(one.answers, [
      { kind: "not-handed", deviceId: target.deviceId, reason: "the hosted side cannot be reached" },
    ]);
  }
  device.requests[1]!.stored();
  await eventually("it is answered", () => next.answers.length === 1);
  assert.is(next.answers[0]!.kind, "handed");
  assert.equal(device.failures, []);
});

test("more pages than one request and the mailbox hold: every one that was taken is answered", async () => {
  const device = openDevice(600);
  const first = Array.from({ length: 600 }, () => wake());
  assert.ok(device.ask(...first).every((told) => told === "queued"));
  await eventually("the first 500 are asked for", () => device.requests.length === 1);
  const second: Asked[] = [];
  for (let one = wake(); device.ask(one)[0] === "queued"; one = wake()) second.push(one);
  assert.ok(second.length >= 599, "the mailbox was filled while the request was on its way");
  for (let answered = 0; answered < 4; answered += 1) {
    const before = device.requests.length;
    device.requests.at(-1)!.stored();
    if ([...first, ...second].every((one) => one.answers.length === 1)) break;
    await eventually(
      "the rest is asked for",
      () => device.requests.length > before || [...first, ...second].every((one) => one.answers.length === 1),
    );
  }
  await eventually("all are answered", () => [...first, ...second].every((one) => one.answers.length === 1));
});

test("the request speaks for all its pages: their number, the most urgent priority, the latest expiry", () => {
  const wakes = [
    wake({ priority: "low", expiresAt: 10 }),
    wake({ priority: "medium", expiresAt: 30 }),
    wake({ priority: "low", expiresAt: 20 }),
  ];
  const notification = notificationFor(wakes, ["http://one", "http://two"], "7");
  assert.equal(
    { ...notification, id: "" },
    {
      id: "",
      tenantId: "default",
      siteId: "site",
      deviceId: target.deviceId,
      callbackData: wakes[0]!.uniqueId,
      callbackUri: "http://one",
      gatewayType: "GCM",
      notificationAddress: "address",
      urls: ["http://one", "http://two"],
      messageCount: 3,
      priority: "medium",
      coreVersion: "7",
      expiresAt: 30,
    },
  );
  const counts = [[wake({ withdrawn: true })], [wake({ withdrawn: true }), wake()]].map(
    (some) => notificationFor(some, ["http://one"], "7").messageCount,
  );
  assert.equal(counts, [0, 1], "a page that was recalled is none to come for");
});

test("an id follows from the device, the first page and its wake-up, and from nothing else", () => {
  const part = fc.record({ device: fc.uuid(), page: fc.uuid(), wakeup: fc.integer({ min: 1, max: 30_000 }) });
  const idOf = (
    { device, page, wakeup }: { device: string; page: string; wakeup: number },
    priority: Priority = "high",
  ) =>
    notificationFor(
      [
        wake({ uniqueId: page as UniqueId, wakeup, priority, target: { ...target, deviceId: device as DeviceId } }),
        ...(priority === "low" ? [wake()] : []),
      ],
      ["http://one"],
      priority,
    ).id;
  fc.assert(
    fc.property(part, part, (one, other) => {
      assert.match(idOf(one), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/);
      assert.is(idOf(one), idOf(one, "low"));
      assert.is(
        idOf(one) === idOf(other),
        one.device === other.device && one.page === other.page && one.wakeup === other.wakeup,
      );
      for (const more of [{ device: other.device }, { page: other.page }, { wakeup: one.wakeup + 1 }]) {
        const changed = { ...one, ...more };
        if (JSON.stringify(changed) !== JSON.stringify(one)) assert.not.equal(idOf(changed), idOf(one));
      }
    }),
  );
});

test("an urgent request is made as such", async () => {
  const device = openDevice();
  device.ask(wake({ priority: "low" }));
  await eventually("it is asked for", () => device.requests.length === 1);
  device.ask(wake({ priority: "low" }), wake({ priority: "high" }));
  device.requests[0]!.stored();
  await eventually("they are asked for", () => device.requests.length === 2);
  assert.equal(
    device.requests.map((request) => request.urgent),
    [false, true],
  );
});

test("whatever the hosted side does, every page is answered exactly once, by the request that named it", async () => {
  const event = fc.oneof(
    fc.record({ kind: fc.constant("wakes" as const), count: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ kind: fc.constantFrom("stored" as const, "refused" as const, "turn" as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 40 }), async (events) => {
      const device = openDevice();
      const asked: Asked[] = [];
      let answered = 0;
      const answer = (how: "stored" | "refused") => {
        if (answered >= device.requests.length) return;
        device.requests[answered]![how]();
        answered += 1;
      };
      for (const one of events) {
        if (one.kind === "wakes") {
          const wakes = Array.from({ length: one.count }, () => wake());
          asked.push(...wakes);
          device.ask(...wakes);
        } else if (one.kind === "turn") await turn();
        else answer(one.kind);
        assert.ok(device.requests.length - answered <= 1, "one request at a time");
      }
      await eventually("all are answered", () => {
        answer("stored");
        return asked.every((one) => one.answers.length > 0);
      });
      for (const one of asked) assert.is(one.answers.length, 1);
      assert.is(
        device.requests.reduce((sum, request) => sum + request.notification.messageCount, 0),
        asked.length,
      );
      assert.is(new Set(device.requests.map((request) => request.notification.id)).size, device.requests.length);
      assert.equal(device.failures, []);
    }),
    { numRuns: 60 },
  );
});

test.run();
