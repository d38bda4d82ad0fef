/**
 * This checkout against another commit in one run: both servers by turns, A B A B …, under this checkout's bench, so that
 * what else the machine does meets both. Ratios are of the medians; the spread says what a ratio is worth.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Better, FIGURES, type FigureName } from "./report/figures.ts";
import { type Result, shown } from "./report/table.ts";
import type { Size } from "./scenarios/scenario.ts";

export type Comparison = {
  readonly commit: string;
  readonly rounds: number;
  readonly size: Size;
  readonly redis: boolean;
  readonly only: readonly string[];
};
export type Compared = {
  readonly scenario: string;
  readonly figure: FigureName;
  readonly here: readonly number[];
  readonly there: readonly number[];
  /** Median here by median there; null where there is 0. */
  readonly ratio: number | null;
};

const ROOT = join(import.meta.dirname, "..");
const RUN_MS = 1_800_000;

/** @throws Error when the commit is unknown, or a run fails */
export async function compare(
  slice: Comparison,
): Promise<{ readonly found: readonly Compared[]; readonly lines: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-compare-"));
  const there = join(folder, "checkout");
  const remove = () => {
    git("worktree", "remove", "--force", there);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const added = git("worktree", "add", "--detach", there, slice.commit);
    if (added.status !== 0) throw new Error(`git has no checkout of ${slice.commit}: ${added.stderr.trim()}`);
    process.on("exit", remove);
    if (!existsSync(join(there, "node_modules"))) symlinkSync(join(ROOT, "node_modules"), join(there, "node_modules"));
    const runs: { readonly here: Result[][]; readonly there: Result[][] } = { here: [], there: [] };
    // All later runs go by the first one's clock: latencies at two rates are not to be compared.
    let rates = "";
    for (let round = 0; round < slice.rounds; round++) {
      for (const side of ["here", "there"] as const) {
        console.log(`round ${round + 1} of ${slice.rounds}, ${side === "here" ? "this checkout" : slice.commit}`);
        const results = await oneRun(slice, side === "here" ? ROOT : there, folder, rates);
        runs[side].push(results);
        if (rates === "") rates = ratesOf(results);
      }
    }
    const found = comparedFigures(runs.here, runs.there);
    return { found, lines: linesOf(slice, found) };
  } finally {
    process.off("exit", remove);
    remove();
  }
}

function ratesOf(results: readonly Result[]): string {
  return results
    .flatMap(({ scenario, figures: { clockRate } }) => (clockRate === undefined ? [] : `${scenario}=${clockRate}`))
    .join(",");
}

async function oneRun(
  { size, redis, only }: Comparison,
  root: string,
  folder: string,
  rates: string,
): Promise<Result[]> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "run.json");
  const args = ["--root", root, "--size", size, "--only", only.join(","), "--json", file];
  if (redis) args.push("--redis");
  if (rates !== "") args.push("--rates", rates);
  const child = spawn(process.execPath, [join(import.meta.dirname, "run.ts"), ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    timeout: RUN_MS,
  });
  // Not at once: it has processes of its own to end.
  const end = () => child.kill("SIGTERM");
  process.on("exit", end);
  const code = await new Promise((resolve) => child.on("exit", (status, signal) => resolve(status ?? signal)));
  process.off("exit", end);
  if (code !== 0) throw new Error(`the run of ${root} ended with ${code}`);
  return (JSON.parse(readFileSync(file, "utf8")) as { results: Result[] }).results;
}

/** Every figure that has a better and a worse and that both sides gave in every run. */
export function comparedFigures(
  here: readonly (readonly Result[])[],
  there: readonly (readonly Result[])[],
): Compared[] {
  const [first = []] = here;
  return first.flatMap(({ scenario, figures }) =>
    (Object.keys(FIGURES) as FigureName[]).flatMap((figure): Compared[] => {
      if (figures[figure] === undefined || FIGURES[figure].better === "as is") return [];
      const of = (runs: readonly (readonly Result[])[]) =>
        runs.flatMap((results) => results.find((one) => one.scenario === scenario)?.figures[figure] ?? []);
      const [ours, theirs] = [of(here), of(there)];
      if (ours.length !== here.length || theirs.length !== there.length) return [];
      const base = median(theirs);
      return [{ scenario, figure, here: ours, there: theirs, ratio: base === 0 ? null : median(ours) / base }];
    }),
  );
}

function linesOf({ commit }: Comparison, found: readonly Compared[]): string[] {
  const width = Math.max(...Object.values(FIGURES).map(({ label }) => label.trim().length)) + 2;
  const range = (values: readonly number[], digits: number) =>
    `${shown(median(values), digits)} (${shown(Math.min(...values), digits)} to ${shown(Math.max(...values), digits)})`;
  const lines = found.flatMap(({ scenario, figure, here, there, ratio }, n) => {
    const { label, unit, digits, better } = FIGURES[figure];
    const head =
      found[n - 1]?.scenario === scenario ? [] : ["", `${scenario}: this checkout, ${commit}, and their ratio`];
    const worth = ratio === null ? "" : `${ratio.toFixed(2)}${verdict(here, there, better)}`;
    return [
      ...head,
      `  ${label.trim().padEnd(width)}${range(here, digits).padEnd(28)}${range(there, digits).padEnd(28)}${unit.padEnd(9)}${worth}`,
    ];
  });
  return lines;
}

/** Only where the two sides' runs do not overlap is there anything to say. */
function verdict(here: readonly number[], there: readonly number[], better: Better): string {
  const above = Math.min(...here) > Math.max(...there);
  const below = Math.max(...here) < Math.min(...there);
  if (!above && !below) return "  within the spread";
  return above === (better === "more") ? "  better" : "  worse";
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function git(...args: string[]) {
  return spawnSync("git", ["-C", ROOT, ...args], { encoding: "utf8", timeout: 60_000 });
}
