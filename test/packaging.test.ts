/** What is shipped beside the code: image, compose file, health check, the scripts of a checkout. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  accessSync,
  constants,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readConfig, SETTINGS } from "../config.ts";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

async function exitCode(script: string, env: NodeJS.ProcessEnv): Promise<number> {
  const child = spawn(process.execPath, [script], { env, stdio: "ignore" });
  const [code] = (await once(child, "exit")) as [number];
  return code;
}

test("the image runs the Node that the packages pin", () => {
  const { dependencies } = JSON.parse(read("package.json")) as { dependencies: { node: string } };
  const bases = [...read("Dockerfile").matchAll(/^FROM node:(\d+)/gm)].map(([, major]) => major);
  assert.equal(bases, [dependencies.node.split(".")[0], dependencies.node.split(".")[0]]);
});

test("the image is given every room of the server", () => {
  const kept = read(".dockerignore")
    .split("\n")
    .filter((line) => line.startsWith("!"))
    .map((line) => line.slice(1));
  for (const room of ["*.ts", "actors", "cli", "cluster", "gateways", "persistence", "script", "package.json"]) {
    assert.ok(kept.includes(room), room);
  }
  assert.not.ok(kept.some((line) => /^(test|node_modules|\.env)/.test(line)));
});

test("what the compose file sets is a valid configuration, with no password of its own", () => {
  const compose = read("compose.yaml");
  const lines = [...compose.matchAll(/^ +(TOCSIN_\w+): (.*)$/gm)];
  const given = (value: string) =>
    value
      .replace(/\$\{\w+:-([^}]*)\}/g, "$1")
      .replace(/\$\{\w+:\?[^}]*\}/g, "secret")
      .replace(/^"(.*)"$/, "$1");
  const reading = readConfig(Object.fromEntries(lines.map(([, name, value = ""]) => [name, given(value)])));
  assert.ok(reading.ok, reading.ok ? "" : reading.faults.join("\n"));
  assert.is(reading.config.push.mode, "emulator");
  for (const [, name, value = ""] of compose.matchAll(/(\w*PASSWORD\w*|REDISCLI_AUTH): (.*)$/gm)) {
    assert.match(value, /^\$\{\w+:\?/, name);
  }
});

test("the compose file publishes ports on this machine alone, and Redis never evicts", () => {
  const compose = read("compose.yaml");
  const published = [...compose.matchAll(/^ +- "([\d.:]+)"$/gm)].map(([, port]) => port);
  assert.ok(published.length > 0);
  for (const port of published) assert.match(port ?? "", /^127\.0\.0\.1:/);
  assert.match(compose, /--maxmemory-policy noeviction/);
});

test("the health check tells a node that answers from one that does not", async () => {
  const script = join(ROOT, "script/healthcheck.mjs");
  let status = 200;
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url);
    response.writeHead(status).end();
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const port = String((server.address() as AddressInfo).port);
  assert.is(await exitCode(script, { TOCSIN_BIND: "0.0.0.0", TOCSIN_HTTP_PORT: port }), 0);
  assert.is(await exitCode(script, { TOCSIN_HTTP_PORT: port }), 0);
  assert.equal(asked, ["/healthz", "/healthz"]);
  status = 503;
  assert.is(await exitCode(script, { TOCSIN_HTTP_PORT: port }), 1);
  await new Promise((resolve) => server.close(resolve));
  assert.is(await exitCode(script, { TOCSIN_HTTP_PORT: port }), 1);
});

test("after an install npx finds our command, and script/bootstrap knows that the packages are current", async () => {
  const checkout = mkdtempSync(join(tmpdir(), "tocsin-checkout-"));
  mkdirSync(join(checkout, "cli"));
  mkdirSync(join(checkout, "script"));
  for (const file of ["package.json", "package-lock.json", "script/after-install.mjs"])
    cpSync(join(ROOT, file), join(checkout, file));
  writeFileSync(join(checkout, "cli/tocsin.js"), "#!/usr/bin/env node\n", { mode: 0o644 });
  for (let installs = 0; installs < 2; installs++) {
    assert.is(await exitCode(join(checkout, "script/after-install.mjs"), process.env), 0);
    const link = join(checkout, "node_modules/.bin/tocsin");
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.is(realpathSync(link), realpathSync(join(checkout, "cli/tocsin.js")));
    accessSync(link, constants.X_OK);
  }
  assert.is(readFileSync(join(checkout, "node_modules/.installed-lock"), "utf8"), read("package-lock.json"));
  rmSync(checkout, { recursive: true });
});

test("the lock names every platform's optional packages, so that npm ci accepts it everywhere", () => {
  type Package = { optionalDependencies?: Record<string, string> };
  const { packages } = JSON.parse(read("package-lock.json")) as { packages: Record<string, Package> };
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) =>
        packages[`node_modules/${name}`] === undefined && packages[`${path}/node_modules/${name}`] === undefined,
    ),
  );
  assert.equal(missing, []);
});

test("scripts that people type can be run", () => {
  for (const path of [
    "script/bootstrap",
    "script/server",
    "script/test",
    ".ci/run",
    "script/healthcheck.mjs",
    "cli/tocsin.js",
  ]) {
    accessSync(join(ROOT, path), constants.X_OK);
    assert.match(read(path), /^#!/, path);
  }
});

test("every setting named in a page for readers is one", () => {
  const known = new Set<string>(SETTINGS.flatMap(({ name }) => [name, `${name}_FILE`]));
  for (const page of ["README.md", "CONTRIBUTING.md", "Dockerfile", "compose.yaml"]) {
    for (const [name] of read(page).matchAll(/\bTOCSIN_[A-Z0-9_]*[A-Z0-9]\b(?!_?…)/g))
      assert.ok(known.has(name), `${page}: ${name}`);
  }
});

test.run();
