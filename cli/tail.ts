/** `tocsin tail`: pages as they change, on whatever node; with `--stuck`, those that something should have happened to. */
import { type Command, Option } from "commander";
import { PRIORITIES, STATUS_TEXTS } from "../domain.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { looks } from "./looks.ts";
import { type CommonOptions, oneOf, outputOf, readSeconds, withApi } from "./options.ts";
import { type Output, printable, spanText } from "./output.ts";
import { type Api, openApi, type ServerOptions } from "./server.ts";
import { followStuck } from "./stuck.ts";
import { statusCell, timeText } from "./trace-view.ts";

type TailOptions = CommonOptions &
  ServerOptions & {
    readonly stuck?: boolean;
    readonly host?: string;
    readonly destination?: string;
    readonly status?: string;
    readonly priority?: string;
    readonly timeout?: number;
  };

type Change = {
  /** The same when it comes again. */
  readonly id: string;
  readonly at: string;
  readonly status: string;
  readonly reason: string | null;
  readonly uniqueId: string;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly priority: string;
};
type Changes = {
  readonly items: readonly Change[];
  readonly next: string;
  readonly more: boolean;
  readonly gap: boolean;
};

const LOOK_MS = 1_000;
/** The server keeps a change for 30 s behind its telling: whoever looks less often may miss some. */
const KEPT_MS = 25_000;
/** Changes that may come again are known by their ids, the last so many. */
const KNOWN_MAX = 50_000;

export function addTail(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("tail")
    .description("show pages as they change, until Ctrl-C")
    .option("--stuck", "show pages that something should have happened to, and why; ends with 1 where there are any")
    .option("--host <name>", "of this host system alone")
    .option("--destination <destination>", "for this person alone, by any of their addresses")
    .addOption(
      new Option("--status <status>", "what they become").argParser(oneOf([...STATUS_TEXTS, "REPLY"] as const)),
    )
    .addOption(new Option("--priority <priority>", "of this priority alone").choices(PRIORITIES))
    .option("--timeout <seconds>", "end after so long", readSeconds);
  withApi(command).action(async (_options: object, self: Command) => {
    finish(await tail(self.optsWithGlobals<TailOptions>()));
  });
}

async function tail(options: TailOptions): Promise<ExitCode> {
  const { stuck = false, host, destination, status, priority, timeout } = options;
  const output = outputOf(options);
  const api = openApi(options, process.env);
  const interrupted = onInterrupt();
  const signal =
    timeout === undefined ? interrupted : AbortSignal.any([interrupted, AbortSignal.timeout(timeout * 1_000)]);
  const filter = new URLSearchParams(
    Object.entries({ host, destination, status, priority }).filter((pair): pair is [string, string] => !!pair[1]),
  );
  if (stuck) {
    const code = await followStuck(api, filter, signal, output);
    return code === EXIT.ok && interrupted.aborted ? EXIT.interrupted : code;
  }
  await followChanges(api, filter, signal, output);
  return interrupted.aborted ? EXIT.interrupted : EXIT.timeout;
}

async function followChanges(api: Api, filter: URLSearchParams, signal: AbortSignal, output: Output): Promise<void> {
  const known = new Set<string>();
  let last = performance.now();
  let place: string | null = null;
  const look = () => {
    if (place !== null) filter.set("after", place);
    return api.get<Changes>(`messages/changes?${filter}`);
  };
  const pauseMs = ({ more }: Changes) => (more ? 0 : LOOK_MS);
  for await (const { items, next, gap } of looks({ look, pauseMs, signal, output })) {
    if (place === null) output.line(output.paint("dim", "Pages are shown as they change. Ctrl-C ends it.\n"));
    place = next;
    if (gap) output.note("the database's primary is another now: changes may be missing");
    const awayMs = performance.now() - last;
    if (awayMs > KEPT_MS) output.note(`nothing could be read for ${spanText(awayMs)}: changes may be missing`);
    last = performance.now();
    for (const item of items) {
      const key = `${item.id} ${item.uniqueId} ${item.status}`;
      if (known.has(key)) continue;
      known.add(key);
      output.record(item);
      output.line(lineOf(output, item));
    }
    for (const key of known) {
      if (known.size <= KNOWN_MAX) break;
      known.delete(key);
    }
  }
}

function lineOf(output: Output, { at, status, priority, origin, destination, trackingId, reason }: Change): string {
  const cells = [
    timeText(at),
    statusCell(output, status),
    priority.padEnd(6),
    printable(`${origin} → ${destination}`).padEnd(24),
    printable(trackingId),
    ...(reason === null ? [] : [printable(reason)]),
  ];
  return cells.join("   ");
}
