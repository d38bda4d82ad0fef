import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { clockText, openOutput, printable, spanText, tableLines, widthOf, wrap } from "../cli/output.ts";
import { cardLines, priorityOf } from "../cli/phone-screen.ts";
import type { AmcMessage } from "../sdk/index.ts";

function streams(isTTY: boolean, columns = 80) {
  const out: string[] = [];
  const err: string[] = [];
  return {
    written: () => ({ out: out.join(""), err: err.join("") }),
    stdout: { isTTY, columns, write: (text: string) => out.push(text) },
    stderr: { write: (text: string) => err.push(text) },
  };
}

const plain = openOutput(false, streams(true), { NO_COLOR: "1" });

test("lines are for people and records for programs, never both", () => {
  const people = streams(false);
  const forPeople = openOutput(false, people, {});
  forPeople.line("hello");
  forPeople.record({ a: 1 });
  assert.is(people.written().out, "hello\n");
  const programs = streams(false);
  const forPrograms = openOutput(true, programs, {});
  forPrograms.line("hello");
  forPrograms.record({ a: 1 });
  forPrograms.note("beside");
  assert.is(programs.written().out, '{"a":1}\n');
  assert.is(programs.written().err, "beside\n");
});

for (const [what, isTTY, env, json, coloured] of [
  ["a terminal", true, {}, false, true],
  ["a pipe", false, {}, false, false],
  ["NO_COLOR", true, { NO_COLOR: "1" }, false, false],
  ["an empty NO_COLOR", true, { NO_COLOR: "" }, false, true],
  ["a dumb terminal", true, { TERM: "dumb" }, false, false],
  ["--json", true, {}, true, false],
] as const) {
  test(`colour with ${what}: ${coloured}`, () => {
    const output = openOutput(json, streams(isTTY), env);
    assert.is(output.paint("red", "x") !== "x", coloured);
  });
}

test("a page's text cannot command the terminal it is shown on", () => {
  assert.is(printable("\u001b[2Jgone"), "␛[2Jgone");
  assert.is(printable("a\u009b2Jb"), "a\ufffd2Jb");
  assert.is(printable("5\u202e0.5"), "5\ufffd0.5");
  assert.is(printable("one\r\ntwo\rthree\tfour"), "one\ntwo\nthree\tfour");
  assert.is(printable("Ünïcödé 血 \u200f"), "Ünïcödé 血 \u200f");
});

test("whatever a text holds, no control character but line feed and tab reaches the terminal", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      assert.not.match(printable(text), /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
    }),
  );
});

test("wrapping loses nothing but spaces at line ends and keeps within the width", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom("a", "b", " ", "血", "\n") }),
      fc.integer({ min: 2, max: 20 }),
      (text, room) => {
        const lines = wrap(text, room);
        for (const line of lines) assert.ok(widthOf(line) <= room, JSON.stringify([line, room]));
        assert.is(lines.join("").replaceAll(" ", ""), text.replace(/[ \n]/g, ""));
      },
    ),
  );
});

test("wrapping breaks at spaces", () => {
  assert.equal(wrap("call 4411 now", 9), ["call 4411", "now"]);
  assert.equal(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
  assert.equal(wrap("one\n\ntwo", 10), ["one", "", "two"]);
});

test("a table lines its columns up and wraps the last one under itself", () => {
  const output = openOutput(false, streams(true, 40), { NO_COLOR: "1" });
  const lines = tableLines(
    output,
    ["event", "detail"],
    [
      ["ACCEPTED", "x"],
      ["血", "a long detail that needs two lines"],
    ],
  );
  assert.equal(lines, [
    "event      detail",
    "ACCEPTED   x",
    "血         a long detail that needs two",
    "           lines",
  ]);
});

test("time spans are told in the unit that fits", () => {
  assert.equal([0.4, 12.3, 999, 1_000, 3_440, 60_000, 125_000].map(spanText), [
    "0 ms",
    "12 ms",
    "999 ms",
    "1.0 s",
    "3.4 s",
    "1 min",
    "2 min 5 s",
  ]);
});

test("a time that is none is shown as it came", () => {
  assert.is(clockText("\u001bsoon"), "␛soon");
  assert.match(clockText("2026-01-02T03:04:05Z"), /^\d\d:04:05$/);
});

const page: AmcMessage = {
  UniqueId: "00000000-0000-0000-0000-000000000001",
  Date: "2026-01-02T03:04:05.000Z",
  Text: "Bed 12: K+ 6.8\nCall 4411",
  Status: 0,
  SiteId: "",
  ConversationId: "",
  CallbackNumber: "",
  Priority: 1,
  MessageType: "",
  Assets: [],
  From: { Id: "17", Name: "Lab", ContactId: "" },
};

test("a card shows urgency, sender, place and every line of the text", () => {
  const lines = cardLines(plain, { ...page, Late: true }, 3, true);
  assert.match(lines[0]!, /^╭─ HIGH {2}#3 {2}\d\d:04:05 {2}from Lab {2}LATE$/);
  assert.equal(lines.slice(1, 3), ["│ Bed 12: K+ 6.8", "│ Call 4411"]);
  assert.is(lines[3], "╰─ r read · a accept · d decline");
});

test("a card without keys names none, and a nameless sender is told by id", () => {
  const lines = cardLines(plain, { ...page, From: { Id: "17", Name: "", ContactId: "" } }, 1, false);
  assert.match(lines[0]!, /from 17$/);
  assert.is(lines.at(-1), "╰─");
});

test("priority is read as a number from 1 and as a word", () => {
  const read = (Priority: string | number) => priorityOf({ ...page, Priority });
  assert.equal([1, 2, 3, "High", "low", 0, 4, "stat"].map(read), [
    "high",
    "medium",
    "low",
    "high",
    "low",
    null,
    null,
    null,
  ]);
});

test.run();
