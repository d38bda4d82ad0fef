/** `tocsin trace`: where a page is, and why. */
import type { Command } from "commander";
import { pause } from "./backoff.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, outputOf, secondsOption, withApi } from "./options.ts";
import { type Output, printable, type Style, spanText, tableLines } from "./output.ts";
import { type Api, openApi, type ServerOptions } from "./server.ts";

type TraceOptions = CommonOptions & ServerOptions & { readonly follow?: boolean; readonly timeout: number };

type TraceEvent = {
  readonly at: string;
  readonly event: string;
  readonly node: string;
  readonly detail: string | null;
};
type Trace = {
  /** Null: it was refused before it became a message. */
  readonly uniqueId: string | null;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly status: string;
  readonly why: string;
  readonly events: readonly TraceEvent[];
  /** Other pages under the same trackingId. */
  readonly others: readonly string[];
};

const FOLLOW_SECONDS = 600;
const POLL_MS = 1_000;
/** READ too: an answer may come and may not. */
const FINAL = ["READ", "ACKNOWLEDGED", "IGNORED", "FAILED"];

export function addTrace(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("trace")
    .description("say where a page is and why, and what happened to it so far")
    .argument("<id>", "the page's trackingId or uniqueId, or last: the newest page")
    .option("--follow", "go on until it is read, answered or failed; ends with 1 where it failed")
    .addOption(secondsOption("--timeout <seconds>", "how long to follow it", FOLLOW_SECONDS));
  withApi(command).action(async (id: string, _options: object, self: Command) => {
    finish(await trace(id, self.optsWithGlobals<TraceOptions>()));
  });
}

async function trace(id: string, options: TraceOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const api = openApi(options, process.env);
  const page = await read(api, id);
  if (options.follow) return follow(api, page, options.timeout * 1_000, output);
  output.record(page);
  show(output, page);
  return EXIT.ok;
}

async function follow(api: Api, first: Trace, timeoutMs: number, output: Output): Promise<ExitCode> {
  // `last` may be another page by now.
  const id = first.uniqueId ?? first.trackingId;
  const signal = onInterrupt();
  const over = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const shown = new Set<string>();
  let page = first;
  output.line(`${title(output, page)}\n`);
  for (;;) {
    for (const event of page.events) {
      const key = JSON.stringify(event);
      if (shown.has(key)) continue;
      shown.add(key);
      output.record({ uniqueId: page.uniqueId, ...event });
      output.line(cells(output, event, page).join("   ").trimEnd());
    }
    if (FINAL.includes(page.status) || over.aborted) break;
    await pause(POLL_MS, over);
    page = await again(api, id, page, output);
  }
  output.record({ uniqueId: page.uniqueId, status: page.status, why: page.why });
  output.line(`\n${headline(output, page)}`);
  if (signal.aborted) return EXIT.interrupted;
  if (!FINAL.includes(page.status)) return EXIT.timeout;
  return page.status === "FAILED" ? EXIT.failed : EXIT.ok;
}

/** While following, a server that is away for a moment is no reason to stop. */
async function again(api: Api, id: string, page: Trace, output: Output): Promise<Trace> {
  try {
    return await read(api, id);
  } catch (error) {
    if (!(error instanceof CommandFault) || error.exitCode !== EXIT.unavailable) throw error;
    output.note(`${error.message}; trying again`);
    return page;
  }
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
  const rows = page.events.map((event) => cells(output, event, page));
  for (const line of tableLines(output, ["at", "since", "event", "node", "detail"], rows)) output.line(line);
  const [other, ...more] = page.others;
  if (other === undefined) return;
  const count = more.length === 0 ? "another page has" : `${more.length + 1} other pages have`;
  output.line(`\n${output.paint("yellow", `${count} this trackingId too`)}, the newest:  npx tocsin trace ${other}`);
}

function title(output: Output, { uniqueId, trackingId, origin, destination }: Trace): string {
  const ids = uniqueId === null ? trackingId : `${trackingId}, ${uniqueId}`;
  return output.paint("dim", printable(`${ids}   ${origin} → ${destination}`));
}

function headline(output: Output, { status, why }: Trace): string {
  return `${output.paint("bold", output.paint(STYLES[status] ?? "cyan", status))}  ${printable(why)}`;
}

const STYLES: Readonly<Record<string, Style>> = {
  DELIVERED: "green",
  READ: "green",
  ACKNOWLEDGED: "green",
  IGNORED: "yellow",
  FAILED: "red",
  EXPIRED: "red",
  REFUSED: "red",
};

function cells(output: Output, { at, event, node, detail }: TraceEvent, { events }: Trace): string[] {
  const since = `+${spanText(Date.parse(at) - Date.parse(events[0]?.at ?? at))}`;
  return [
    timeText(at),
    since.padStart(9),
    output.paint(STYLES[event] ?? "bold", event.padEnd(12)),
    node,
    printable(detail ?? ""),
  ];
}

/** With thousandths: two nodes' steps may lie closer together than a second. */
function timeText(at: string): string {
  const time = new Date(at);
  const ms = String(time.getMilliseconds()).padStart(3, "0");
  return `${time.toLocaleTimeString("en-GB", { hour12: false })}.${ms}`;
}
