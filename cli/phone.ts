/** `tocsin phone`: behaves as a clinician's phone, until Ctrl-C. */
import type { Command } from "commander";
import type { Receipt } from "../domain.ts";
import { makeBackoff, pause } from "./backoff.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, oneOf, outputOf, withApi } from "./options.ts";
import { clockText, type Output } from "./output.ts";
import {
  type AmcMessage,
  PhoneRefused,
  type PhoneServer,
  phoneClient,
  type Registration,
  register,
} from "./phone-client.ts";
import { onKeys } from "./phone-keys.ts";
import { cardLines } from "./phone-screen.ts";
import { openPhone, type PhoneEvents, type PhoneSession } from "./phone-session.ts";
import { readStored, store } from "./phone-store.ts";
import { dataDirOf, findEmulatorUrl, findUrl, readFile, type ServerOptions, unreachable } from "./server.ts";
import { findSubscriber } from "./subscriber.ts";

export type PhoneOptions = CommonOptions &
  ServerOptions & {
    readonly destination?: string;
    readonly name?: string;
    readonly site?: string;
    readonly code?: string;
    readonly ios?: boolean;
    readonly auto: boolean;
    readonly confirms: boolean;
    readonly answer?: "ACKNOWLEDGED" | "IGNORED";
    readonly fresh?: boolean;
  };

const KEYS: Readonly<Record<string, Receipt>> = { r: "READ", a: "ACKNOWLEDGED", d: "IGNORED" };
const READ_AFTER_MS = 1_000;
const ANSWER_AFTER_MS = 2_000;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 5_000;

export function addPhone(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("phone")
    .description("be a phone: register, wake at pushes, fetch, show and answer pages, until Ctrl-C")
    .option("--destination <address>", "whose phone (unless said, the first subscriber)")
    .option("--name <name>", "whose phone, by name; with --destination, adds the subscriber where there is none")
    .option("--android", "woken through FCM (this is the default)")
    .option("--ios", "woken through APNs")
    .option("--confirms", "confirm each page that was shown; DELIVERED then (this is the default)", true)
    .option("--no-confirms", "a page is DELIVERED when it was fetched, as with phones of old")
    .option("--no-auto", "leave READ to the keys: r read, a accept, d decline")
    .option(
      "--answer <status>",
      "answer every page: ACKNOWLEDGED or IGNORED",
      oneOf(["ACKNOWLEDGED", "IGNORED"] as const),
    )
    .option("--fresh", "register as a new device, even where this one is registered already")
    .option(
      "--code <code>",
      "the subscriber's registration code, where there is no admin key (with --site, --destination)",
    )
    .option("--site <id>", "the subscriber's site, for --code")
    .option("--emulator <url>", "the push emulator, where it is not the one that runs here");
  withApi(command).action(async (_options: object, self: Command) => {
    finish(await phone(self.optsWithGlobals<PhoneOptions>()));
  });
}

async function phone(options: PhoneOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const signal = onInterrupt();
  const ca = options.ca === undefined ? undefined : readFile(options.ca);
  const server = () => ({ url: findUrl(options, process.env), ca });
  const emulatorUrl = () => {
    try {
      return findEmulatorUrl(options, process.env);
    } catch {
      return null; // No server runs at the moment.
    }
  };

  const backoff = makeBackoff(RETRY_MIN_MS, RETRY_MAX_MS);
  let registration = await registered(options, server, output, options.fresh === true);
  while (!signal.aborted) {
    const end = await live(registration);
    if (end === "off") break;
    output.record({ event: "unregistered" });
    output.line(output.paint("yellow", "The server does not know this phone any more; registering again"));
    registration = await again();
  }
  return EXIT.ok;

  async function live(current: Registration): Promise<"off" | "unregistered"> {
    const screen = openScreen(output, options, () => session, emulatorUrl() !== null);
    const session: PhoneSession = openPhone({ registration: current, server, emulatorUrl, signal }, screen.events);
    const end = await session.ended;
    screen.close();
    return end;
  }

  /** A phone that was once on does not give up because the server is away. */
  async function again(): Promise<Registration> {
    for (;;) {
      try {
        return await registered(options, server, output, true);
      } catch (error) {
        const temporary = error instanceof CommandFault && error.exitCode === EXIT.unavailable;
        if (!temporary || signal.aborted) throw error;
        await pause(backoff.next(), signal);
      }
    }
  }
}

