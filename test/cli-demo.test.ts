// limit: 180 s
/** `tocsin demo` as a newcomer types it: no Postgres, no Redis; nothing of it stays. */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DemoResult } from "../cli/demo-run.ts";
import { openCommandLine } from "./helpers/command-line.ts";
import { eventually } from "./helpers/eventually.ts";

const { runs, starts, folder, close } = openCommandLine();
test.after(close);

/** Where the demo makes its folder. */
const temporary = join(folder, "tmp");
mkdirSync(temporary, { mode: 0o711 });
const env = { TMPDIR: temporary };

test("with a node killed in the middle, every page goes its way, and the figures say how", async () => {
  const { code, out, err } = await runs(["demo", "--nodes", "3", "--pages", "60", "--rate", "15", "--kill", "--json"], {
    env,
  });
  assert.is(code, 0, `${out}\n${err}`);
  const { nodes, pages, stages, killed } = JSON.parse(out) as DemoResult;
  assert.is(nodes, 3);
  assert.equal(pages, { sent: 60, accepted: 60, delivered: 60, read: 60, failed: 0, lost: 0, doubled: 0 });
  assert.is(stages.length, 12);
  for (const priority of ["high", "medium", "low"]) {
    const [accepted, enroute, delivered, read] = stages.filter((stage) => stage.priority === priority);
    assert.equal(
      [accepted?.status, enroute?.status, delivered?.status, read?.status],
      ["ACCEPTED", "ENROUTE", "DELIVERED", "READ"],
    );
    assert.is(accepted!.pages, 20);
    assert.is(read!.pages, 20);
    assert.ok(accepted!.p50Ms! <= accepted!.p95Ms! && accepted!.p95Ms! <= accepted!.maxMs!);
    assert.ok(read!.p50Ms! > 200, "somebody has looked at the page");
    assert.ok(accepted!.p50Ms! < read!.p50Ms!);
  }
  assert.is(killed!.node, "node-2");
  assert.is(killed!.hosts, 2);
  assert.ok(killed!.hostsServedMs! > 0, JSON.stringify(killed));
  assert.type(killed!.pagesMovedMs, "number");
  assert.equal(readdirSync(temporary), []);
});

test("Ctrl-C ends all of it", async () => {
  const { child, ended } = starts(["demo", "--nodes", "2", "--pages", "1000"], { env });
  await eventually("the demo has begun", () => readdirSync(temporary).length > 0, 20_000);
  await eventually(
    "its nodes are being started",
    () => readdirSync(join(temporary, readdirSync(temporary)[0]!)).includes("node-1"),
    30_000,
  );
  child.kill("SIGINT");
  const { code, err } = await ended;
  assert.is(code, 130, err);
  assert.equal(readdirSync(temporary), []);
});

test("what makes no sense is refused before anything is started", async () => {
  for (const args of [
    ["--nodes", "10"],
    ["--nodes", "1", "--kill"],
    ["--pages", "0"],
    ["--rate", "fast"],
    ["--pages", "9", "--seconds", "9"],
  ]) {
    const { code } = await runs(["demo", ...args], { env });
    assert.is(code, 64, args.join(" "));
  }
  assert.equal(readdirSync(temporary), []);
});

test("a node that does not start says why, by the last line of its log", async () => {
  const { code, err } = await runs(["demo", "--nodes", "1", "--redis", "nonsense"], { env });
  assert.is(code, 69);
  assert.match(err, /^tocsin: node-1 did not start: tocsin: TOCSIN_REDIS_URL: must be /m);
  assert.equal(readdirSync(temporary), []);
});

test.run();
