/** The runner, on files of every kind that must not pass unseen. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "uvu";
import * as assert from "uvu/assert";

const ROOT = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "tocsin-runner-"));
symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
writeFileSync(join(folder, "package.json"), '{"type":"module"}');

/** Without the server of the run that this file is a part of. */
const { TEST_POSTGRES_URL: server, ...bare } = process.env;
const UVU = 'import { test } from "uvu"; import * as assert from "uvu/assert";\n';

async function run(
  files: Record<string, string>,
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ lines: string[]; code: number; temp: string[] }> {
  const paths = Object.entries(files).map(([name, content]) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  });
  const temp = mkdtempSync(join(folder, "temp-"));
  spawnSync("chmod", ["755", folder, temp]);
  const child = spawn(process.execPath, [join(ROOT, "test/run.ts"), ...paths], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...env, TMPDIR: temp },
  });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "exit") as Promise<[number]>]);
  const lines = output.trimEnd().split("\n");
  for (const path of paths) rmSync(path);
  return { lines, code, temp: readdirSync(temp) };
}

test("all passing is exit code 0, and the last line sums all files", async () => {
  const own = `const { TEST_POSTGRES_URL: url } = process.env; assert.match(url, /^postgres:/); assert.is.not(url, "${server}");`;
  const files = {
    "two.test.ts": `${UVU}test("a", () => {}); test("b", () => {}); test.skip("c", () => {}); test.run();`,
    "one.test.ts": `${UVU}test("a", () => { ${own} }); test.run();`,
  };
  const { lines, code, temp } = await run(files, bare);
  assert.is(lines.at(-1), "3 passed, 0 failed");
  assert.is(code, 0);
  assert.ok(lines.some((line) => /two\.test\.ts {2}2 passed, 0 failed, 1 skipped {2}\d+\.\d s$/.test(line)));
  assert.equal(temp, []);
});

test("a failing test is exit code 1, and its file's output is shown", async () => {
  const { lines, code } = await run({
    "bad.test.ts": `${UVU}test("a", () => {}); test("the pager rings", () => assert.is(1, 2)); test.run();`,
  });
  assert.is(lines.at(-1), "1 passed, 1 failed");
  assert.is(code, 1);
  assert.ok(lines.some((line) => line.includes('"the pager rings"')));
});

test("files that are to run alone come one after the other, behind all others", async () => {
  const told = join(folder, "told");
  const says = (first: string) =>
    `${first}${UVU}import { appendFileSync as say } from "node:fs"; import { basename } from "node:path";
    const [at, name] = [${JSON.stringify(told)}, basename(process.argv[1]).split(".")[0]];
    test("a", async () => { say(at, name + " begins "); await new Promise((ended) => setTimeout(ended, 300)); say(at, name + " ends "); });
    test.run();`;
  const alone = says("// limit: 20 s, alone\n");
  const { lines } = await run({ "a.test.ts": alone, "b.test.ts": alone, "c.test.ts": says("") });
  assert.is(lines.at(-1), "3 passed, 0 failed");
  assert.is(readFileSync(told, "utf8"), "c begins c ends a begins a ends b begins b ends ");
});

test("files run two at a time, and beside them one of those that wait", async () => {
  const told = join(folder, "told-waits");
  const says = (first: string, ms: number) =>
    `${first}${UVU}import { appendFileSync as say } from "node:fs"; import { basename } from "node:path";
    const [at, name] = [${JSON.stringify(told)}, basename(process.argv[1]).split(".")[0]];
    test("a", async () => { say(at, name + "+ "); await new Promise((ended) => setTimeout(ended, ${ms})); say(at, name + "- "); });
    test.run();`;
  const { lines } = await run({
    "a.test.ts": says("// limit: 20 s, waits\n", 3_000),
    "b.test.ts": says("", 3_000),
    "c.test.ts": says("", 3_000),
    "d.test.ts": says("", 0),
    "e.test.ts": says("// limit: 20 s, waits\n", 0),
  });
  assert.is(lines.at(-1), "5 passed, 0 failed");
  const order = readFileSync(told, "utf8").split(" ");
  assert.equal(new Set(order.slice(0, 3)), new Set(["a+", "b+", "c+"]));
  assert.ok(order.indexOf("d+") > Math.min(order.indexOf("b-"), order.indexOf("c-")));
  assert.ok(order.indexOf("e+") > Math.min(...["a-", "b-", "c-"].map((word) => order.indexOf(word))));
});

