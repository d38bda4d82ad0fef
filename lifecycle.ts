/**
 * The life of the process around the node: settings before it, signals and errors nobody caught during it.
 *
 *   settings ── at fault ──► exit 78, every fault by name
 *      ▼
 *   opening ── fails ──► exit 1
 *      ▼
 *   running ── SIGTERM, SIGINT ──► closing ─► exit 0 (1 after 15 s, or at a second signal)
 *      └────── an error nobody caught, but the driver's ──► exit 1
 */
import { existsSync } from "node:fs";
import { type Config, readConfig } from "./config.ts";
import { faultFields, type Log, openLog } from "./log.ts";
import { isDriverFault } from "./persistence/database.ts";

const CLOSE_DEADLINE_MS = 15_000;

/** `open` answers with what closes it again. */
export async function runProcess(open: (config: Config, log: Log) => Promise<() => Promise<void>>): Promise<void> {
  if (existsSync(".env")) process.loadEnvFile();
  const reading = readConfig(process.env);
  if (!reading.ok) {
    for (const fault of reading.faults) console.error(`tocsin: ${fault}`);
    process.exit(78);
  }
  const { config } = reading;
  const log = openLog(config.logLevel, config.node.name);

  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      log.error({ event, ...faultFields(error) }, "an error nobody caught");
      // What is in memory can no longer be trusted, what is in the database can: end, and be started again.
      if (!isDriverFault(error)) process.exit(1);
    });
  }

  let close: (() => Promise<void>) | null = null;
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      // A second Ctrl-C, or one before everything is open, does not wait.
      if (stopping || close === null) process.exit(1);
      stopping = true;
      setTimeout(() => process.exit(1), CLOSE_DEADLINE_MS).unref();
      void close().then(() => process.exit(0));
    });
  }
  try {
    close = await open(config, log);
  } catch (error) {
    console.error(`tocsin: cannot start: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
}
