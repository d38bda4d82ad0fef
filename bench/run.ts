/**
 * What a page costs, how many go through, and how near that is to what this machine can do: scenarios and ceilings in one
 * run, as a table and, with `--json`, as a file. See docs/performance.md.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Ceiling, playCeilings } from "./ceilings/ceilings.ts";
import { compare } from "./compare.ts";
import { hottest, hottestLines } from "./profile.ts";
import { FIGURES, type FigureName, round } from "./report/figures.ts";
import { commitOf, machineFacts } from "./report/machine.ts";
import { ceilingLines, type Result, scenarioLines } from "./report/table.ts";
import { BACKLOG } from "./scenarios/backlog.ts";
import { CLUSTER } from "./scenarios/cluster.ts";
import { DEADLINES } from "./scenarios/deadlines.ts";
import { IDLE } from "./scenarios/idle.ts";
import { LIFECYCLES } from "./scenarios/lifecycles.ts";
import { ACCEPT, PRIORITY } from "./scenarios/saturated.ts";
import type { Scenario, Size } from "./scenarios/scenario.ts";
import { STREAMS } from "./scenarios/streams.ts";
import type { StageSlice } from "./stage/stage.ts";
import { statementLines } from "./stage/statements.ts";

const SCENARIOS: readonly Scenario[] = [...LIFECYCLES, ACCEPT, PRIORITY, BACKLOG, DEADLINES, IDLE, STREAMS, CLUSTER];
const NAMES = SCENARIOS.map(({ name }) => name);
const ROUNDS = 3;
const USAGE = `npm run bench -- [option …]

  --quick             everything small; about two minutes
  --only NAME,…       of ${NAMES.join(", ")}, ceilings
  --redis             with Redis (BullMQ brings the pushes); without it due rows are claimed from Postgres
  --json FILE         writes the results as JSON
  --cpu-prof DIR      the server runs under Node's profiler, and Postgres counts its statements; prints the functions and the
                      statements that took most, leaves both in DIR
  --compare [COMMIT]  this checkout against that commit (HEAD~1), in turn; prints the ratios of the medians
  --rounds N          how often each is run then (${ROUNDS})
  --rates NAME=N,…    pages a second of a scenario's part by the clock, instead of half of what was found
  --root DIR          measures the server of another checkout
  --size SIZE         tiny, quick or full; the figures of tiny say nothing
`;

const options = {
  quick: { type: "boolean", default: false },
  only: { type: "string" },
  redis: { type: "boolean", default: false },
  json: { type: "string" },
  "cpu-prof": { type: "string" },
  compare: { type: "string" },
  rounds: { type: "string", default: String(ROUNDS) },
  rates: { type: "string", default: "" },
  root: { type: "string" },
  size: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => process.exit(130));

function usage(complaint: string): never {
  console.error(`${complaint}\n\n${USAGE}`);
  process.exit(2);
}

function readArguments() {
  const given = process.argv.slice(2);
  const at = given.indexOf("--compare");
  if (at >= 0 && (given[at + 1]?.startsWith("--") ?? true)) given.splice(at + 1, 0, "HEAD~1");
  try {
    const { values } = parseArgs({ args: given, options });
    const size = values.size ?? (values.quick ? "quick" : "full");
    if (!["tiny", "quick", "full"].includes(size)) usage(`there is no size ${size}`);
    const only = values.only?.split(",") ?? null;
    for (const name of only ?? []) if (![...NAMES, "ceilings"].includes(name)) usage(`there is no scenario ${name}`);
    if (!/^([3-9]|[1-9]\d)$/.test(values.rounds)) usage("--rounds takes a number from 3 to 99: fewer say nothing");
    const rates = readRates(values.rates);
    return { ...values, rates, size: size as Size, only, rounds: Number(values.rounds) };
  } catch (error) {
    usage((error as Error).message);
  }
}

function readRates(text: string): ReadonlyMap<string, number> {
  if (text === "") return new Map();
  return new Map(
    text.split(",").map((entry) => {
      const [, name, rate] = /^(\w+)=(\d+(?:\.\d+)?)$/.exec(entry) ?? usage("--rates takes NAME=N,…");
      return [name!, Number(rate)];
    }),
  );
}

const chosen = readArguments();
try {
  if (chosen.help) console.log(USAGE);
  else if (chosen.compare !== undefined) await hold(chosen.compare);
  else await measure();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function hold(commit: string): Promise<void> {
  const { rounds, size, redis, json } = chosen;
  const result = await compare({ commit, rounds, size, redis, only: chosen.only ?? ["burst", "spread", "accept"] });
  for (const line of result.lines) console.log(line);
  if (json !== undefined) writeJson(json, result.found);
}

async function measure(): Promise<void> {
  const { size, only, redis } = chosen;
  const wanted = (name: string) => only === null || only.includes(name);
  const slice = { root: resolve(chosen.root ?? join(import.meta.dirname, "..")), redis };
  const machine = machineFacts();
  const commit = commitOf(slice.root);
  console.log(
    `${size} · commit ${commit ?? "unknown"} · ${machine.cores} × ${machine.cpu} · Node ${machine.node} · ${redis ? "with Redis" : "no Redis"}`,
  );
  if (machine.dataInMemory)
    console.log("The temp folder lies in memory: a commit costs nothing here, and no figure that writes is true.");
  if (machine.loadBefore > 0.5)
    console.log(`Other work runs here (load ${machine.loadBefore}): the figures are too low.`);

  const ceilings: readonly Ceiling[] = wanted("ceilings")
    ? await playCeilings({ ...slice, profileDir: null }, size)
    : [];
  if (ceilings.length > 0) for (const line of ceilingLines(ceilings)) console.log(line);
  const results: Result[] = [];
  let postgres: Readonly<Record<string, string>> = {};
  for (const scenario of SCENARIOS.filter(({ name }) => wanted(name))) {
    const profileDir = chosen["cpu-prof"] === undefined ? null : resolve(chosen["cpu-prof"], scenario.name);
    const result = await play(scenario, { ...slice, profileDir });
    for (const line of scenarioLines(result, ceilings)) console.log(line);
    if (profileDir !== null)
      for (const line of [...hottestLines(hottest(profileDir, slice.root)), ...statementLines(profileDir)])
        console.log(line);
    results.push(result);
  }

  async function play(scenario: Scenario, on: StageSlice): Promise<Result> {
    const played = await scenario.play(on, size, chosen.rates.get(scenario.name) ?? null);
    postgres = played.postgresSettings;
    const figures = Object.entries(played.figures).map(([name, value]) => [
      name,
      round(value, FIGURES[name as FigureName].digits + 1),
    ]);
    return { scenario: scenario.name, what: played.what, figures: Object.fromEntries(figures) };
  }
  if (chosen.json !== undefined)
    writeJson(chosen.json, { at: new Date().toISOString(), commit, size, redis, machine, postgres, ceilings, results });
}

function writeJson(file: string, value: object): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}
