/**
 * The `tocsin` command: one file a command, each of which ends with an exit code or throws a CommandFault. Imported by
 * `tocsin.js`, which has made sure of the runtime.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { addCluster } from "./cluster.ts";
import { addDemo } from "./demo.ts";
import { addDoctor } from "./doctor.ts";
import { addEmulator } from "./emulator.ts";
import { CommandFault, EXIT, EXIT_MEANINGS, type ExitCode } from "./exit.ts";
import { addPage } from "./page.ts";
import { addPhone } from "./phone.ts";
import { addRecall } from "./recall.ts";
import { addStart } from "./start.ts";
import { addTail } from "./tail.ts";
import { addTrace } from "./trace.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const EXIT_TABLE = EXIT_MEANINGS.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join("\n");

function makeProgram(finish: (code: ExitCode) => void): Command {
  const program = new Command("tocsin")
    .description("Carries critical pages from host systems to phones.")
    .version(version)
    .option("--json", "print JSON, one object a line")
    .option("--data-dir <dir>", "folder of the server that runs here (or TOCSIN_DATA_DIR; default .tocsin)")
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("(--help says more)")
    .exitOverride()
    .addHelpText(
      "after",
      "\nExit codes (tocsin help exit-codes): 0 done, 1 FAILED, 2 timeout, 64 and above what went wrong.",
    );
  addStart(program);
  addPage(program, finish);
  addPhone(program, finish);
  addTrace(program, finish);
  addRecall(program, finish);
  addTail(program, finish);
  addCluster(program, finish);
  addEmulator(program, finish);
  addDemo(program, finish);
  addDoctor(program, finish);
  program
    .command("exit-codes", { hidden: true })
    .description(`what the exit codes mean:\n${EXIT_TABLE}`)
    .action(() => {
      process.stdout.write(`${EXIT_TABLE}\n`);
    });
  return program;
}

async function run(argv: readonly string[]): Promise<ExitCode | null> {
  // A command that leaves no code goes on by itself: `start`, once the server runs.
  let code: ExitCode | null = null;
  try {
    const program = makeProgram((given) => {
      code = given;
    });
    await program.parseAsync(argv, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (error instanceof CommandFault) {
      process.stderr.write(`tocsin: ${error.message}\n${error.hint === null ? "" : `  ${error.hint}\n`}`);
      return error.exitCode;
    }
    // Where, not what: the words of an unforeseen error may hold a page's.
    const { name = "Error", stack = "" } = error as Partial<Error>;
    const frames = stack.split("\n").filter((line) => line.startsWith("    at "));
    process.stderr.write(`tocsin: a fault of this program (${name})\n${frames.join("\n")}\n`);
    return EXIT.software;
  }
}

// A reader that goes away (`tocsin phone | head -3`) is no fault.
process.stdout.on("error", (error: NodeJS.ErrnoException) =>
  process.exit(error.code === "EPIPE" ? EXIT.ok : EXIT.software),
);

const code = await run(process.argv.slice(2));
if (code !== null) process.exit(code);