/** The kept registration where it fits the options, else a new one. */
async function registered(
  options: PhoneOptions,
  server: () => PhoneServer,
  output: Output,
  fresh: boolean,
): Promise<Registration> {
  const dataDir = dataDirOf(options, process.env);
  const gatewayType = options.ios ? "APNS" : "GCM";
  const { destination, siteId, owner, code } = await findSubscriber(options);
  const stored = readStored(dataDir, destination);
  const shared = stored !== null && stored.pid !== process.pid && isAlive(stored.pid);
  const fits = stored?.registration.gatewayType === gatewayType && stored.registration.confirms === options.confirms;
  let registration = stored?.registration;
  const reused = !fresh && fits && !shared;
  if (!reused || registration === undefined) {
    const place = server();
    try {
      registration = await register(place, {
        siteId,
        destination,
        registrationCode: await code(),
        gatewayType,
        confirms: options.confirms,
      });
    } catch (error) {
      if (error instanceof PhoneRefused) throw new CommandFault(EXIT.notAllowed, error.message);
      throw error instanceof CommandFault ? error : unreachable(place.url, error);
    }
  }
  // The one of two phones at once that came first keeps the place.
  if (!shared) store(dataDir, registration);
  if (!shared && !reused && stored !== null) await leave(server, stored.registration);
  output.record({ event: "registered", destination, vendorId: registration.vendorId, gatewayType, reused });
  output.line(
    `${output.paint("bold", `Phone of ${owner ?? destination}`)}, ${destination}, ${options.ios ? "iOS" : "Android"}`,
  );
  output.line(
    output.paint(
      "dim",
      `device ${registration.vendorId}${reused ? ", registered before" : ""}; Ctrl-C switches it off`,
    ),
  );
  return registration;
}

/** A device nobody can be any more would be woken for nothing. Best effort: the server may have forgotten it. */
async function leave(server: () => PhoneServer, old: Registration): Promise<void> {
  await phoneClient(server, old)
    .unregister()
    .catch(() => {});
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** What of a session is seen, and what the phone does by itself or at a key. */
function openScreen(output: Output, options: PhoneOptions, session: () => PhoneSession, hasEmulator: boolean) {
  const timers = new Set<NodeJS.Timeout>();
  const places = new Map<string, number>();
  let newest: AmcMessage | null = null;
  const dim = (text: string) => output.line(output.paint("dim", text));
  const label = (uniqueId: string) => `#${places.get(uniqueId) ?? "?"}`;
  const withKeys = output.terminal && process.stdin.isTTY === true;

  function later(ms: number, uniqueId: string, status: Receipt): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      session().report(uniqueId, status);
    }, ms);
    timers.add(timer);
  }

  const keys = withKeys ? onKeys(press) : null;

  function press(key: string): void {
    const status = KEYS[key];
    if (newest !== null && status !== undefined) session().report(newest.UniqueId, status);
  }

  const events: PhoneEvents = {
    onPage(page) {
      newest = page;
      places.set(page.UniqueId, places.size + 1);
      output.record({ event: "page", ...page });
      for (const line of ["", ...cardLines(output, page, places.size, withKeys)]) output.line(line);
      if (options.auto && page.Status === 0) later(READ_AFTER_MS, page.UniqueId, "READ");
      if (options.answer !== undefined) later(ANSWER_AFTER_MS, page.UniqueId, options.answer);
    },
    onReported(report) {
      output.record({ event: "receipt", ...report });
      dim(`   ${label(report.uniqueId)} ${report.status} reported ${clockText(report.at)}`);
    },
    onRefused(reason) {
      output.record({ event: "refused", reason });
      output.line(output.paint("red", `   ${reason}`));
    },
    onWakeUp(push) {
      output.record({ event: "push", ...push });
    },
    onState(state, why) {
      output.record({ event: state, ...(why === null ? {} : { why }) });
      if (state === "offline") return output.line(output.paint("yellow", `Offline: ${why}; trying again`));
      dim(
        hasEmulator ? "Online, waiting for pages" : "Online; no push emulator runs, so pages are looked for every 5 s",
      );
    },
  };
  return {
    events,
    close() {
      for (const timer of timers) clearTimeout(timer);
      keys?.();
    },
  };
}
