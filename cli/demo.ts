/** `tocsin demo`: a cluster on this machine, pages through it, and what became of them; with `--kill`, of a node's death too. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { PageFigures } from "./demo-record.ts";
import type { DemoResult, Recovery } from "./demo-run.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, outputOf } from "./options.ts";
import { type Output, spanText, tableLines } from "./output.ts";
import { openProgress } from "./progress.ts";

type DemoOptions = CommonOptions & {
  readonly nodes: number;
  readonly pages: number;
  readonly seconds?: number;
  readonly rate: number;
  readonly kill?: boolean;
  readonly redis?: string;
};

const NODES_MAX = 9;
const PAGES_MAX = 100_000;
const RATE_MAX = 500;
const SECONDS_MAX = 3_600;

export function addDemo(program: Command, finish: (code: ExitCode) => void): void {
  program
    .command("demo")
    .description(
      "run a cluster on this machine, page through it, kill a node if asked to, and say what became of every page",
    )
    .option("--nodes <n>", `how many nodes, at most ${NODES_MAX}`, wholeNumber(1, NODES_MAX), 3)
    .option("--pages <n>", "how many pages", wholeNumber(1, PAGES_MAX), 300)
    .option("--rate <n>", "pages a second", wholeNumber(1, RATE_MAX), 20)
    .addOption(
      new Option("--seconds <n>", "send for so long, instead of --pages")
        .argParser(wholeNumber(1, SECONDS_MAX))
        .conflicts("pages"),
    )
    .option("--kill", "kill one node (kill -9) when half of the pages are sent")
    .option("--redis <url>", "use this Redis (a few keys named demo-… stay in it); unless said, the demo runs without")
    .addHelpText("after", EXAMPLES)
    .action(async (_options: object, self: Command) => {
      finish(await demo(self.optsWithGlobals<DemoOptions>()));
    });
}

const EXAMPLES = `
It needs nothing but Tocsin: Postgres, nodes, push emulator, host systems and phones are made for it, in a temporary folder that is
removed at the end.

Examples:
  tocsin demo --nodes 3 --kill
  tocsin demo --seconds 60 --rate 50 --json

Ends with 0 when no page was lost and none doubled, else 1.`;

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It takes a whole number from ${least} to ${most}.`);
  };
}

async function demo(options: DemoOptions): Promise<ExitCode> {
  const { nodes, rate, seconds, kill = false, redis: redisUrl = null } = options;
  const pages = seconds === undefined ? options.pages : seconds * rate;
  if (pages > PAGES_MAX) throw new CommandFault(EXIT.usage, `--seconds and --rate make more than ${PAGES_MAX} pages`);
  if (kill && nodes === 1) throw new CommandFault(EXIT.usage, "--kill needs at least two nodes: --nodes 2");
  const output = outputOf(options);
  const progress = openProgress(process.stderr, process.env);
  const signal = onInterrupt();
  // Loaded here alone, so that the other commands need not wait for it.
  const { runDemo } = await import("./demo-run.ts");
  let result: DemoResult;
  try {
    result = await runDemo(
      { nodes, pages, rate, kill, redisUrl },
      {
        onStep(sentence) {
          progress.clear();
          output.line(output.paint("dim", sentence));
        },
        onProgress: progress.show,
      },
      signal,
    );
  } finally {
    progress.clear();
  }
  const good = result.pages.lost === 0 && result.pages.doubled === 0;
  output.record(result);
  for (const line of lines(output, result)) output.line(line);
  return good ? EXIT.ok : EXIT.failed;
}

function* lines(output: Output, { stages, pages, killed, seconds }: DemoResult): Generator<string> {
  const span = (ms: number | null) => (ms === null ? "-" : spanText(ms));
  const rows = stages.map(({ priority, status, pages: count, p50Ms, p95Ms, maxMs }, index) => [
    stages[index - 1]?.priority === priority ? "" : priority,
    status,
    ...[String(count), span(p50Ms), span(p95Ms), span(maxMs)],
  ]);
  yield "";
  yield* tableLines(output, ["priority", "told", "pages", "p50", "p95", "max"], rows);
  yield output.paint(
    "dim",
    "From the sending to the status at the host's socket. Somebody takes 0.2 s to read what is shown.",
  );
  yield "";
  yield summary(output, pages);
  if (killed !== null) yield* recovery(killed);
  yield output.paint("dim", `All of it took ${spanText(seconds * 1_000)}, on one machine.`);
}

function summary(output: Output, { sent, accepted, delivered, read, failed, lost, doubled }: PageFigures): string {
  const verdict = (name: string, count: number) =>
    output.paint(count === 0 ? "green" : "red", output.paint("bold", `${name} ${count}`));
  const parts = [`sent ${sent}`, `accepted ${accepted}`, `delivered ${delivered}`, `read ${read}`];
  if (failed > 0) parts.push(`failed ${failed}`);
  return [...parts, verdict("lost", lost), verdict("doubled", doubled)].join("   ");
}

function* recovery({ node, pages, pagesMovedMs, hosts, hostsServedMs }: Recovery): Generator<string> {
  const after = (ms: number | null) => (ms === null ? "not before the end" : `after ${spanText(ms)}`);
  yield `killed ${node}, with ${counted(pages, "page")} in hand and ${counted(hosts, "host system")} on it`;
  if (pages > 0) yield `  the last of these pages was on its phone ${after(pagesMovedMs)}`;
  if (hosts > 0) yield `  another node served the last of these host systems ${after(hostsServedMs)}`;
}

function counted(count: number, noun: string): string {
  return `${count === 0 ? "no" : count} ${noun}${count === 1 ? "" : "s"}`;
}
