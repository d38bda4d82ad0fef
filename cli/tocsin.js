#!/usr/bin/env node
/**
 * The entry of the `tocsin` command, in plain JavaScript: it must run on the Node of the machine, which may be too old
 * for TypeScript. Then it runs itself again on the Node that was installed with Tocsin.
 */
import { spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import module, { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR = 24;
const EX_UNAVAILABLE = 69;

/** The Node that was installed with Tocsin, or null. */
function installedNode() {
  try {
    const folder = dirname(createRequire(import.meta.url).resolve("node/package.json"));
    const binary = join(folder, "bin", process.platform === "win32" ? "node.exe" : "node");
    return existsSync(binary) ? binary : null;
  } catch {
    return null;
  }
}

function refuse(sentence) {
  process.stderr.write(`tocsin: ${sentence}\n`);
  process.exit(EX_UNAVAILABLE);
}

function runAgain(binary) {
  const onTerminal = [process.stdin, process.stdout, process.stderr].some((stream) => stream.isTTY);
  const child = spawn(binary, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to both; only a signal meant for this process alone has to be passed on.
      if (signal !== "SIGINT" || !onTerminal) child.kill(signal);
    });
  }
  child.on("error", (error) => refuse(`${binary} does not start (${error.code}). Type: npm install`));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

if (Number.parseInt(process.versions.node, 10) >= NODE_MAJOR && process.features.typescript) {
  // As script/bootstrap has it: a command starts in half the time.
  if (process.env.NODE_COMPILE_CACHE === undefined)
    module.enableCompileCache(fileURLToPath(new URL("../node_modules/.cache/compiled", import.meta.url)));
  await import("./tocsin.ts");
} else {
  const binary = installedNode();
  const old = `this is Node ${process.versions.node}; Tocsin needs Node ${NODE_MAJOR} or newer, with type stripping on`;
  // The second run is on that very Node: a broken installation must not start itself for ever.
  if (binary === null || realpathSync(binary) === realpathSync(process.execPath)) {
    refuse(`${old}, and the one that comes with it is not installed or does not do. Type: npm install`);
  } else {
    runAgain(binary);
  }
}
