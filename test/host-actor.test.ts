import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type Effect,
  type HostPorts,
  hostActor,
  KEPT_MS,
  type Message,
  openedLink,
  PAGE_ROWS,
  type State,
  step,
  UNCONFIRMED_MAX,
} from "../actors/host.ts";
import type { HostSystemId, LinkId, ReplyId, UniqueId } from "../domain.ts";
import type { News, NewsPage } from "../persistence/outbox.ts";

const HOST = "host" as HostSystemId;
const LINK = "link" as LinkId;

function news(id: number, written = 1): News {
  const page = { at: 0, origin: "", source: "", trackingId: "", systemId: "" };
  const told = { kind: "status", status: "QUEUED", replyId: null, reason: null } as const;
  return { ...page, ...told, id: String(id), written: String(written), uniqueId: `page-${id}` as UniqueId };
}
const page = (rows: readonly News[], oldestRunning = "9"): NewsPage => ({
  ...{ snapshot: "s", oldestRunning, news: rows },
  next: rows.length === PAGE_ROWS ? rows.at(-1)!.id : null,
});
const fullPage = (from: number) => Array.from({ length: PAGE_ROWS }, (_, n) => news(from + n));

// The step, by itself.

const look = { snapshot: "s", oldestRunning: "9", afterId: "7" };
const tick = (more: Partial<Message & { kind: "tick" }> = {}): Message => ({
  kind: "tick",
  acknowledged: 0,
  writable: true,
  now: 0,
  ...more,
});
const first = { kind: "look", cursor: "0", afterId: "0", snapshot: null };
const next = { kind: "look", cursor: "0", afterId: "7", snapshot: "s" };
const claim = { kind: "claim" };
const table: [string, Partial<State>, Message, Partial<State>, object[]][] = [
  ["news at rest is looked for", {}, { kind: "news", unclaimed: false }, {}, [first]],
  ["news in the host's lane is claimed first", {}, { kind: "news", unclaimed: true }, {}, [claim, first]],
  ["news while looking is kept in mind", { look }, { kind: "news", unclaimed: false }, { look, again: true }, []],
  [
    "news while full is kept in mind, and claimed",
    { full: true },
    { kind: "news", unclaimed: true },
    { full: true, again: true },
    [claim],
  ],
  ["a drained socket at rest is looked for", { full: true }, { kind: "drained" }, { full: false }, [first]],
  ["a drained socket goes on with its look", { full: true, look }, { kind: "drained" }, { full: false, look }, [next]],
  ["a tick at rest does nothing", {}, tick(), {}, []],
  ["a tick makes up for a drain that was lost at rest", { full: true }, tick(), { full: false }, [first]],
  ["a tick goes on with a look", { look }, tick(), { look }, [next]],
  ["a tick leaves a full socket alone", { full: true }, tick({ writable: false }), { full: true }, []],
  ["a tick makes up for a lost drain", { full: true, look }, tick(), { full: false, look }, [next]],
  ["an empty look moves the cursor", {}, { kind: "looked", page: page([]), now: 5 }, { cursor: "9" }, []],
  [
    "the end of a look moves the cursor to its beginning",
    { look },
    { kind: "looked", page: page([], "12"), now: 5 },
    { cursor: "9" },
    [],
  ],
  [
    "news kept in mind is looked for at the end",
    { again: true },
    { kind: "looked", page: page([]), now: 5 },
    { cursor: "9", again: false },
    [{ ...first, cursor: "9" }],
  ],
];
for (const [name, before, message, after, effects] of table) {
  test(`step: ${name}`, () => {
    const stepped = step({ ...openedLink(), ...before }, message);
    assert.equal(stepped.state, { ...openedLink(), ...after });
    assert.equal(stepped.effects, effects);
  });
}

test("step: a full page is written and the look goes on behind it, on the same snapshot", () => {
  const rows = fullPage(1);
  const { state, effects } = step(openedLink(), { kind: "looked", page: page(rows), now: 5 });
  assert.equal(state.look, { snapshot: "s", oldestRunning: "9", afterId: String(PAGE_ROWS) });
  assert.is(state.cursor, "0");
  assert.equal(effects, [
    { kind: "write", news: rows },
    { kind: "look", cursor: "0", afterId: String(PAGE_ROWS), snapshot: "s" },
  ]);
});

test("step: what was written is not written again, and is forgotten when its bytes are acknowledged and it is old enough", () => {
  let { state, effects } = step(openedLink(), { kind: "looked", page: page([news(1), news(2)]), now: 100 });
  ({ state } = step(state, { kind: "wrote", news: [news(1), news(2)], end: 10 }));
  ({ state, effects } = step(state, { kind: "looked", page: page([news(1), news(2), news(3)]), now: 200 }));
  assert.equal(effects, [{ kind: "write", news: [news(3)] }]);
  const forgets = (message: Message) =>
    step(state, message).effects.flatMap((effect: Effect) =>
      effect.kind === "forget" ? effect.rows.map((row) => row.id) : [],
    );
  assert.equal(forgets(tick({ acknowledged: 99, now: 200 + KEPT_MS })), ["1", "2"], "the third is not written yet");
  ({ state } = step(state, { kind: "wrote", news: [news(3)], end: 15 }));
  assert.equal(forgets(tick({ acknowledged: 15, now: 99 + KEPT_MS })), []);
  assert.equal(forgets(tick({ acknowledged: 9, now: 500 + KEPT_MS })), []);
  assert.equal(forgets(tick({ acknowledged: 10, now: 500 + KEPT_MS })), ["1", "2"]);
  assert.equal(forgets(tick({ acknowledged: 15, now: 100 + KEPT_MS })), ["1", "2"]);
  assert.equal(forgets(tick({ acknowledged: 15, writable: false, now: 200 + KEPT_MS })), ["1", "2", "3"]);
  ({ state } = step(state, { kind: "forgotten", rows: [news(1), news(2)] }));
  assert.equal(
    [...state.unconfirmed.values()].map(({ id }) => id),
    ["3"],
  );
});