/** Fails the first time it is run. */
const fails = (first: string, mark: string) =>
  `${first}${UVU}import { existsSync, writeFileSync } from "node:fs";
  const [mark, been] = [${JSON.stringify(join(folder, mark))}, existsSync(${JSON.stringify(join(folder, mark))})];
  writeFileSync(mark, ""); test("a", () => assert.ok(been)); test.run();`;

test("a file that failed is run once more by itself, and is called unsteady when it passes then", async () => {
  const { lines, code } = await run({
    "shaky.test.ts": fails("", "shaky"),
    "bad.test.ts": `${UVU}test("b", () => assert.ok(0)); test.run();`,
  });
  assert.is(lines.at(-1), "1 passed, 1 failed");
  assert.is(code, 1);
  assert.ok(lines.some((line) => /^unsteady: .*shaky\.test\.ts failed, and passed when run by itself$/.test(line)));
  assert.ok(lines.some((line) => /^failed: .*bad\.test\.ts$/.test(line)));
  const again = lines.slice(lines.findIndex((line) => /bad\.test\.ts ended so:$/.test(line)));
  assert.ok(again.length < lines.length && again.some((line) => line.includes("FAIL")));
});

test("a file that says so has one try, and of many that failed none has a second", async () => {
  const rare = await run({ "rare.test.ts": fails("// limit: 20 s, once\n", "rare") });
  assert.is(rare.lines.at(-1), "0 passed, 1 failed");
  const many = ["w", "x", "y", "z"].map((name) => [`${name}.test.ts`, fails("", name)] as const);
  const { lines } = await run(Object.fromEntries(many));
  assert.is(lines.at(-1), "0 passed, 4 failed");
});

test("a file that ends well without having run a test has failed", async () => {
  const { lines, code } = await run({
    "silent.test.ts": "process.exit(0);",
    "empty.test.ts": `${UVU}test.run();`,
    "crash.test.ts": "throw new Error('early');",
  });
  assert.is(lines.at(-1), "0 passed, 3 failed");
  assert.is(code, 1);
  assert.ok(lines.some((line) => line.endsWith("silent.test.ts printed no totals (ended with 0)")));
  assert.ok(lines.some((line) => line.endsWith("empty.test.ts has no tests")));
});

test("a file that fails after its last test has failed", async () => {
  const { lines } = await run({
    "late.test.ts": `${UVU}test("a", () => { process.on("exit", () => { process.exitCode = 3; }); }); test.run();`,
  });
  assert.is(lines.at(-1), "1 passed, 1 failed");
  assert.ok(lines.some((line) => line.endsWith("late.test.ts ended with 3")));
});

test("a file past its limit is killed with all that it started", async () => {
  const { lines, code } = await run({
    "hang.test.ts": `// limit: 1 s\n${UVU}import { spawn } from "node:child_process"; spawn("sleep", ["61"]); test("a", () => {}); test.run();`,
  });
  assert.is(lines.at(-1), "1 passed, 1 failed");
  assert.is(code, 1);
  assert.ok(lines.some((line) => line.endsWith("hang.test.ts was still running after 1 s and was killed")));
});

test("a process left running is ended, and told", async () => {
  const { lines, temp } = await run({
    "left.test.ts": `${UVU}import { spawn } from "node:child_process"; import { tmpdir } from "node:os";
      spawn("sleep", ["62"], { detached: true, stdio: "ignore" }).unref(); test("a", () => {}); test.run();`,
  });
  assert.is(lines.at(-1), "1 passed, 1 failed");
  assert.ok(lines.some((line) => line.endsWith("left.test.ts left running: sleep 62")));
  assert.equal(temp, []);
});

test("a file that is not there has failed", async () => {
  const child = spawn(process.execPath, [join(ROOT, "test/run.ts"), "test/none.test.ts"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "exit") as Promise<[number]>]);
  assert.is(output.trimEnd().split("\n").at(-1), "0 passed, 1 failed");
  assert.is(code, 1);
});

test("nothing but coverage and file names may be asked of the runner", async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, "run.ts"), "--watch"], { stdio: "ignore" });
  const [code] = (await once(child, "exit")) as [number];
  assert.is(code, 2);
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
