import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readConfig, SETTINGS } from "../config.ts";
import { NPM_SCRIPTS } from "../script/help.ts";
import { envExample, settingsTable } from "../script/settings.ts";

function faults(env: NodeJS.ProcessEnv): readonly string[] {
  const reading = readConfig(env);
  return reading.ok ? [] : reading.faults;
}

function faulty(env: NodeJS.ProcessEnv): string[] {
  return faults(env).map((fault) => fault.split(":")[0] ?? "");
}

for (const [name, good, bad] of [
  ["TOCSIN_HTTP_PORT", ["-1", "0", "65535"], ["-2", "65536", "80a", "1.5", "0x50", "1e3"]],
  ["TOCSIN_NODE", ["a", "ward-7.example_1"], ["ü", "a b", "x".repeat(64)]],
  ["TOCSIN_RETENTION_DAYS", ["1", "3650"], ["0", "-1", "1.5", "3651", "forever"]],
  ["TOCSIN_SYNTHETIC_SECONDS", ["0", "1", "3600"], ["-1", "0.5", "3601"]],
  ["TOCSIN_INSECURE", ["true", "FALSE"], ["1", "yes"]],
  ["TOCSIN_LOG_LEVEL", ["silent", "warn"], ["verbose"]],
  [
    "TOCSIN_REDIS_URL",
    [
      "redis://h",
      "redis://:p@h:6379/2",
      "rediss://u:p@h:1",
      "redis-sentinel://a:1,b:2/m",
      "redis-sentinel://:pw@a:1/m",
      "redis-sentinel://u:p%40q@a:1,[::1]:2/m?sentinel=s:p%2Fq",
      "rediss-sentinel://a:1/m",
    ],
    [
      "h:6379",
      "redis://",
      "redis://h/name",
      "redis-sentinel://a:1,b:2",
      "redis-sentinel://a/m",
      "redis-sentinel://a:99999/m",
      "redis-sentinel://u:p:q@a:1/m",
      "redis-sentinel://u:p%@a:1/m",
      "redis-sentinel://a:1/m?sentinel=",
      "redis-sentinel://a:1/m?sentinel=s:%",
      "redis-sentinel://a:1/m?password=p",
      "redis://u:%@h",
    ],
  ],
  [
    "TOCSIN_PREMISE_DATABASE_URL",
    ["postgres://h/d", "postgres://u:p%2Cq@[::1]:5432/d", "postgresql://h"],
    ["h:5432", "postgres://", "postgres://a:5432,b:5432/d", "postgres://h/d,"],
  ],
  [
    "TOCSIN_CORE2CORE_URLS",
    ["core2core://h:2001", "core2core://h:2001/,core2core://[::1]:1"],
    ["core2core://h", "tcp://h:2001", "core2core://h:0", "core2core://h:2001/path"],
  ],
  [
    "TOCSIN_ENTERPRISE_URL",
    ["http://h", "https://h:1/path"],
    ["h", "https://", "https://u:p@h", "https://h?x", "https://h#x", "https://h, "],
  ],
  [
    "TOCSIN_TRUSTED_PROXIES",
    ["none", "10.0.0.0/8", "::1,::/0"],
    ["balancer", "10.0.0.0/33", "10.0.0.1/8/8", "10.0.0.1/x", "::/129"],
  ],
] as const) {
  test(`${name} takes what it should and nothing else`, () => {
    for (const value of good) assert.equal(faults({ [name]: value }), [], value);
    for (const value of bad) assert.equal(faulty({ [name]: value }), [name], value);
  });
}

test("no text in any setting makes the reading throw", () => {
  const anyValue = fc.oneof(fc.string(), fc.constantFrom("a,b", "://", "redis-sentinel://", "[::1", "%", ",", "-"));
  const anyEnv = fc.dictionary(fc.constantFrom(...SETTINGS.map(({ name }) => name)), anyValue);
  fc.assert(
    fc.property(anyEnv, (env) => {
      const reading = readConfig(env);
      assert.ok(reading.ok || reading.faults.every((fault) => /^TOCSIN_\w+: \S/.test(fault)));
    }),
  );
});

test(".env.example is what the settings say, and means the same as no file", () => {
  const text = readFileSync(join(import.meta.dirname, "../.env.example"), "utf8");
  assert.is(text, envExample(), "run: npm run --silent settings > .env.example");
  const lines = [...text.matchAll(/^#(TOCSIN_\w+)=(.*)$/gm)];
  assert.is(lines.length, SETTINGS.length);
  const env = Object.fromEntries(lines.map(([, name, value]) => [name, value]));
  const [read, empty] = [readConfig(env), readConfig({})];
  assert.ok(read.ok && empty.ok);
  assert.equal({ ...read.config, node: null }, { ...empty.config, node: null });
});

test("the settings' table for the documentation has a row for each", () => {
  assert.is(settingsTable().trimEnd().split("\n").length, SETTINGS.length + 2);
});

test("the help has a line for every npm script", () => {
  const { scripts } = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8")) as {
    scripts: object;
  };
  assert.equal(
    Object.keys(NPM_SCRIPTS).sort(),
    Object.keys(scripts)
      .filter((name) => name !== "postinstall")
      .sort(),
  );
});

test.run();
