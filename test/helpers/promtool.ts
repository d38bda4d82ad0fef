/** Prometheus' own tool: whether rules are rules, and what rings over series that a test makes up. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { stringify } from "yaml";

/** Where script/test lays it, on machines that have none. */
const OWN = join(import.meta.dirname, "../../node_modules/.cache/prometheus");
const LIMIT_MS = 80_000;

/** A moment of a made-up cluster. `series`: by name and labels, values in promtool's own notation, one every 10 s. */
export type Scene = {
  readonly name: string;
  readonly series: Readonly<Record<string, string>>;
  readonly at: string;
  /** Exactly these alerts. */
  readonly rings: readonly string[];
};

/** @throws Error with what the tool says */
export function checkRules(rules: string): void {
  run(["check", "rules", rules]);
}

/** @throws Error with what the tool says of the scenes in which something else rings */
export function playScenes(rules: string, scenes: readonly Scene[]): void {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-scenes-"));
  const file = join(folder, "scenes.yml");
  const tests = scenes.map(({ name, series, at, rings }) => ({
    name,
    interval: "10s",
    input_series: Object.entries(series).map(([one, values]) => ({ series: one, values })),
    promql_expr_test: [
      {
        expr: 'count by (alertname) (ALERTS{alertstate="firing"}) > bool 0',
        eval_time: at,
        exp_samples: rings.map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 })),
      },
    ],
  }));
  writeFileSync(file, stringify({ rule_files: [rules], evaluation_interval: "10s", tests }));
  try {
    run(["test", "rules", file]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function run(args: readonly string[]): void {
  const path = [process.env.PATH, OWN].join(delimiter);
  const { error, status, stdout, stderr } = spawnSync("promtool", args, {
    env: { PATH: path },
    encoding: "utf8",
    timeout: LIMIT_MS,
  });
  if ((error as NodeJS.ErrnoException | undefined)?.code === "ENOENT")
    throw new Error("this test needs promtool on the PATH (Debian: of the package prometheus); script/test fetches it");
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`promtool ${args.slice(0, 2).join(" ")}:\n${stdout}${stderr}`);
}
