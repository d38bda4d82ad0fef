/** `tocsin page`: behaves as a host system that sends one page and hears what becomes of it. */
import type { Command } from "commander";
import { PRIORITIES, type Priority, type StatusText } from "../domain.ts";
import type { HostTls } from "../gateways/mxpp/host-link.ts";
import type { NewMessage } from "../gateways/mxpp/new-message.ts";
import type { Notification } from "../gateways/mxpp/notification.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { encodePage, freshTrackingId, HOST_ENCODINGS, type HostEncoding } from "./host-client.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, oneOf, outputOf, readSeconds, secondsOption } from "./options.ts";
import { clockText, type Output, printable, type Style, spanText } from "./output.ts";
import { GOALS, type Goal, type JourneyEnd, runJourney } from "./page-journey.ts";
import { CA_HINT, findMxpp, isCertificateFault, openApi, readFile, type ServerOptions } from "./server.ts";

const WAIT_SECONDS = 120;
/** Without --wait: for ACCEPTED or FAILED alone. */
const BRIEF_MS = 10_000;
const TEXT_BYTES = 256 * 1024;

type PageOptions = CommonOptions &
  Pick<ServerOptions, "mxpp"> & {
    readonly priority: Priority;
    readonly host?: string;
    readonly from?: string;
    readonly timeoutDevice?: number;
    readonly timeoutUser?: number;
    readonly wait?: boolean;
    readonly until?: Goal;
    readonly timeout: number;
    readonly encoding: HostEncoding;
    readonly tls?: boolean;
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
  };

export function addPage(program: Command, finish: (code: ExitCode) => void): void {
  program
    .command("page")
    .description("send a page as a host system does, and print each status as it returns")
    .argument("<destination>", "phone number, user name or pager number of a subscriber")
    .argument("<text>", "what the page says; - reads it from standard input")
    .option("--priority <word>", "high, medium or low", oneOf(PRIORITIES), "medium")
    .option("--host <name>", "the host system to speak as (unless said, the oldest the server knows)")
    .option("--from <name>", "who the page is from (the host system unless said)")
    .option("--timeout-device <seconds>", "how long Tocsin may try to reach the device", readSeconds)
    .option("--timeout-user <seconds>", "how long the recipient may take to answer", readSeconds)
    .option("--wait", "wait for DELIVERED (else for ACCEPTED or FAILED alone)")
    .option("--until <status>", "wait for this status or a later one, or for a REPLY", oneOf(GOALS))
    .addOption(secondsOption("--timeout <seconds>", "how long to wait", WAIT_SECONDS))
    .option("--mxpp <host:port>", "the server's MXPP socket, where it is not the one that runs here")
    .option("--encoding <name>", HOST_ENCODINGS.join(" or "), oneOf(HOST_ENCODINGS), "utf-8")
    .option("--tls", "speak TLS")
    .option("--ca <file>", "CA of the server's certificate, PEM")
    .option("--cert <file>", "the host system's own certificate, PEM")
    .option("--key <file>", "its key, PEM")
    .addHelpText("after", EXAMPLES)
    .action(async (destination: string, text: string, _options: object, command: Command) => {
      finish(await page(destination, text, command.optsWithGlobals<PageOptions>()));
    });
}

const EXAMPLES = `
Examples:
  tocsin page 5550101 "Bed 12: K+ 6.8, call 4411" --priority high --wait
  tocsin page 5550101 "Call the lab" --wait --until READ --timeout 300 --json

With --json, one line a status: {"trackingId", "status", "at", "reason"?}; and a reply: {"trackingId", "reply", "from", "at"}
Ends with 0 at DELIVERED (or --until), 1 at FAILED, 2 when the time is over; without --wait, 0 at ACCEPTED.`;

async function page(destination: string, text: string, options: PageOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const waits = options.wait === true || options.until !== undefined;
  const tls = options.tls || options.ca || options.cert || options.key ? readTls(options) : null;
  const target = () => ({ ...findMxpp({ ...options, tls: tls !== null }, process.env), tls });
  const until = options.until ?? (waits ? "DELIVERED" : "ACCEPTED");
  const body = text === "-" ? await readStdin() : text;
  if (body.trim() === "") throw new CommandFault(EXIT.usage, "the text of the page is empty");
  const first = target();
  const origin = options.host ?? (await firstHost(options));
  const trackingId = freshTrackingId();
  const document = encodePage(
    {
      origin,
      trackingId,
      destination,
      text: body,
      priority: options.priority,
      fromId: "cli",
      fromName: options.from ?? origin,
      conversationId: trackingId,
      sentAt: Date.now(),
      timeoutDeviceSeconds: options.timeoutDevice ?? null,
      timeoutUserSeconds: options.timeoutUser ?? null,
    },
    options.encoding,
  );

  output.line(`Page ${output.paint("bold", trackingId)} to ${destination}, ${options.priority}, from ${origin}\n`);
  let last: StatusText | null = null;
  const end = await runJourney(
    {
      trackingId,
      document,
      until,
      timeoutMs: waits ? options.timeout * 1_000 : BRIEF_MS,
      target,
      onStatus(notification, sinceMs) {
        last = notification.status;
        show(output, notification, sinceMs);
      },
      onReply: (reply, sinceMs) => showReply(output, reply, sinceMs),
      onLost: (code) => output.note(`connection lost (${code ?? "closed by the server"}), trying again`),
      onConnected: (again) => {
        if (again) output.note("connected again");
      },
    },
    onInterrupt(),
  );
  output.line();
  return conclude(output, end, {
    trackingId,
    until,
    last,
    at: `${first.host}:${first.port}`,
    timeoutS: waits ? options.timeout : BRIEF_MS / 1_000,
  });
}

