import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { choosePrimary, type ServerView, standbysRequired } from "../persistence/primary-choice.ts";

const STATES = ["unknown", "down", "standby", "read-only", "stalled", "writable"] as const;

function server(url: string, state: ServerView["state"], timeline: number | null = null, system = "1"): ServerView {
  return { url, state, system, timeline, at: 0, committedAt: 0, replication: null };
}

function urlOf(
  servers: readonly ServerView[],
  used: string | null = null,
  known: ReadonlyMap<string, number> = new Map(),
) {
  const last = used === null ? null : { url: used, system: "1" };
  const { primary, refused } = choosePrimary(servers, last, known);
  return [primary?.url ?? null, refused.map((one) => `${one.server.url} ${one.why}`)];
}

test("no server is chosen that does not write", () => {
  assert.equal(
    urlOf([server("a", "standby"), server("b", "down"), server("c", "read-only", 1), server("d", "unknown")]),
    [null, []],
  );
});

test("the one of the highest timeline is chosen, wherever it stands in the list, and the other refused", () => {
  const [old, now] = [server("a", "writable", 1), server("b", "writable", 2)];
  assert.equal(urlOf([old, now]), ["b", ["a older timeline"]]);
  assert.equal(urlOf([now, old]), ["b", ["a older timeline"]]);
});

test("the primary in use is left for one of a higher timeline, though it writes", () => {
  assert.equal(urlOf([server("a", "writable", 1), server("b", "writable", 2)], "a"), ["b", ["a older timeline"]]);
});

test("one that writes on an older timeline than was ever seen is refused, though no other is there", () => {
  assert.equal(urlOf([server("a", "writable", 3), server("b", "down")], null, new Map([["1", 4]])), [
    null,
    ["a older timeline"],
  ]);
});

test("one whose commits hang, or that takes no writes, keeps an older one from being chosen", () => {
  assert.equal(urlOf([server("a", "writable", 1), server("b", "stalled", 2)]), ["b", ["a older timeline"]]);
  assert.equal(urlOf([server("a", "writable", 1), server("b", "read-only", 2)], "a"), [null, ["a older timeline"]]);
});

test("of two that write on one timeline the one in use is kept, and the other refused", () => {
  const both = [server("a", "writable", 2), server("b", "writable", 2)];
  assert.equal(urlOf(both, "b"), ["b", ["a second of its timeline"]]);
  assert.equal(urlOf(both, null), ["a", ["b second of its timeline"]]);
});

test("a server of another cluster is not taken for a primary that is away, and its timeline says nothing of the other's", () => {
  const stray = server("b", "writable", 9, "2");
  assert.equal(urlOf([server("a", "down", null), stray], "a", new Map([["1", 7]])), [null, ["b another cluster"]]);
  assert.equal(urlOf([server("a", "writable", 1), stray], "a"), ["a", ["b another cluster"]]);
  assert.equal(urlOf([server("a", "writable", 1), stray]), ["a", ["b another cluster"]]);
});

test("another cluster is taken at the start, and where it took the primary's own address", () => {
  const other = server("a", "writable", 1, "2");
  assert.equal(urlOf([other, server("b", "down")]), ["a", []]);
  assert.equal(urlOf([other, server("b", "down")], "a"), ["a", []]);
  assert.equal(urlOf([other, server("b", "writable", 3)], "a"), ["b", ["a another cluster"]]);
});

test("whatever servers say: the chosen writes, on the highest timeline ever seen of its cluster, and what is known never falls", () => {
  const timeline = fc.integer({ min: 1, max: 4 });
  const system = fc.constantFrom("1", "2");
  const view = fc.record({ state: fc.constantFrom(...STATES), timeline, system });
  const views = fc.array(view, { maxLength: 4 });
  const known = fc.uniqueArray(fc.tuple(system, timeline), { selector: ([name]) => name });
  fc.assert(
    fc.property(views, known, fc.option(fc.constantFrom("0", "1", "2", "3")), (told, before, used) => {
      const servers = told.map((one, index) =>
        server(
          `${index}`,
          one.state,
          ["unknown", "down", "standby"].includes(one.state) ? null : one.timeline,
          one.system,
        ),
      );
      const last = used === null ? null : { url: used, system: used === "0" ? "2" : "1" };
      const { primary, refused, timelines } = choosePrimary(servers, last, new Map(before));
      for (const [name, highest] of before) assert.ok(timelines.get(name)! >= highest);
      for (const one of servers) if (one.timeline !== null) assert.ok(timelines.get(one.system!)! >= one.timeline);
      const writing = servers.filter(({ state }) => state === "writable" || state === "stalled");
      const highest = writing.filter((one) => one.timeline === timelines.get(one.system!));
      const allowed = highest.filter(({ url, system }) => last === null || url === last.url || system === last.system);
      assert.is(primary === null, allowed.length === 0, "one is chosen wherever one may be");
      if (primary !== null) assert.ok(allowed.includes(primary));
      for (const one of refused) assert.is.not(one.server, primary);
      // Asked again with what it learnt, it chooses the same.
      assert.is(choosePrimary(servers, primary ?? last, timelines).primary, primary);
    }),
    { numRuns: 2_000 },
  );
});

test("how many standbys a commit waits for is read from the setting as Postgres reads it", () => {
  const table: readonly [string, number][] = [
    ["", 0],
    ["  ", 0],
    ["*", 1],
    ["a", 1],
    ["a, b", 1],
    ["ANY 1 (a, b)", 1],
    ["any 2(a, b, c)", 2],
    ["FIRST 2 (a, b, c)", 2],
    ["2 (a, b)", 2],
    ['"second 2 (x)"', 1],
  ];
  for (const [names, required] of table) assert.is(standbysRequired(names), required, names);
});

test.run();
