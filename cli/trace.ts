/** `tocsin trace`: where a page is, why, and what happens next. */
import type { Command } from "commander";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { type CommonOptions, outputOf, secondsOption, withApi } from "./options.ts";
import { type Output, printable, tableLines } from "./output.ts";
import { type Api, openApi, type ServerOptions } from "./server.ts";
import { followTrace } from "./trace-follow.ts";
import { eventCells, headline, relativeCells, type Trace, title } from "./trace-view.ts";

type TraceOptions = CommonOptions & ServerOptions & { readonly follow?: boolean; readonly timeout: number };

const FOLLOW_SECONDS = 600;

export function addTrace(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("trace")
    .description("say where a page is and why, what happens next, and what happened to it so far")
    .argument("<id>", "the page's trackingId or uniqueId, or last: the newest page")
    .option(
      "--follow",
      "go on until nothing more is awaited: it is answered, read where no answer is asked for, or has failed, which ends with 1",
    )
    .addOption(secondsOption("--timeout <seconds>", "how long to follow it", FOLLOW_SECONDS));
  withApi(command).action(async (id: string, _options: object, self: Command) => {
    finish(await trace(id, self.optsWithGlobals<TraceOptions>()));
  });
}

async function trace(id: string, options: TraceOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const api = openApi(options, process.env);
  const page = await read(api, id);
  if (options.follow) {
    // `last` may be another page by now.
    const look = () => read(api, page.uniqueId ?? page.trackingId);
    return followTrace({ look, first: page, timeoutMs: options.timeout * 1_000, output });
  }
  output.record(page);
  show(output, page);
  return EXIT.ok;
}

async function read(api: Api, id: string): Promise<Trace> {
  const found = await api.find<Trace>(`messages/${encodeURIComponent(id)}/trace`);
  if (found !== null) return found;
  throw id === "last"
    ? new CommandFault(EXIT.notFound, "there is no page yet", 'Send one:  npx tocsin page <destination> "text"')
    : new CommandFault(
        EXIT.notFound,
        `the server knows no page ${printable(id)}`,
        "The newest one:  npx tocsin trace last",
      );
}

function show(output: Output, page: Trace): void {
  output.line(headline(output, page));
  output.line(`${title(output, page)}\n`);
  if (page.earlier > 0) output.line(output.paint("dim", `${page.earlier} earlier events are not shown`));
  const rows = page.events.map((event) => eventCells(output, event, page));
  for (const line of tableLines(output, ["at", "since", "event", "node", "detail"], rows)) output.line(line);
  if (page.family.length > 0) {
    output.line();
    const family = page.family.map((kin) => relativeCells(output, kin));
    for (const line of tableLines(output, ["status", "destination", "page", ""], family)) output.line(line);
  }
  const [other, ...more] = page.others;
  if (other === undefined) return;
  const count = more.length === 0 ? "another page has" : `${more.length + 1} other pages have`;
  output.line(`\n${output.paint("yellow", `${count} this trackingId too`)}, the newest:  npx tocsin trace ${other}`);
}
