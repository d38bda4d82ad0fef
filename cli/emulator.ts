/** `tocsin emulator`: the push emulator by itself, in the foreground. */
import type { Command } from "commander";
import { systemClock } from "../domain.ts";
import type { Emulator } from "../gateways/emulator/emulator.ts";
import { type EmulatorRecord, emulatorSettings } from "./emulator-settings.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, outputOf } from "./options.ts";
import { tableLines } from "./output.ts";
import { dataDirOf } from "./server.ts";

type EmulatorOptions = CommonOptions & { readonly port: string };

export function addEmulator(program: Command, finish: (code: ExitCode) => void): void {
  program
    .command("emulator")
    .description("run the emulator of FCM and APNs by itself, until Ctrl-C (the server has one built in)")
    .option("--port <port>", "port of its lock screen and record; 0 is any free one", "8092")
    .action(async (_options: object, self: Command) => {
      finish(await emulator(self.optsWithGlobals<EmulatorOptions>()));
    });
}

async function emulator(options: EmulatorOptions): Promise<ExitCode> {
  const output = outputOf(options);
  if (!/^\d{1,5}$/.test(options.port) || Number(options.port) > 65_535) {
    throw new CommandFault(EXIT.usage, "--port takes a port from 0 to 65535");
  }
  const signal = onInterrupt();
  const opened = await open(Number(options.port), dataDirOf(options, process.env));
  const { address, credentials } = opened;
  const record: EmulatorRecord = { ...address, credentials };
  output.record(record);
  const rows = [
    ["Lock screen", `${address.url}/`, "what the phones would show"],
    ["Record", `${address.url}/pushes`, "every push taken, as JSON"],
    ["FCM", address.fcmUrl, "as strict as Google's"],
    ["APNs", address.apnsUrl, "as strict as Apple's"],
  ];
  for (const line of tableLines(output, ["what", "where", "for"], rows)) output.line(line);
  output.line("\nA server elsewhere sends its pushes here with these settings:\n");
  const settings = emulatorSettings(record);
  for (const [name, value] of Object.entries(settings)) output.line(`  ${name}=${value}`);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await opened.close();
  return EXIT.ok;
}

async function open(port: number, dataDir: string): Promise<Emulator> {
  // Loaded here alone, so that the other commands need not wait for it.
  const [{ openEmulator }, { openLog }] = await Promise.all([
    import("../gateways/emulator/emulator.ts"),
    import("../log.ts"),
  ]);
  try {
    return await openEmulator(
      { bind: "127.0.0.1", port, dataDir },
      { log: openLog("warn", "emulator"), clock: systemClock },
    );
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE") {
      throw new CommandFault(
        EXIT.unavailable,
        `port ${port} is taken, perhaps by a server's own emulator`,
        "Take any free one: --port 0",
      );
    }
    if (code === "EACCES" || code === "EROFS") {
      throw new CommandFault(
        EXIT.settings,
        `the emulator's keys cannot be written below ${dataDir} (${code})`,
        "Use --data-dir DIR",
      );
    }
    throw error;
  }
}
