import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { RULES } from "./helpers/architecture.ts";

const ROOT = join(import.meta.dirname, "..");
const files = globSync("**/*.{ts,tsx,js,mjs}", {
  cwd: ROOT,
  exclude: (path) => /^(node_modules|coverage|\..*)$/.test(path),
});
const house = new Map(files.map((path) => [path.replaceAll("\\", "/"), readFileSync(join(ROOT, path), "utf8")]));

type RuleName = keyof typeof RULES;

/** Sources that break a rule, each alone, and sources that look like it and do not. */
const trials: Record<RuleName, { bad: Record<string, string>[]; good: Record<string, string>[] }> = {
  importsRunOneWay: {
    bad: [
      { "persistence/a.ts": 'import { b } from "../cluster/b.ts";' },
      { "cluster/a.ts": 'import type { B } from "../actors/b.ts";' },
      { "actors/a.ts": 'import {\n  b,\n} from "../gateways/mxpp/b.ts";' },
      { "gateways/mxpp/a.ts": 'export { b } from "../../main.ts";' },
      { "domain.ts": 'import "./persistence/b.ts";' },
      { "cluster/a.ts": 'const b = await import("../gateways/b.ts");' },
    ],
    good: [
      { "main.ts": 'import { a } from "./gateways/a.ts"; import { b } from "./persistence/b.ts";' },
      { "gateways/mxpp/a.ts": 'import { b } from "../../persistence/b.ts";\nimport { c } from "../../log.ts";' },
      { "persistence/a.ts": '// import { b } from "../cluster/b.ts";\nimport { c } from "./c.ts";' },
    ],
  },
  roomsImportNothingFromOutside: {
    bad: [
      { "gateways/a.ts": 'import { b } from "../cli/b.ts";' },
      { "actors/a.ts": 'import type { B } from "../test/helpers/b.ts";' },
    ],
    good: [{ "cli/a.ts": 'import { b } from "../gateways/mxpp/b.ts";' }],
  },
  settingsArriveAsSlices: {
    bad: [{ "gateways/a.ts": 'import { readConfig } from "../config.ts";' }],
    good: [
      { "gateways/a.ts": 'import type { Config } from "../config.ts";' },
      { "main.ts": 'import { readConfig } from "./config.ts";' },
      { "cli/a.ts": 'import { readConfig } from "../config.ts";' },
    ],
  },
  gatewaysMeetByType: {
    bad: [
      { "gateways/mxpp/a.ts": 'import { b } from "../push/b.ts";' },
      { "gateways/mxpp/a.ts": 'import { type B } from "../push/b.ts";' },
      { "gateways/http.ts": 'import { b } from "./client/b.ts";' },
    ],
    good: [
      { "gateways/mxpp/a.ts": 'import type { B } from "../push/b.ts";' },
      { "gateways/mxpp/a.ts": 'import { b } from "./b.ts"; import { c } from "../c.ts";' },
    ],
  },
  commandLineStaysOutside: {
    bad: [{ "cli/a.ts": 'import { b } from "../actors/b.ts";' }],
    good: [{ "cli/a.ts": 'import { b } from "../gateways/mxpp/b.ts"; import "../main.ts";' }],
  },
  clientStandsAlone: {
    bad: [
      { "sdk/a.ts": 'import type { Receipt } from "../domain.ts";' },
      { "sdk/a.ts": 'import { WebSocket } from "ws";' },
      { "sdk/a.ts": 'import { readFile } from "node:fs/promises";' },
    ],
    good: [
      { "sdk/a.ts": 'import { b } from "./b.ts";', "sdk/file-storage.ts": 'import { open } from "node:fs/promises";' },
      { "cli/a.ts": 'import { openClient } from "../sdk/index.ts";' },
    ],
  },
  onlyOneFileKnowsNact: {
    bad: [{ "actors/a.ts": 'import { spawn } from "nact";' }, { "actors/a.ts": 'import type { Ref } from "nact";' }],
    good: [{ "cluster/actor-system.ts": 'import { spawn } from "nact";' }],
  },
  onlyTwoFilesKnowRedis: {
    bad: [
      { "gateways/push/a.ts": 'import { Redis } from "ioredis";' },
      { "cluster/a.ts": 'import { Queue } from "bullmq";' },
      { "cluster/a.ts": 'const { Queue } = await import("bullmq");' },
    ],
    good: [
      {
        "persistence/push-queue.ts": 'import { Queue } from "bullmq";',
        "cluster/bus.ts": 'import { Redis } from "ioredis";',
      },
      { "test/a.test.ts": 'import { Redis } from "ioredis";' },
    ],
  },
  sqlLivesInPersistence: {
    bad: [
      { "actors/a.ts": "await sql`refresh`;" },
      { "actors/a.ts": "await sql<Row[]>`x`;" },
      { "gateways/a.ts": 'query("select id from page");' },
      { "gateways/a.ts": "query(`\n  insert into page values (1)`);" },
      { "cluster/a.ts": "query('UPDATE core.page SET a = 1');" },
      { "cli/a.ts": 'query("delete from page");' },
      { "cluster/a.ts": "query(`with due as (select 1)`);" },
    ],
    good: [
      { "persistence/a.ts": "await sql`select 1`;" },
      { "gateways/a.ts": '/** "select id from page" */ say("select a device, update it with care");' },
      { "gateways/a.ts": 'say("with this as a start"); say("selected rows"); say("update the app to set this");' },
    ],
  },
  noTransactionsInTheRunningSystem: {
    bad: [
      { "persistence/a.ts": "await sql.begin(async (tx) => {});" },
      { "persistence/a.ts": "const held = await sql\n  .reserve();" },
      { "actors/a.ts": "await database.begin<void>(run);" },
    ],
    good: [
      { "persistence/migrate.ts": "await sql.begin(run);" },
      { "persistence/a.ts": "// never sql.begin(run)\nlist.beginning(1);" },
    ],
  },
  environmentIsReadOnce: {
    bad: [{ "gateways/a.ts": "const key = process.env.KEY;" }, { "persistence/a.ts": "const { env } = process;" }],
    good: [
      { "config.ts": "process.env.A;", "main.ts": "readConfig(process.env);", "cli/a.ts": "process.env.NO_COLOR" },
      { "test/a.test.ts": "process.env.TMPDIR", "gateways/a.ts": "// process.env" },
    ],
  },
  filesStaySmall: {
    bad: [{ "actors/a.ts": "x\n".repeat(351) }],
    good: [{ "actors/a.ts": "x\n".repeat(350) }],
  },
  noCircles: {
    bad: [
      { "actors/a.ts": 'import { b } from "./b.ts";', "actors/b.ts": 'import { a } from "./a.ts";' },
      {
        "actors/a.ts": 'import "./b.ts";',
        "actors/b.ts": 'export * from "./c.ts";',
        "actors/c.ts": 'import { a } from "./a.ts";',
      },
    ],
    good: [
      { "actors/a.ts": 'import { b } from "./b.ts";', "actors/b.ts": 'import type { A } from "./a.ts";' },
      { "actors/a.ts": 'import "./c.ts";', "actors/b.ts": 'import "./c.ts"; import "./a.ts";', "actors/c.ts": "" },
    ],
  },
};

for (const [name, { bad, good }] of Object.entries(trials) as [RuleName, (typeof trials)[RuleName]][]) {
  const rule = RULES[name];
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

  test(`the house keeps the rule: ${words}`, () => {
    assert.is(rule(house).join("\n"), "");
  });

  test(`the rule catches what breaks it: ${words}`, () => {
    for (const sources of bad) {
      const found = rule(new Map(Object.entries(sources)));
      assert.is(found.length, 1, `${JSON.stringify(sources)} gave ${JSON.stringify(found)}`);
      assert.ok(Object.keys(sources).some((path) => found[0]?.startsWith(path)));
    }
    for (const sources of good) assert.equal(rule(new Map(Object.entries(sources))), [], JSON.stringify(sources));
  });
}

test("the house was really read", () => {
  for (const path of ["main.ts", "domain.ts", "persistence/migrate.ts", "cluster/actor-system.ts", "cli/tocsin.js"]) {
    assert.ok(house.has(path), path);
  }
  assert.not.ok([...house.keys()].some((path) => path.includes("node_modules")));
});

test.run();
