/** What a start leaves for people and for the command line: one table with what to type next, and `run.json` in the data folder. */
import { readFileSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { styleText } from "node:util";

type Endpoint = { readonly host: string; readonly port: number };

/** Where this node answers. */
export type Running = {
  readonly node: string;
  readonly url: string;
  readonly mxpp: { readonly plain: Endpoint | null; readonly tls: Endpoint | null };
  readonly metricsUrl: string;
  readonly emulatorUrl: string | null;
};

export function version(): string {
  const text = readFileSync(new URL("./package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** Holds a key: readable by its owner only, and never half-written. `close` removes it. */
export async function writeRunFile(
  dataDir: string,
  running: Running & { readonly adminKey: string | null },
): Promise<{ close(): Promise<void> }> {
  const { mxpp, ...rest } = running;
  const text = JSON.stringify({ pid: process.pid, ...rest, mxpp: mxpp.plain, mxppTls: mxpp.tls }, null, 2);
  await mkdir(dataDir, { recursive: true });
  const path = join(dataDir, "run.json");
  // Never into a file that is there: its mode and its owner would be those of whoever made it.
  await rm(`${path}.new`, { force: true });
  await writeFile(`${path}.new`, `${text}\n`, { mode: 0o600, flag: "wx" });
  await rename(`${path}.new`, path);
  return { close: () => rm(path, { force: true }) };
}

type Demo = {
  readonly hostName: string;
  readonly subscribers: readonly { readonly name: string; readonly destination: string }[];
};

export function announce(
  running: Running,
  more: {
    readonly demo: Demo | null;
    readonly signInPath: string | null;
    readonly embedded: boolean;
    readonly note: string | null;
    readonly insecure: boolean;
  },
): void {
  const rows: [string, string, string][] = [
    ["Phones, API", running.url, `reference ${running.url}/docs`],
    [
      "Host systems",
      [endpoint("mxpp", running.mxpp.plain), endpoint("mxpps", running.mxpp.tls)].filter(Boolean).join(" "),
      "MXPP, TCP port 2000x",
    ],
    ["Health", `${running.url}/readyz`, `metrics ${running.metricsUrl}`],
  ];
  if (running.emulatorUrl !== null) rows.push(["Push emulator", running.emulatorUrl, "a phone's lock screen"]);
  if (more.signInPath !== null)
    rows.push(["Sign in once", running.url + more.signInPath, "for an API key; valid 30 min"]);
  const person = more.demo?.subscribers[0];
  if (more.demo && person)
    rows.push(["Demo", `host system ${more.demo.hostName}`, `pages ${person.name}, ${person.destination}`]);

  const out = process.stdout;
  const paint = (style: "bold" | "dim" | "yellow", text: string) =>
    out.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text;
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = ["", `  ${paint("bold", `Tocsin ${version()}`)}   node ${running.node}`, ""];
  for (const [name, where, what] of rows)
    lines.push(`  ${name.padEnd(widths[0]!)}  ${where.padEnd(widths[1]!)}  ${paint("dim", what)}`);
  lines.push("");
  if (more.embedded)
    lines.push(`  ${paint("yellow", "Development mode")}: embedded Postgres, one node. Not for the care of patients.`);
  if (more.insecure) lines.push(`  ${paint("yellow", "TOCSIN_INSECURE")}: page text crosses the network in clear.`);
  if (more.note !== null) lines.push(`  ${more.note}`);
  if (person) {
    lines.push("", "  Now, in a second terminal     npx tocsin phone");
    lines.push(`  and in a third                npx tocsin page ${person.destination} "Bed 12: call 4411" --wait`);
    lines.push("  and to see where it went      npx tocsin trace last");
  }
  out.write(`${lines.join("\n")}\n\n`);
}

function endpoint(scheme: string, where: Endpoint | null): string {
  return where === null ? "" : `${scheme}://${where.host.includes(":") ? `[${where.host}]` : where.host}:${where.port}`;
}