function show(output: Output, { trackingId, status, at, reason }: Notification, sinceMs: number): void {
  const iso = new Date(at).toISOString();
  output.record({ trackingId, status, at: iso, ...(reason === null ? {} : { reason }) });
  const since = `+${spanText(sinceMs)}`.padStart(11);
  const why = reason === null ? "" : `   ${printable(reason)}`;
  output.line(
    `  ${output.paint(STYLES[status], status.padEnd(12))} ${since}   ${output.paint("dim", clockText(iso))}${why}`,
  );
}

function showReply(output: Output, { trackingId, text, fromId, fromName, sentAt }: NewMessage, sinceMs: number): void {
  const iso = new Date(sentAt ?? Date.now()).toISOString();
  output.record({ trackingId, reply: text, from: fromId, at: iso });
  const since = `+${spanText(sinceMs)}`.padStart(11);
  const head = `${output.paint("bold", "REPLY".padEnd(12))} ${since}   ${output.paint("dim", clockText(iso))}`;
  output.line(`  ${head}   ${printable(fromName || fromId)}: ${printable(text)}`);
}

const STYLES: Readonly<Record<StatusText, Style>> = {
  ACCEPTED: "dim",
  QUEUED: "dim",
  ENROUTE: "cyan",
  DELIVERED: "green",
  READ: "green",
  ACKNOWLEDGED: "green",
  IGNORED: "yellow",
  FAILED: "red",
};

type Facts = {
  readonly trackingId: string;
  readonly until: Goal;
  readonly last: StatusText | null;
  readonly at: string;
  readonly timeoutS: number;
};

function conclude(output: Output, end: JourneyEnd, { trackingId, until, last, at, timeoutS }: Facts): ExitCode {
  switch (end.kind) {
    case "reached":
      output.line(output.paint("dim", `Where it stands:  npx tocsin trace ${trackingId}`));
      return EXIT.ok;
    case "failed":
      output.line(output.paint("dim", `Why:  npx tocsin trace ${trackingId}`));
      return EXIT.failed;
    case "interrupted":
      output.note(`The page goes on without us:  npx tocsin trace ${trackingId}`);
      return EXIT.interrupted;
    case "timeout":
      throw new CommandFault(
        EXIT.timeout,
        `no ${until} within ${timeoutS} s; ${last === null ? "nothing was heard" : `it stands at ${last}`}`,
        `Why:  npx tocsin trace ${trackingId}`,
      );
    case "unreachable":
      throw new CommandFault(
        EXIT.unavailable,
        `no server answers for host systems at ${at} (${end.code})`,
        hintFor(end.code),
      );
  }
}

function hintFor(code: string): string {
  if (code === "ECONNREFUSED") return "Start one:  npx tocsin start";
  return isCertificateFault(code) ? CA_HINT : "See:  npx tocsin doctor";
}

type HostSystem = { readonly name: string; readonly kind: string; readonly createdAt: string };

async function firstHost(options: PageOptions): Promise<string> {
  const { key: _file, ca: _ca, ...rest } = options;
  const { items } = await openApi(rest, process.env).get<{ items: readonly HostSystem[] }>("host-systems?limit=200");
  const [host] = items
    .filter(({ kind }) => kind === "MXPP")
    .toSorted((one, other) => one.createdAt.localeCompare(other.createdAt));
  if (host !== undefined) return host.name;
  throw new CommandFault(
    EXIT.notFound,
    "the server knows no host system that speaks MXPP",
    "Add one, or name it: --host NAME",
  );
}

function readTls({ ca, cert, key }: PageOptions): HostTls {
  const read = (path: string | undefined) => (path === undefined ? undefined : readFile(path));
  return { ca: read(ca), cert: read(cert), key: read(key) };
}

async function readStdin(): Promise<string> {
  let text = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) {
    text += chunk;
    if (text.length > TEXT_BYTES) throw new CommandFault(EXIT.usage, "the text of the page is too long");
  }
  return text.trimEnd();
}