test("step: a reply to which another primary gave the number of one that was written is another, and is written", () => {
  const words = { text: "", destination: "", name: "", toId: "", deviceId: null, conversationId: "", siteId: "" };
  const reply = (replyId: string): News => {
    const { kind: _, status: __, replyId: ___, ...told } = news(1);
    return {
      ...told,
      kind: "reply",
      status: "REPLY",
      replyId: replyId as ReplyId,
      reply: { ...words, priority: "low" },
    };
  };
  let { state } = step(openedLink(), { kind: "looked", page: page([reply("a")]), now: 0 });
  ({ state } = step(state, { kind: "wrote", news: [reply("a")], end: 10 }));
  const { effects } = step(state, { kind: "looked", page: page([reply("a"), reply("b")]), now: 1 });
  assert.equal(effects, [{ kind: "write", news: [reply("b")] }]);
});

test("step: a busy half minute is forgotten in statements of bounded size", () => {
  const rows = Array.from({ length: 50_000 }, (_, n) => news(n + 1));
  let { state } = step(openedLink(), { kind: "looked", page: page(rows), now: 0 });
  ({ state } = step(state, { kind: "wrote", news: rows, end: 1 }));
  const { effects } = step(state, tick({ acknowledged: 1, writable: false, now: KEPT_MS }));
  const sizes = effects.flatMap((effect) => (effect.kind === "forget" ? [effect.rows.length] : []));
  assert.equal(sizes, new Array(10).fill(2_000));
});

/** A behaviour on a lane that always has more. */
function endless(
  more: { look?: HostPorts["look"]; write?: () => boolean; claims?: boolean[]; era?: () => number } = {},
) {
  let looks = 0;
  const later: Message[] = [];
  const { turn: behave, cursor } = hostActor({
    link: LINK,
    hostSystemId: HOST,
    now: () => 0,
    era: more.era ?? (() => 0),
    claim: async () => more.claims?.shift() ?? true,
    look: more.look ?? (async () => page(fullPage(1 + PAGE_ROWS * looks++))),
    forget: async () => {},
    write: () => ({ end: 0, more: more.write?.() ?? true }),
    later: (message) => later.push(message),
  });
  return { behave, cursor, looks: () => looks, later };
}

test("a lane that never ends does not keep the turn to itself", async () => {
  const { behave, looks, later } = endless();
  await behave({ kind: "news", unclaimed: false });
  assert.ok(looks() > 1 && looks() < 100);
  assert.equal(later, [{ kind: "drained" }]);
  const before = looks();
  await behave({ kind: "drained" });
  assert.ok(looks() > before);
});

test("a socket that takes no more stops the reading, until it has drained", async () => {
  const { behave, looks } = endless({ write: () => false });
  await behave({ kind: "news", unclaimed: false });
  assert.is(looks(), 1);
  await behave({ kind: "news", unclaimed: false });
  await behave(tick({ writable: false }));
  assert.is(looks(), 1);
  await behave({ kind: "drained" });
  assert.is(looks(), 2);
});

test("a claim that found more than it took is followed by another, behind other messages", async () => {
  const { behave, later } = endless({ claims: [false, true], write: () => false });
  await behave({ kind: "news", unclaimed: true });
  assert.equal(later, [{ kind: "news", unclaimed: true }]);
  await behave(later[0]!);
  assert.is(later.length, 1);
});

test("rows that are never acknowledged stop the reading before they fill the memory", async () => {
  let rows = 0;
  const { behave } = endless({
    look: async () => page(Array.from({ length: PAGE_ROWS * 100 }, () => news(++rows))),
  });
  await behave({ kind: "news", unclaimed: false });
  for (let more = 0; more < 100; more += 1) await behave({ kind: "news", unclaimed: false });
  assert.ok(rows >= UNCONFIRMED_MAX && rows < UNCONFIRMED_MAX + PAGE_ROWS * 100, String(rows));
});

test("another primary's transactions are not compared with the last one's: its lane is looked at from the beginning", async () => {
  let era = 1;
  const from: string[] = [];
  let during = () => {};
  const { behave, cursor } = endless({
    era: () => era,
    async look({ cursor }) {
      from.push(cursor);
      during();
      return { ...page([]), oldestRunning: "1261" };
    },
  });
  await behave({ kind: "news", unclaimed: false });
  assert.is(cursor(), "1261");
  era = 2;
  assert.is(cursor(), "0", "whoever asks for all links is told so before the link has had a turn");
  await behave({ kind: "news", unclaimed: false });
  assert.equal(from, ["0", "0"]);
  // One finds its answer when there is yet another primary.
  during = () => {
    era = 3;
  };
  await behave({ kind: "news", unclaimed: false });
  assert.is(cursor(), "0");
});

test("a fault that is not the database's absence ends the link", async () => {
  const { behave } = endless({ look: () => Promise.reject(new TypeError("a fault of ours")) });
  let thrown: unknown = null;
  await behave({ kind: "news", unclaimed: false }).catch((error) => {
    thrown = error;
  });
  assert.instance(thrown, TypeError);
});

test.run();
