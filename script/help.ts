/** `npm run help`: what can be typed in this checkout, one line each. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Every npm script by its name. */
export const NPM_SCRIPTS: Readonly<Record<string, string>> = {
  start: "runs Tocsin (script/server sets up what is missing first)",
  test: "runs every test; node test/run.ts <file> … runs some",
  coverage: "runs every test and reports what they reach",
  check: "lint, types, unused code, architecture",
  format: "puts the code into the house's form",
  soak: "kills a node under load 1,000 times, and 20 times at each named instant (an hour); SEED=… KILLS=… ROUNDS=… to choose",
  failover:
    "kills, freezes and cuts off parts of a loaded cluster, and says how long its pages stand still; -- --only EVENT, --rounds N",
  overload: "gives one node of three ten times its share of hosts, and prints what becomes of it (a minute)",
  mixes: "200 mixes of faults on a loaded cluster; SEED=… MIXES=… to choose",
  simulate: "runs 10,000 seeds of the simulated cluster; SEED=… node test/simulation.test.ts shows one again",
  bench: "measures what a page costs beside the machine's ceilings; -- --quick, -- --help",
  settings: "prints every setting as .env.example; -- --table as a Markdown table",
  metrics: "prints docs/metrics.md",
  api: "writes docs/api and the types of the client for phones, from the server's own schemas",
  sdk: "builds the client for phones into sdk/dist",
  sbom: "prints the bill of materials as CycloneDX; -- FILE writes it there",
  licences: "prints docs/licences.md; fails at a licence that may not be shipped",
  help: "prints this",
};

const COMMANDS: Readonly<Record<string, string>> = {
  "script/server": "sets up what is missing, then runs Tocsin",
  "script/test": "sets up what is missing, then runs every test",
  "npx tocsin --help": "every command: page, phone, trace, cluster, demo, emulator, doctor …",
};

if (import.meta.main) {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8")) as {
    version: string;
  };
  const named = Object.entries(NPM_SCRIPTS).map(([name, line]) => [
    `npm ${/^(start|test)$/.test(name) ? "" : "run "}${name}`,
    line,
  ]);
  const lines = [...Object.entries(COMMANDS), ...named].map(([name, line]) => `  ${name?.padEnd(20)}${line}`);
  console.log(
    `Tocsin ${version}\n\n${lines.join("\n")}\n\nSettings are environment variables, also read from .env: see .env.example`,
  );
}
