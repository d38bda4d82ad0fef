/** `tocsin doctor`: looks at everything a page needs, a line each, and says what to do about what fails. */
import type { Command } from "commander";
import { readConfig } from "../config.ts";
import {
  type Check,
  certificateChecks,
  type Finding,
  localChecks,
  portChecks,
  remoteDatabaseChecks,
} from "./doctor-local.ts";
import { serverChecks } from "./doctor-server.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { type CommonOptions, outputOf, withApi } from "./options.ts";
import { type Output, printable } from "./output.ts";
import { dataDirOf, type Run, readRun, type ServerOptions, settingsOf } from "./server.ts";

type DoctorOptions = CommonOptions & ServerOptions;

const CHECK_DEADLINE_MS = 6_000;

export function addDoctor(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("doctor")
    .description("check everything a page needs, and say what to do about what fails")
    .option("--mxpp <host:port>", "the server's MXPP socket, where it is not the one that runs here")
    .option("--emulator <url>", "the push emulator, where it is not the one that runs here");
  withApi(command).action(async (_options: object, self: Command) => {
    finish(await doctor(self.optsWithGlobals<DoctorOptions>()));
  });
}

async function doctor(options: DoctorOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const settings = settingsOf(process.env);
  const reading = readConfig(settings);
  const dataDir = dataDirOf(options, process.env);
  const run = options.url === undefined ? runOf(dataDir) : null;
  const remote = options.url !== undefined;
  const checks: Check[] = localChecks(reading, dataDir);
  if (reading.ok && !remote) {
    checks.push(...certificateChecks(reading.config));
    if (run === null) checks.push(...portChecks(reading.config), ...remoteDatabaseChecks(reading.config));
  }
  checks.push(...serverChecks(options, run));

  let failed = 0;
  // All at once, told in order.
  const findings = checks.map(async (check) => ({ name: check.name, ...(await bounded(check)) }));
  for (const looking of findings) {
    const { name, ...finding } = await looking;
    if (finding.ok === false) failed++;
    show(output, name, finding);
  }
  output.line();
  output.line(
    failed === 0
      ? output.paint("green", "Everything a page needs is there.")
      : output.paint("red", `${failed} of ${checks.length} checks failed.`),
  );
  return failed === 0 ? EXIT.ok : EXIT.failed;
}

/** A run.json that cannot be read is a finding of the server's check, not the end of all others. */
function runOf(dataDir: string): Run | null {
  try {
    return readRun(dataDir);
  } catch {
    return null;
  }
}

async function bounded({ look }: Check): Promise<Finding> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Finding>((resolve) => {
    timer = setTimeout(
      () => resolve({ ok: false, detail: `no answer within ${CHECK_DEADLINE_MS / 1_000} s` }),
      CHECK_DEADLINE_MS,
    );
  });
  try {
    return await Promise.race([look(), late]);
  } catch (error) {
    if (error instanceof CommandFault)
      return { ok: false, detail: error.message, ...(error.hint ? { hint: error.hint } : {}) };
    const { code, name } = error as NodeJS.ErrnoException;
    return { ok: false, detail: code ?? name };
  } finally {
    clearTimeout(timer);
  }
}

function show(output: Output, name: string, { ok, detail, hint }: Finding): void {
  output.record({ check: name, ok, detail, ...(hint === undefined ? {} : { hint }) });
  const mark = ok === null ? output.paint("dim", "–") : ok ? output.paint("green", "✔") : output.paint("red", "✘");
  output.line(`${mark} ${name.padEnd(NAME_WIDTH)} ${ok === null ? output.paint("dim", detail) : printable(detail)}`);
  if (hint !== undefined) output.line(`  ${" ".repeat(NAME_WIDTH)} ${output.paint("yellow", hint)}`);
}

const NAME_WIDTH = 22;
