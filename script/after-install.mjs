#!/usr/bin/env node
// Runs after npm has installed the packages, on whatever Node the machine has. Links our own command among those of the
// packages, where `npx tocsin` looks for it, and keeps the lock the packages came from, by which script/bootstrap knows
// that they are current.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const commands = join(root, "node_modules/.bin");
mkdirSync(commands, { recursive: true });

for (const [name, file] of Object.entries(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).bin)) {
  const link = join(commands, name);
  rmSync(link, { force: true });
  symlinkSync(relative(commands, join(root, file)), link);
  if (existsSync(join(root, file))) chmodSync(join(root, file), 0o755);
}
if (existsSync(join(root, "package-lock.json"))) {
  copyFileSync(join(root, "package-lock.json"), join(root, "node_modules/.installed-lock"));
}
