/** What Tocsin is made of and says of itself: licences, bill of materials, and that SECURITY.md names only what there is. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SETTINGS } from "../config.ts";
import { isAllowed, licenceFaults, licenceOf, licencesPage, runtimePackages } from "../script/licences.ts";
import { type Bom, bomFaults } from "../script/sbom.ts";

const ROOT = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const folder = mkdtempSync(join(tmpdir(), "tocsin-supply-"));

for (const [expression, allowed] of [
  ["MIT", true],
  ["(MIT)", true],
  ["MPL-2.0", true],
  ["(BSD-3-Clause OR GPL-2.0)", true],
  ["GPL-2.0 OR (MIT AND ISC)", true],
  ["MIT AND GPL-3.0-only", false],
  ["GPL-3.0-or-later", false],
  ["LGPL-2.1", false],
  ["AGPL-3.0-only", false],
  ["MIT WITH something", false],
  ["SEE LICENSE IN LICENSE.txt", false],
  ["UNLICENSED", false],
  ["MIT OR", false],
  ["OR MIT", false],
  ["(MIT", false],
  ["MIT)", false],
  ["", false],
] as const) {
  test(`the licence "${expression}" ${allowed ? "may" : "may not"} be shipped`, () => {
    assert.is(isAllowed(expression), allowed);
  });
}

test("a licence is read in every form that packages have written it", () => {
  for (const [manifest, licence] of [
    [{ license: "MIT" }, "MIT"],
    [{ license: { type: "ISC", url: "x" } }, "ISC"],
    [{ licenses: [{ type: "MIT" }] }, "MIT"],
    [{ licenses: [{ type: "MIT" }, { type: "GPL-2.0" }] }, "(MIT) OR (GPL-2.0)"],
    [{ licenses: "MIT" }, "MIT"],
    [{ license: "" }, null],
    [{}, null],
  ] as const) {
    assert.is(licenceOf(manifest), licence);
  }
});

test("everything that runs with Tocsin may be shipped, and docs/licences.md is the list of it", () => {
  const packages = runtimePackages(ROOT);
  assert.ok(packages.length > 100);
  assert.equal(licenceFaults(packages), []);
  assert.is(
    read("docs/licences.md"),
    licencesPage(packages),
    "npm run --silent licences > docs/licences.md makes it anew",
  );
  const { dependencies } = JSON.parse(read("package.json")) as { dependencies: Record<string, string> };
  for (const [name, wanted] of Object.entries(dependencies)) {
    const real = /^npm:(.+)@[^@]+$/.exec(wanted)?.[1] ?? name;
    assert.ok(
      packages.some((one) => one.name === real),
      real,
    );
  }
});

test("a package with no licence, an unknown one or one that binds too much is told by name, with exit code 1", () => {
  const lock: Record<string, object> = { "": { name: "x" } };
  const add = (name: string, manifest: object | null, entry: object = {}) => {
    lock[`node_modules/${name}`] = { version: "1.0.0", ...entry };
    if (manifest === null) return;
    mkdirSync(join(folder, "node_modules", name), { recursive: true });
    writeFileSync(join(folder, "node_modules", name, "package.json"), JSON.stringify(manifest));
  };
  add("good", { license: "MIT" });
  add("none", {});
  add("strong", { license: "GPL-3.0-only" });
  add("strange", { license: "Very Own License" });
  add("for-development", { license: "GPL-3.0-only" }, { dev: true });
  add("elsewhere", null, { license: "ISC", optional: true });
  add("nowhere", null, { optional: true });
  writeFileSync(join(folder, "package-lock.json"), JSON.stringify({ packages: lock }));
  const { status, stderr } = spawnSync(process.execPath, ["script/licences.ts", folder], {
    cwd: ROOT,
    encoding: "utf8",
  });
  assert.is(status, 1);
  assert.equal(stderr.trim().split("\n"), [
    "licences: none 1.0.0: has no licence",
    "licences: nowhere 1.0.0: has no licence",
    "licences: strange 1.0.0: Very Own License",
    "licences: strong 1.0.0: GPL-3.0-only",
  ]);
});

test("the bill of materials is CycloneDX of exactly what runs, written to the file named", () => {
  const file = join(folder, "bom.json");
  const { status, stderr } = spawnSync(process.execPath, ["script/sbom.ts", file], { cwd: ROOT, encoding: "utf8" });
  assert.is(status, 0, stderr);
  const bom = JSON.parse(readFileSync(file, "utf8")) as Bom;
  const packages = runtimePackages(ROOT);
  assert.equal(bomFaults(bom, packages), []);
  assert.is(bom.metadata.component.name, "tocsin");
  const [first, second] = bom.components;
  const damaged: [string, Bom][] = [
    ["is missing", { ...bom, components: bom.components.slice(1) }],
    ["is there twice", { ...bom, components: [...bom.components, first!] }],
    ["exactly", { ...bom, components: [...bom.components, { ...first!, "bom-ref": "another@1" }] }],
    ["has no licence", { ...bom, components: [{ ...first!, licenses: [] }, ...bom.components.slice(1)] }],
    ["has no purl", { ...bom, components: [{ ...first!, purl: "" }, ...bom.components.slice(1)] }],
    ["no SHA-512", { ...bom, components: [first!, { ...second!, scope: "required", hashes: [] }] }],
    ["is depended on", { ...bom, dependencies: [{ ref: "nobody@1", dependsOn: [] }] }],
    ["bomFormat", { ...bom, bomFormat: "SPDX" }],
    ["specVersion", { ...bom, specVersion: "2.3" }],
    ["serialNumber", { ...bom, serialNumber: "1" }],
    ["metadata/timestamp", { ...bom, metadata: { ...bom.metadata, timestamp: "yesterday" } }],
  ];
  for (const [fault, one] of damaged)
    assert.ok(
      bomFaults(one, packages).some((text) => text.includes(fault)),
      fault,
    );
});

test("every package that runs everywhere is pinned by a digest", () => {
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { integrity?: string; optional?: boolean }>;
  };
  const loose = Object.entries(packages).filter(
    ([path, { integrity, optional }]) => path !== "" && optional !== true && !/^sha512-/.test(integrity ?? ""),
  );
  assert.equal(
    loose.map(([path]) => path),
    [],
  );
});

test("of every package here that wants to run an install script it is said whether it may, and in the image none does", () => {
  const { allowScripts } = JSON.parse(read("package.json")) as { allowScripts: Record<string, boolean> };
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { hasInstallScript?: boolean }>;
  };
  const wanting = Object.entries(packages)
    .filter(([path, { hasInstallScript }]) => path !== "" && hasInstallScript === true && existsSync(join(ROOT, path)))
    .map(([path]) => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length));
  assert.ok(wanting.length > 0);
  for (const name of wanting) assert.type(allowScripts[name], "boolean", `${name} wants to run an install script`);
  assert.match(read("Dockerfile"), /npm ci .*--ignore-scripts/);
});

test("the compose file's Postgres keeps the rows it refuses out of its log", () => {
  const postgres =
    read("compose.yaml")
      .split(/^ {2}(?=\w)/m)
      .find((part) => part.startsWith("postgres:")) ?? "";
  for (const setting of ["log_error_verbosity=terse", "log_min_error_statement=panic"])
    assert.ok(postgres.includes(`"-c", "${setting}"`), setting);
});

test("SECURITY.md names test files, tables, settings and links that there are", () => {
  const page = read("SECURITY.md");
  const rows = page.split("\n").filter((line) => line.startsWith("| ") && line.includes("`test/"));
  assert.ok(rows.length > 15);
  for (const [, path] of page.matchAll(/`(test\/[\w.-]+)`/g)) assert.ok(existsSync(join(ROOT, path!)), path);
  for (const [, path] of page.matchAll(/\]\(([\w./-]+)\)/g)) assert.ok(existsSync(join(ROOT, path!)), path);
  const settings = new Set<string>(SETTINGS.flatMap(({ name }) => [name, `${name}_FILE`]));
  for (const [name] of page.matchAll(/\bTOCSIN_[A-Z0-9_]*[A-Z0-9]\b/g)) assert.ok(settings.has(name), name);
  const migrations = join(ROOT, "persistence/migrations");
  const tables = new Set(
    readdirSync(migrations, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".sql"))
      .flatMap((file) => [...readFileSync(join(migrations, file), "utf8").matchAll(/^create table ([\w.]+)/gm)])
      .map(([, table]) => table!),
  );
  for (const [, table] of page.matchAll(/`((?:premise_core|meta|core)\.\w+)`/g)) assert.ok(tables.has(table!), table);
  for (const [, script] of page.matchAll(/`npm run (\w+)`/g))
    assert.ok((JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts[script!], script);
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
