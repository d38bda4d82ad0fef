/** What is shipped beside the code: image, compose file, health check, the scripts of a checkout. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  accessSync,
  constants,
  cpSync,
  globSync,
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
import { dirname, join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
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

test("the image has compiled also what a start reads only where it is used", () => {
  const rooms = "{main.ts,{actors,cluster,gateways,persistence}/**/*.ts}";
  const late = globSync(rooms, { cwd: ROOT }).flatMap((path) =>
    [...read(path).matchAll(/(?<!: |<)\bimport\("([^"]+)"\)(?!\.[A-Z])/g)].map(([, target = ""]) =>
      target.startsWith(".") ? `./${join(dirname(path), target)}` : target,
    ),
  );
  assert.ok(late.includes("./gateways/push/fcm.ts") && late.includes("nodemailer"), late.join(" "));
  const given = [...read("Dockerfile").matchAll(/--import (\S+)/g)].map(([, target = ""]) => target);
  assert.equal(given.sort(), late.sort());
});

type Service = {
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly depends_on?: Readonly<Record<string, unknown>> | readonly string[];
  readonly image?: string;
  readonly networks?: { readonly default: { readonly ipv4_address: string } };
};
type Compose = {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
};

const COMPOSE_FILES = ["compose.yaml", "compose.cluster.yaml"];
const composed = (file: string) => parse(read(file), { merge: true }) as Compose;
/** What a variable of the file's own becomes where it was set to `secret`. */
const given = (value: string) => value.replace(/\$\{\w+:-([^}]*)\}/g, "$1").replace(/\$\{\w+:\?[^}]*\}/g, "secret");
const nodesOf = ({ services }: Compose) => Object.entries(services).filter(([name]) => /^tocsin(-\d)?$/.test(name));

for (const file of COMPOSE_FILES) {
  test(`what ${file} sets is a valid configuration of each node, with no password of its own`, () => {
    const nodes = nodesOf(composed(file));
    assert.ok(nodes.length > 0);
    for (const [, { environment = {} }] of nodes) {
      const settings = Object.entries(environment).map(([name, value]) => [name, given(value)]);
      const reading = readConfig(Object.fromEntries(settings));
      assert.ok(reading.ok, reading.ok ? "" : reading.faults.join("\n"));
      assert.is(reading.config.push.mode, "emulator");
    }
    for (const [, name, value = ""] of read(file).matchAll(/(\w*PASSWORD\w*|REDISCLI_AUTH): (.*)$/gm)) {
      assert.match(value, /^\$\{\w+:\?/, name);
    }
  });

  test(`${file} publishes ports on this machine alone, and Redis never evicts`, () => {
    const published = Object.values(composed(file).services).flatMap(({ ports = [] }) => ports);
    assert.ok(published.length > 0);
    for (const port of published) assert.match(port, /^127\.0\.0\.1:/);
    assert.match(read(file === "compose.yaml" ? file : "deploy/redis/server.sh"), /maxmemory-policy noeviction/);
  });

  test(`what ${file} mounts, waits for and keeps is there`, () => {
    const { services, volumes } = composed(file);
    for (const [name, { volumes: mounts = [], depends_on = {} }] of Object.entries(services)) {
      for (const [source = ""] of mounts.map((mount) => mount.split(":"))) {
        if (!source.startsWith("./")) assert.ok(source in volumes, `${name}: ${source}`);
        else accessSync(join(ROOT, source), constants.R_OK);
      }
      for (const other of Array.isArray(depends_on) ? depends_on : Object.keys(depends_on))
        assert.ok(other in services, `${name}: ${other}`);
    }
  });
}

test("the nodes of compose.cluster.yaml are one cluster, each by its own name, behind the one proxy they trust", () => {
  const compose = composed("compose.cluster.yaml");
  const nodes = nodesOf(compose);
  assert.equal(
    nodes.map(([name]) => name),
    ["tocsin-1", "tocsin-2", "tocsin-3"],
  );
  for (const [name, { environment = {} }] of nodes) {
    assert.is(environment.TOCSIN_NODE, name);
    assert.is(environment.TOCSIN_TRUSTED_PROXIES, compose.services.haproxy?.networks?.default.ipv4_address);
    for (const setting of ["TOCSIN_PREMISE_DATABASE_URL", "TOCSIN_REDIS_URL"])
      for (const [, host = ""] of environment[setting]!.matchAll(/[@,]([a-z]+-\d):\d+/g))
        assert.ok(host in compose.services, host);
  }
  const first = nodes.filter(([, { environment = {} }]) => environment.TOCSIN_SEED !== undefined);
  assert.is(first.length, 1, "demo data are made once");
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
  for (const page of ["README.md", "CONTRIBUTING.md", "Dockerfile", "docs/operations.md", ...COMPOSE_FILES]) {
    for (const [name] of read(page).matchAll(/\bTOCSIN_[A-Z0-9_]*[A-Z0-9]\b(?!_?…)/g))
      assert.ok(known.has(name), `${page}: ${name}`);
  }
});

test.run();
