/** What a start leaves on disk for this machine's commands. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { writeRunFile } from "../welcome.ts";

const running = {
  node: "a",
  url: "http://127.0.0.1:1",
  mxpp: { plain: null, tls: null },
  metricsUrl: "http://127.0.0.1:2",
  emulatorUrl: null,
  adminKey: "a key",
};

test("run.json is its owner's alone, whatever lay in its place or in its making's", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-run-"));
  const [path, making, elsewhere] = ["run.json", "run.json.new", "elsewhere"].map((name) => join(folder, name));
  const mode = () => statSync(path!).mode & 0o777;
  try {
    for (const left of [path!, making!]) {
      writeFileSync(left, "left by somebody");
      chmodSync(left, 0o666);
    }
    await writeRunFile(folder, running);
    assert.is(mode(), 0o600);
    writeFileSync(elsewhere!, "untouched");
    symlinkSync(elsewhere!, making!);
    await writeRunFile(folder, running);
    assert.is(mode(), 0o600);
    assert.is(readFileSync(elsewhere!, "utf8"), "untouched");
    assert.is(JSON.parse(readFileSync(path!, "utf8")).adminKey, "a key");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
