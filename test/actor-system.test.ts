import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type ActorOptions,
  type ActorSystem,
  type Address,
  startActorSystem,
  TurnOverran,
} from "../cluster/actor-system.ts";
import { eventually } from "./helpers/eventually.ts";

const systems: ActorSystem[] = [];
function openSystem(): ActorSystem {
  const system = startActorSystem("test node");
  systems.push(system);
  return system;
}
test.after.each(() => {
  for (const system of systems.splice(0)) system.close();
});

function options(more: Partial<ActorOptions> = {}): ActorOptions & { failures: unknown[] } {
  const failures: unknown[] = [];
  return { mailboxMax: 1_000, turnMs: 5_000, onFailure: (error) => failures.push(error), failures, ...more };
}

const settled = (system: ActorSystem) => eventually("all mailboxes are empty", () => system.depth() === 0);

test("an actor takes its messages one at a time, in the order they were told", async () => {
  const system = openSystem();
  const seen: number[] = [];
  let running = 0;
  const address = system.spawn<number>(system.root, "one", options(), async (message) => {
    running += 1;
    assert.is(running, 1);
    for (let pauses = message % 3; pauses > 0; pauses -= 1) await turn();
    seen.push(message);
    running -= 1;
  });
  const numbers = [...Array(200).keys()];
  for (const number of numbers) assert.is(address.tell(number), "queued");
  assert.is(address.waiting(), 200);
  assert.is(system.depth(), 200);
  await eventually("all are seen", () => seen.length === 200);
  assert.equal(seen, numbers);
  assert.is(system.depth(), 0);
});

test("actors do not wait for each other", async () => {
  const system = openSystem();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = system.spawn<null>(system.root, "slow", options(), () => held);
  let quick = 0;
  const other = system.spawn<null>(system.root, "quick", options(), () => {
    quick += 1;
  });
  slow.tell(null);
  for (let n = 0; n < 10; n += 1) other.tell(null);
  await eventually("the other has had its messages", () => quick === 10);
  release();
});

test("a full mailbox says so and loses nothing that was taken", async () => {
  const system = openSystem();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const seen: number[] = [];
  const address = system.spawn<number>(system.root, "bounded", options({ mailboxMax: 3 }), async (message) => {
    await held;
    seen.push(message);
  });
  assert.is(address.tell(0), "queued");
  await eventually("the first is in its turn", () => address.waiting() === 0);
  assert.equal(
    [1, 2, 3, 4, 5].map((n) => address.tell(n)),
    ["queued", "queued", "queued", "full", "full"],
  );
  assert.is(system.depth(), 3);
  release();
  await eventually("the mailbox is empty", () => seen.length === 4);
  assert.equal(seen, [0, 1, 2, 3]);
  assert.is(address.tell(6), "queued");
});

for (const [how, fault] of [
  [
    "throws",
    () => {
      throw new RangeError("at once");
    },
  ],
  [
    "rejects",
    async () => {
      await turn();
      throw new RangeError("later");
    },
  ],
] as const) {
  test(`a turn that ${how} ends that actor alone, is reported once, and what waited behind it is gone`, async () => {
    const system = openSystem();
    const branch = system.branch(system.root, "branch");
    const told = options();
    const failing = system.spawn<string>(branch, "failing", told, () => fault());
    const seen: string[] = [];
    const sibling = system.spawn<string>(branch, "sibling", options(), (message) => void seen.push(message));
    for (const message of ["a", "b", "c"]) failing.tell(message);
    sibling.tell("before");
    await eventually("the failure is reported", () => told.failures.length > 0);
    assert.is(failing.tell("d"), "gone");
    assert.is(failing.waiting(), 0);
    sibling.tell("after");
    await eventually("the sibling lives", () => seen.length === 2);
    await settled(system);
    await sleep(20);
    assert.is(told.failures.length, 1);
    assert.instance(told.failures[0], RangeError);
    assert.is(system.actors(), 1);
    let again = 0;
    system.spawn<null>(branch, "failing", options(), () => void (again += 1)).tell(null);
    await eventually("an actor of the same name can come back", () => again === 1);
  });
}

test("an error while reporting an error ends nobody else, and nothing of the message is printed", async () => {
  const printed: unknown[] = [];
  const printing = console.error;
  console.error = (...parts: unknown[]) => void printed.push(...parts);
  const system = openSystem();
  const branch = system.branch(system.root, "branch");
  const onFailure = () => {
    throw new Error("the report failed too");
  };
  const failing = system.spawn<null>(branch, "failing", options({ onFailure }), () => {
    throw new Error("first");
  });
  let seen = 0;
  const sibling = system.spawn<null>(branch, "sibling", options(), () => void (seen += 1));
  failing.tell(null);
  await eventually("the failing one is gone", () => failing.tell(null) === "gone");
  await sleep(50);
  sibling.tell(null);
  await eventually("the sibling lives", () => seen === 1);
  let late = 0;
  system.spawn<null>(branch, "another", options(), () => void (late += 1)).tell(null);
  await eventually("others can be spawned beside it", () => late === 1);
  console.error = printing;
  assert.equal(printed, []);
});

