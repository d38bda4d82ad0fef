/**
 * Runs test files: each as a process of its own (uvu has no time limit, and one left handle would hold up all), two at a
 * time, on one Postgres of the run (or the one that TEST_POSTGRES_URL names), with a temp folder that is removed.
 *
 *   node test/run.ts [--coverage] [file …]        all of test/ when no file is named
 *
 * A file has 120 s unless its first line says `// limit: 300 s`. Past that its whole process group is killed. Where that line ends
 * in `, waits` the file waits most of its time, and one such runs beside the two. Where it ends in `, alone` the file runs by
 * itself, behind the others: it holds the node to a promised time. It counts as
 * one failed test more when it exits otherwise than by its tests, prints no totals, has no tests, or leaves processes
 * behind. The last line is `N passed, N failed`; exit code 1 when anything failed.
 *
 * A machine that is busy with something else can fail a test that waits. So up to three failed files are run a second time, each by
 * itself, and the second time counts; both are shown, and the first is named as unsteady. Not those whose first line ends in
 * `, once`: what they look for may come about rarely. With more than three it is not the machine, and the first time counts.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { startSharedPostgres } from "./helpers/database.ts";
import { leftovers, removeRelocated } from "./helpers/leftovers.ts";

const AT_A_TIME = 2;
const LIMIT_S = 120;
/** Files that may be run a second time. */
const UNSTEADY_MAX = 3;
/** Of what failed, shown once more at the end: a long run's log is cut in its middle by those who keep it. */
const SAID_AGAIN = 3;
const LINES_AGAIN = 80;
const OUTPUT_LIMIT_BYTES = 1024 * 1024;
const ROOT = join(import.meta.dirname, "..");

type Outcome = {
  file: string;
  passed: number;
  failed: number;
  skipped: number;
  seconds: number;
  faults: string[];
  output: string;
};

type Terms = {
  readonly limit_s: number;
  readonly alone: boolean;
  readonly waits: boolean;
  readonly once: boolean;
};

const args = process.argv.slice(2);
const coverage = args.includes("--coverage");
const named = args.filter((arg) => !arg.startsWith("--"));
const unknown = args.filter((arg) => arg.startsWith("--") && arg !== "--coverage");
if (unknown.length > 0) {
  console.error(`unknown option ${unknown.join(" ")}; usage: node test/run.ts [--coverage] [file …]`);
  process.exit(2);
}
const files = named.length > 0 ? named : globSync("test/**/*.test.ts", { cwd: ROOT }).sort();

const runFolder = mkdtempSync(join(tmpdir(), "tocsin-test-"));
chmodSync(runFolder, 0o711); // a Postgres below it runs as another user
const coverageFolder = join(ROOT, "coverage/tmp");
if (coverage) rmSync(join(ROOT, "coverage"), { recursive: true, force: true });
const children = new Set<ChildProcess>();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(name, () => {
    for (const child of children) killGroup(child);
    removeRelocated(runFolder);
    rmSync(runFolder, { recursive: true, force: true });
    process.exit(130); // the run's Postgres ends with this process
  });
}

const given = process.env.TEST_POSTGRES_URL;
const shared = given === undefined ? await startSharedPostgres() : { url: given, close: async () => {} };
const outcomes: (Outcome & Terms & { readonly number: number })[] = [];
const all = [...files.entries()].map(([number, file]) => ({ number, file, ...termsOf(file) }));
const alone = all.filter((file) => file.alone);
const waits = all.filter((file) => file.waits && !file.alone);
const works = all.filter((file) => !file.waits && !file.alone);
await Promise.all([...Array.from({ length: AT_A_TIME }, () => runAll(works, waits)), runAll(waits)]);
await runAll(alone);
const unsteady: string[] = [];
const failedFirst = outcomes.filter(({ failed }) => failed > 0);
if (failedFirst.length <= UNSTEADY_MAX) {
  for (const first of failedFirst.filter(({ once }) => !once)) {
    console.log(`once more, by itself: ${first.file}`);
    const second = await runFile(first.file, first.limit_s, join(runFolder, `${first.number}-again`));
    report(second);
    outcomes[outcomes.indexOf(first)] = { ...first, ...second };
    if (second.failed === 0) unsteady.push(first.file);
  }
}
await shared.close();
rmSync(runFolder, { recursive: true, force: true });
if (coverage) spawnSync("c8", ["report", "--temp-directory", coverageFolder], { cwd: ROOT, stdio: "inherit" });

const failing = outcomes.filter((outcome) => outcome.failed > 0);
for (const { file, output } of failing.slice(0, SAID_AGAIN)) {
  console.log(`\n${file} ended so:`);
  console.log(output.trimEnd().split("\n").slice(-LINES_AGAIN).join("\n").replace(/^/gm, "  | "));
}
if (failing.length > 0) console.log(`\nfailed: ${failing.map((outcome) => outcome.file).join(", ")}`);
if (unsteady.length > 0) console.log(`\nunsteady: ${unsteady.join(", ")} failed, and passed when run by itself`);
if (files.length === 0) console.log("there are no test files");
const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
const failed = outcomes.reduce((sum, outcome) => sum + outcome.failed, 0);
process.exitCode = failed > 0 || files.length === 0 ? 1 : 0;
console.log(`${passed} passed, ${failed} failed`);

