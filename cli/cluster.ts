/** `tocsin cluster`: the nodes and what they drive; `drain` and `undrain` steer them. */
import type { Command } from "commander";
import { pause } from "./backoff.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, outputOf, withApi } from "./options.ts";
import { clockText, type Output, printable, type Style, spanText, tableLines } from "./output.ts";
import { type Api, openApi, type ServerOptions } from "./server.ts";

type ClusterOptions = CommonOptions & ServerOptions & { readonly watch?: boolean };

type Cluster = {
  readonly nodes: readonly {
    readonly name: string;
    readonly address: string;
    readonly state: string;
    readonly why: string | null;
    readonly load: number;
    readonly shards: number;
    readonly leaseLeftMs: number;
    readonly ageMs: number;
  }[];
  readonly unowned: number;
  readonly moves: readonly {
    readonly at: string;
    readonly from: string | null;
    readonly to: string | null;
    readonly shards: number;
  }[];
};

const WATCH_MS = 1_000;
const MOVES_SHOWN = 8;
const STYLES: Readonly<Record<string, Style>> = { LIVE: "green", DRAINING: "yellow", LAPSED: "red" };

export function addCluster(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("cluster")
    .description("show the nodes and what they drive; ends with 1 where shards have no owner")
    .option("--watch", "show it anew every second, until Ctrl-C");
  withApi(command).action(async (_options: object, self: Command) => {
    finish(await cluster(self.optsWithGlobals<ClusterOptions>()));
  });
  for (const [name, method, description, done] of [
    ["drain", "POST", "have a node give its shards to the others and take none", "gives its shards away"],
    ["undrain", "DELETE", "have it take shards again", "takes shards again"],
  ] as const) {
    const steer = command.command(name).description(description).argument("<node>", "its name, as `cluster` shows it");
    withApi(steer).action(async (node: string, _options: object, self: Command) => {
      const options = self.optsWithGlobals<ClusterOptions>();
      const output = outputOf(options);
      const known = await openApi(options, process.env).tell(method, `cluster/nodes/${encodeURIComponent(node)}/drain`);
      if (!known)
        throw new CommandFault(EXIT.notFound, `no living node is named ${printable(node)}`, "npx tocsin cluster");
      output.record({ node, drain: name === "drain" });
      output.line(`${printable(node)} ${done}. To see it:  npx tocsin cluster`);
      finish(EXIT.ok);
    });
  }
}

async function cluster(options: ClusterOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const api = openApi(options, process.env);
  if (options.watch !== true) return show(output, await read(api));
  const signal = onInterrupt();
  let code: ExitCode = EXIT.ok;
  while (!signal.aborted) {
    try {
      const seen = await read(api);
      if (output.terminal) process.stdout.write("\u001b[2J\u001b[H");
      code = show(output, seen);
    } catch (error) {
      // A server that is away for a moment is what one may be watching for.
      if (!(error instanceof CommandFault) || error.exitCode !== EXIT.unavailable) throw error;
      output.note(`${error.message}; trying again`);
    }
    await pause(WATCH_MS, signal);
  }
  return code === EXIT.ok ? EXIT.interrupted : code;
}

const read = (api: Api) => api.get<Cluster>("cluster");

function show(output: Output, seen: Cluster): ExitCode {
  output.record(seen);
  const rows = seen.nodes.map((node) => [
    printable(node.name),
    output.paint(STYLES[node.state] ?? "bold", node.state),
    String(node.shards),
    `${Math.round(node.load * 100)} %`,
    spanText(node.leaseLeftMs),
    spanText(node.ageMs),
    printable(node.why ?? ""),
  ]);
  for (const line of tableLines(output, ["node", "state", "shards", "load", "lease", "up for", "why"], rows))
    output.line(line);
  const { unowned } = seen;
  if (unowned > 0)
    output.line(`\n${output.paint("red", `${unowned} shards have no owner: nobody drives their pages`)}`);
  if (seen.moves.length > 0) {
    output.line();
    const moves = seen.moves
      .slice(0, MOVES_SHOWN)
      .map(({ at, from, to, shards }) => [
        clockText(at),
        String(shards),
        printable(from ?? "nobody"),
        printable(to ?? "nobody"),
      ]);
    for (const line of tableLines(output, ["moved at", "shards", "from", "to"], moves)) output.line(line);
  }
  return unowned > 0 ? EXIT.failed : EXIT.ok;
}
