/**
 * The life of the process around the node: settings before it, signals and errors nobody caught during it.
 *
 *   settings ── at fault ──► exit 78, every fault by name
 *      ▼
 *   opening ── fails ──► exit 1
 *      ▼
 *   running ── SIGTERM, SIGINT ──► closing, part by part in reverse ─► exit 0 (1 after 15 s, or at a second signal)
 *      └────── an error nobody caught, but the driver's ──► exit 1
 */
import { existsSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { type Config, readConfig } from "./config.ts";
import { faultFields, type Log, openLog } from "./log.ts";
import { isDriverFault } from "./persistence/database-faults.ts";

const CLOSE_DEADLINE_MS = 15_000;
/** How long the others go on waiting for one part, for all parts but the last, and for all. */
const PART_MS = 4_000;
const PARTS_MS = 10_000;
const ALL_MS = 14_000;

/** A part of the node to be closed. */
export type Closer = { readonly part: string; readonly close: () => Promise<void> | void };

/**
 * Closes the last opened first. A part that fails or takes too long keeps none of the others: what is durable is durable
 * without it. The first opened (the stores) has what time is left, so that an embedded server ends in order.
 */
export async function closeInReverse(
  closers: readonly Closer[],
  log: Log,
  limits: { readonly partMs: number; readonly partsMs: number; readonly allMs: number } = {
    partMs: PART_MS,
    partsMs: PARTS_MS,
    allMs: ALL_MS,
  },
): Promise<void> {
  const begun = performance.now();
  for (const [index, { part, close }] of [...closers.entries()].reverse()) {
    const gone = performance.now() - begun;
    const ms = index === 0 ? limits.allMs - gone : Math.min(limits.partMs, limits.partsMs - gone);
    const closing = Promise.resolve()
      .then(close)
      .catch((error: unknown) => log.warn({ part, ...faultFields(error) }, "a part did not close well"));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, Math.max(0, ms), "late");
    });
    if ((await Promise.race([closing, late])) === "late") log.warn({ part }, "a part is left to close by itself");
    clearTimeout(timer);
  }
}

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
    // Node keeps what it has compiled at an orderly end, which a node that is killed never comes to. Here, since writing it all, as the
    // first start does, holds the process for more than a second.
    flushCompileCache();
    close = await open(config, log);
  } catch (error) {
    console.error(`tocsin: cannot start: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
}