/** One after the other, each list's files taken by whoever comes first. */
async function runAll(...lists: (typeof all)[]): Promise<void> {
  for (const list of lists) {
    for (let next = list.shift(); next !== undefined; next = list.shift()) {
      const outcome = await runFile(next.file, next.limit_s, join(runFolder, String(next.number)));
      outcomes.push({ ...outcome, ...next });
      report(outcome);
    }
  }
}

async function runFile(file: string, limit_s: number, folder: string): Promise<Outcome> {
  const started = performance.now();
  const faults: string[] = [];
  const id = randomUUID();
  mkdirSync(folder);
  chmodSync(folder, 0o711);
  const child = spawn(process.execPath, [file], {
    cwd: ROOT,
    detached: true, // a process group of its own, to be killed as one
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}`,
      FORCE_COLOR: "0",
      TMPDIR: folder,
      TEST_POSTGRES_URL: shared.url,
      TEST_PROCESS: id,
      // Hundreds of nodes and commands are started; as script/bootstrap has it.
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(ROOT, "node_modules/.cache/compiled"),
      ...(coverage ? { NODE_V8_COVERAGE: coverageFolder, NODE_DISABLE_COMPILE_CACHE: "1" } : {}),
    },
  });
  children.add(child);
  const output = collect(child);
  const limit = setTimeout(() => {
    faults.push(`was still running after ${limit_s} s and was killed`);
    killGroup(child);
  }, limit_s * 1000);
  const ending = await new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, by) => resolve(by ?? String(code)));
  });
  clearTimeout(limit);
  children.delete(child);
  killGroup(child); // what it left in its group
  const left = await leftovers(`TEST_PROCESS=${id}`, folder);
  if (left.length > 0) faults.push(`left running: ${left.join("; ")}`);
  removeRelocated(folder);
  rmSync(folder, { recursive: true, force: true });

  const text = output.text();
  const totals = totalsOf(text);
  if (totals === null) faults.push(`printed no totals (ended with ${ending})`);
  else if (totals.total === 0) faults.push("has no tests");
  else if (ending !== "0" && faults.length === 0 && totals.passed === totals.total) faults.push(`ended with ${ending}`);
  const failures = totals === null ? 0 : totals.total - totals.passed;
  return {
    file: relative(ROOT, resolve(ROOT, file)),
    passed: totals?.passed ?? 0,
    failed: failures + faults.length,
    skipped: totals?.skipped ?? 0,
    seconds: (performance.now() - started) / 1000,
    faults,
    output: text,
  };
}

function report({ file, passed, failed, skipped, seconds, faults, output }: Outcome): void {
  const skips = skipped > 0 ? `, ${skipped} skipped` : "";
  console.log(`${failed > 0 ? "✘" : "✔"} ${file}  ${passed} passed, ${failed} failed${skips}  ${seconds.toFixed(1)} s`);
  if (failed === 0) return;
  for (const fault of faults) console.log(`  ${file} ${fault}`);
  console.log(output.replace(/^/gm, "  | "));
}

function totalsOf(output: string): { total: number; passed: number; skipped: number } | null {
  const found = output.match(/^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)\n {2}Duration:/m);
  return found === null ? null : { total: Number(found[1]), passed: Number(found[2]), skipped: Number(found[3]) };
}

/** The beginning and the end of what the process says, so that one gone wild does not fill the memory. */
function collect(child: ChildProcess): { text(): string } {
  const head: Buffer[] = [];
  let headSize = 0;
  let tail = Buffer.alloc(0);
  let dropped = 0;
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk: Buffer) => {
      if (headSize < OUTPUT_LIMIT_BYTES) {
        head.push(chunk);
        headSize += chunk.length;
        return;
      }
      tail = Buffer.concat([tail, chunk]);
      dropped += Math.max(tail.length - OUTPUT_LIMIT_BYTES, 0);
      tail = tail.subarray(Math.max(tail.length - OUTPUT_LIMIT_BYTES, 0));
    });
  }
  return {
    text: () =>
      Buffer.concat([...head, Buffer.from(dropped > 0 ? `\n… ${dropped} bytes …\n` : ""), tail]).toString("utf8"),
  };
}

/** What its first line says. */
function termsOf(file: string): Terms {
  const path = resolve(ROOT, file);
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const [, limit_s = LIMIT_S, how = ""] = text.match(/^\/\/ limit: (\d+) s((?:, (?:alone|waits|once))*)\n/) ?? [];
  return {
    limit_s: Number(limit_s),
    alone: how.includes("alone"),
    waits: how.includes("waits"),
    once: how.includes("once"),
  };
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  } catch {
    // nothing of it is left
  }
}