test("a turn over its deadline is aborted and reported once, whatever it does afterwards", async () => {
  const system = openSystem();
  const told = options({ turnMs: 50 });
  let aborted = false;
  let ended = false;
  const address = system.spawn<null>(system.root, "stuck", told, async (_message, signal) => {
    signal.addEventListener("abort", () => {
      aborted = true;
    });
    await sleep(150);
    ended = true;
    throw new Error("a late failure of an actor that is gone");
  });
  address.tell(null);
  address.tell(null);
  await eventually("the overrun is reported", () => told.failures.length > 0);
  assert.instance(told.failures[0], TurnOverran);
  assert.is(aborted, true);
  assert.is(address.tell(null), "gone");
  await eventually("the turn's own end comes", () => ended);
  await sleep(20);
  assert.is(told.failures.length, 1);
  assert.equal([system.depth(), system.actors()], [0, 0]);
});

test("a turn that keeps its deadline is never aborted", async () => {
  const system = openSystem();
  const told = options({ turnMs: 500 });
  const signals: AbortSignal[] = [];
  const address = system.spawn<null>(system.root, "in-time", told, async (_message, signal) => {
    signals.push(signal);
    await sleep(5);
  });
  for (let n = 0; n < 5; n += 1) address.tell(null);
  await eventually("all turns are over", () => signals.length === 5 && system.depth() === 0);
  await sleep(600);
  assert.is(
    signals.some((signal) => signal.aborted),
    false,
  );
  assert.equal(told.failures, []);
});

test("an actor that stops itself finishes its turn, takes no more, and a fault after that is nobody's", async () => {
  const system = openSystem();
  const told = options();
  const seen: string[] = [];
  const address: Address<string> = system.spawn<string>(system.root, "leaving", told, async (message) => {
    seen.push(message);
    address.stop();
    address.stop();
    await turn();
    throw new Error("after it stopped");
  });
  for (const message of ["a", "b", "c"]) address.tell(message);
  await eventually("it has had its turn", () => seen.length === 1);
  assert.is(address.tell("d"), "gone");
  await sleep(20);
  assert.equal(seen, ["a"]);
  assert.equal(told.failures, []);
  assert.equal([system.depth(), system.actors()], [0, 0]);
});

test("a name may come back at once, inside the last turn of the actor that had it, and twice", async () => {
  const system = openSystem();
  const seen: string[] = [];
  const first: Address<string> = system.spawn<string>(system.root, "name", options(), (message) => {
    seen.push(`first ${message}`);
    first.stop();
    for (const which of ["second", "third"]) {
      system.spawn<string>(system.root, "name", options(), (more) => void seen.push(`${which} ${more}`)).tell("b");
    }
  });
  first.tell("a");
  await eventually("all have had their turn", () => seen.length === 3);
  assert.equal(seen, ["first a", "second b", "third b"]);
});

test("a closed system tells that it is gone and counts nothing", async () => {
  const system = openSystem();
  let seen = 0;
  const address = system.spawn<null>(system.root, "actor", options(), async () => {
    seen += 1;
    await sleep(20);
  });
  for (let n = 0; n < 5; n += 1) address.tell(null);
  await eventually("the first is in its turn", () => seen === 1);
  system.close();
  assert.is(address.tell(null), "gone");
  await sleep(100);
  assert.is(seen, 1);
  assert.is(system.depth(), 0);
  address.stop();
  system.close();
});

test("a system is idle when every turn is over and no mailbox holds anything, or the time is up", async () => {
  const system = openSystem();
  let seen = 0;
  const second = system.spawn<null>(system.root, "second", options(), async () => {
    await sleep(30);
    seen += 1;
  });
  const first = system.spawn<null>(system.root, "first", options(), async () => {
    await sleep(30);
    second.tell(null);
  });
  first.tell(null);
  first.tell(null);
  await system.idle(5_000);
  assert.is(seen, 2, "what a turn tells another is part of it");
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  let ended = false;
  const patient = options({ turnMs: 60_000 });
  const stuck = system.spawn<null>(system.root, "stuck", patient, () => held.then(() => void (ended = true)));
  stuck.tell(null);
  try {
    await eventually("idle gives up", () => system.idle(50).then(() => true));
    assert.is(ended, false);
  } finally {
    release();
  }
});

test("ten thousand leaves under 256 shards take a hundred thousand messages", async () => {
  const system = openSystem();
  const shards = Array.from({ length: 256 }, (_, n) => system.branch(system.root, `shard-${n}`));
  let seen = 0;
  const leaves = Array.from({ length: 10_000 }, (_, n) =>
    system.spawn<number>(shards[n % 256]!, `leaf-${n}`, options(), () => void (seen += 1)),
  );
  assert.is(system.actors(), 10_000);
  for (let round = 0; round < 10; round += 1) for (const leaf of leaves) leaf.tell(round);
  assert.is(system.depth(), 100_000);
  await eventually("all are seen", () => seen === 100_000, 20_000);
  assert.is(system.depth(), 0);
  for (const leaf of leaves) leaf.stop();
  assert.is(system.actors(), 0);
});

test("addresses take what their actor takes: more is fine, less or other is refused by the compiler", () => {
  const system = openSystem();
  type Small = { kind: "small" };
  type Large = { kind: "large" };
  const both = system.spawn<Small | Large>(system.root, "both", options(), () => {});
  const small = system.spawn<Small>(system.root, "small", options(), () => {});
  const narrowed: Address<Small> = both;
  // @ts-expect-error an actor of small ones must not be handed out as one that takes large ones too
  const widened: Address<Small | Large> = small;
  // @ts-expect-error nor as one of large ones
  const swapped: Address<Large> = small;
  // @ts-expect-error a message of another kind
  small.tell({ kind: "large" });
  // @ts-expect-error a message with a part missing
  small.tell({});
  assert.is(narrowed.tell({ kind: "small" }), "queued");
  assert.equal([widened.name, swapped.name], ["small", "small"]);
});

test.run();
