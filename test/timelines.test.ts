/** What a node remembers of its databases' timelines. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { silentLog } from "../log.ts";
import { openTimelines } from "../persistence/timelines.ts";
import { recordLog } from "./helpers/log-record.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-timelines-"));
test.after(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "data", "timelines");
const ports = { log: silentLog };

test("what was seen is there after a restart, and never falls", () => {
  const memory = openTimelines(file, ports);
  memory.learn(new Map([["7301", 3]]));
  memory.learn(
    new Map([
      ["7301", 2],
      ["7302", 1],
    ]),
  );
  assert.equal(
    [...memory.seen()],
    [
      ["7301", 3],
      ["7302", 1],
    ],
  );
  assert.equal(
    [...openTimelines(file, ports).seen()],
    [
      ["7301", 3],
      ["7302", 1],
    ],
  );
  assert.equal(readdirSync(join(folder, "data")), ["timelines"], "no draft is left");
});

test("two that keep the same file lose nothing of each other's", () => {
  const [one, other] = [openTimelines(file, ports), openTimelines(file, ports)];
  one.learn(new Map([["7301", 5]]));
  other.learn(new Map([["7302", 4]]));
  assert.equal(
    [...other.seen()],
    [
      ["7301", 5],
      ["7302", 4],
    ],
  );
  assert.equal(
    [...openTimelines(file, ports).seen()],
    [
      ["7301", 5],
      ["7302", 4],
    ],
  );
});

test("a file that cannot be read is as none, and one that cannot be written is an alarm and no end", () => {
  const torn = join(folder, "torn");
  writeFileSync(torn, "7301 3\nno line of ours\n73");
  assert.equal([...openTimelines(torn, ports).seen()], [["7301", 3]]);
  const { log, lines } = recordLog();
  writeFileSync(join(folder, "file"), "");
  const memory = openTimelines(join(folder, "file", "timelines"), { log });
  memory.learn(new Map([["7301", 2]]));
  assert.equal([...memory.seen()], [["7301", 2]], "known for as long as the process lives");
  assert.equal(
    lines.map(({ level }) => level),
    ["error"],
  );
});

test("of more clusters than anybody goes through the oldest are forgotten", () => {
  const many = join(folder, "many");
  const memory = openTimelines(many, ports);
  for (let n = 0; n < 40; n += 1) memory.learn(new Map([[`${n}`, 1]]));
  assert.is(memory.seen().size, 16);
  assert.is(readFileSync(many, "utf8").split("\n").length, 17);
});

test.run();
