/** The command line as a whole: help, exit codes, wrong lines, and the runtime it needs. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../cli/exit.ts";
import { readRun } from "../cli/server.ts";
import { openCommandLine } from "./helpers/command-line.ts";
import { eventually } from "./helpers/eventually.ts";

const { folder, dataDir, runs, starts, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

test("help names every command and where the exit codes are", async () => {
  const { code, out } = await runs(["--help"]);
  assert.is(code, 0);
  for (const word of ["start", "page", "phone", "trace", "emulator", "doctor", "--json", "help exit-codes"])
    assert.match(out, word);
});

test("every exit code is documented", async () => {
  const { code, out } = await runs(["help", "exit-codes"]);
  assert.is(code, 0);
  for (const value of Object.values(EXIT)) assert.match(out, new RegExp(`^ +${value} {2}\\S`, "m"));
});

for (const [args, words] of [
  [[], "Usage: tocsin"],
  [["page", "1001"], "missing required argument 'text'"],
  [["page", "1001", "x", "--priority", "urgent"], "It is one of high, medium, low"],
  [["page", "1001", "x", "--timeout", "-1"], "a number of seconds"],
  [
    ["page", "1001", "x", "--until", "SEEN"],
    "ACCEPTED, QUEUED, ENROUTE, DELIVERED, READ, ACKNOWLEDGED, IGNORED, FAILED",
  ],
  [["page", "1001", "x", "--mxpp", "nowhere"], "HOST:PORT"],
  [["page", "1001", " ", "--mxpp", "127.0.0.1:9", "--host", "lab"], "the text of the page is empty"],
  [["phone", "--code", "c"], "--code needs --site and --destination"],
  [["emulator", "--port", "x"], "--port takes a port"],
  [["tarce", "last"], "unknown command 'tarce'"],
] as const) {
  test(`a wrong command line is exit code 64: tocsin ${args.join(" ")}`, async () => {
    const { code, out, err } = await runs(args);
    assert.is(code, 64);
    assert.is(out, "");
    assert.match(err, words);
  });
}

test("where nothing runs, every command that needs a server says what to type, with exit code 69", async () => {
  for (const args of [["page", "1001", "x"], ["trace", "last"], ["phone"]]) {
    const { code, err } = await runs(args);
    assert.is(code, 69, args.join(" "));
    assert.match(err, "no server runs on");
    assert.match(err, "npx tocsin start");
  }
});

test("a server that ended without tidying up does not run", async () => {
  const gone = starts(["--version"]);
  await gone.ended;
  serverRuns({ pid: gone.child.pid, mxpp: { host: "127.0.0.1", port: 9 } });
  assert.is(readRun(dataDir), null);
  assert.is((await runs(["page", "1001", "x"])).code, 69);
});

test("on a Node that cannot run it, the command runs itself on the one installed with it, signals and exit code included", async () => {
  const other = join(folder, "node");
  copyFileSync(process.execPath, other);
  const node = [other, "--no-strip-types"] as const;
  const version = await runs(["--version"], { node });
  assert.is(version.code, 0, version.err);
  assert.match(version.out, /^\d+\.\d+\.\d+\n$/);
  assert.is((await runs(["page", "1001"], { node })).code, 64);
  const emulator = starts(["emulator", "--port", "0", "--json"], { node });
  await eventually("it is up", () => emulator.records()[0], 15_000);
  emulator.child.kill("SIGTERM");
  assert.is((await emulator.ended).code, 0);
});

test("where that one does not do either, it says so plainly", async () => {
  const { code, err } = await runs(["--version"], { node: [process.execPath, "--no-strip-types"] });
  assert.is(code, 69);
  assert.match(err, /Tocsin needs Node 24 or newer, with type stripping on.*Type: npm install/);
});

test.run();
