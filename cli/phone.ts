/** `tocsin phone`: behaves as a clinician's phone, until Ctrl-C. */
import type { Command } from "commander";
import { fileStorage } from "../sdk/file-storage.ts";
import type { AmcMessage } from "../sdk/index.ts";
import { makeBackoff, pause } from "./backoff.ts";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { type CommonOptions, oneOf, outputOf, withApi } from "./options.ts";
import { clockText, type Output, printable } from "./output.ts";
import { onKeys } from "./phone-keys.ts";
import { findPlace, leave, type PhonePlace } from "./phone-registration.ts";
import { cardLines } from "./phone-screen.ts";
import { openPhone, type PhoneEnd, type PhoneEvents, type PhoneSession, type Reaction } from "./phone-session.ts";
import { pagesFolder } from "./phone-store.ts";
import { dataDirOf, findEmulatorUrl, findUrl, readFile, type ServerOptions } from "./server.ts";

export type PhoneOptions = CommonOptions &
  ServerOptions & {
    readonly destination?: string;
    readonly name?: string;
    readonly site?: string;
    readonly code?: string;
    readonly ios?: boolean;
    readonly auto: boolean;
    readonly confirms: boolean;
    readonly stream: boolean;
    readonly answer?: "ACKNOWLEDGED" | "IGNORED";
    readonly reply?: string;
    readonly fresh?: boolean;
  };

const KEYS: Readonly<Record<string, Reaction>> = { r: "READ", a: "ACKNOWLEDGED", d: "IGNORED" };
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
    .option("--no-stream", "ask for pages at pushes and now and then, instead of listening for them")
    .option("--no-auto", "leave READ to the keys: r read, a accept, d decline, 1 to 9 a response choice")
    .option(
      "--answer <status>",
      "answer every page: ACKNOWLEDGED or IGNORED",
      oneOf(["ACKNOWLEDGED", "IGNORED"] as const),
    )
    .option("--reply <text>", "reply this to every page")
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
  let place: PhonePlace | null = await settle(options.fresh === true);
  for (let end: PhoneEnd = "unregistered"; place !== null; ) {
    end = await live(place);
    if (end === "off") break;
    output.record({ event: end });
    if (end === "displaced")
      throw new CommandFault(EXIT.notAllowed, "Another program listens as this phone; it has its place now");
    output.line(output.paint("yellow", "The server does not know this phone any more; registering again"));
    place = await settleAgain();
  }
  if (place?.kept === false) await leave(server, dataDirOf(options, process.env), place.registration);
  return EXIT.ok;

  async function live({ registration }: PhonePlace): Promise<PhoneEnd> {
    const screen = openScreen(output, options, () => session, emulatorUrl() !== null);
    const { stream } = options;
    const storage = fileStorage(pagesFolder(dataDirOf(options, process.env), registration));
    const session: PhoneSession = openPhone(
      { registration, server, emulatorUrl, signal, stream, storage },
      screen.events,
    );
    const end = await session.ended;
    screen.close();
    return end;
  }

  async function settle(fresh: boolean): Promise<PhonePlace> {
    const settled = await findPlace(options, server, fresh);
    const { registration, owner, reused } = settled;
    const { destination, vendorId, gatewayType } = registration;
    output.record({ event: "registered", destination, vendorId, gatewayType, reused });
    const title = output.paint("bold", `Phone of ${printable(owner ?? destination)}`);
    output.line(`${title}, ${printable(destination)}, ${gatewayType === "APNS" ? "iOS" : "Android"}`);
    const device = `device ${vendorId}${reused ? ", registered before" : ""}; Ctrl-C switches it off`;
    output.line(output.paint("dim", device));
    return settled;
  }

  /** A phone that was once on does not give up because the server is away. Null: it was switched off. */
  async function settleAgain(): Promise<PhonePlace | null> {
    while (!signal.aborted) {
      try {
        return await settle(true);
      } catch (error) {
        if (!(error instanceof CommandFault) || error.exitCode !== EXIT.unavailable) throw error;
        await pause(backoff.next(), signal);
      }
    }
    return null;
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

  function later(ms: number, work: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, ms);
    timers.add(timer);
  }

  const keys = withKeys ? onKeys(press) : null;

  function press(key: string): void {
    if (newest === null) return;
    const status = KEYS[key];
    if (status !== undefined) session().report(newest.UniqueId, status);
    const choice = newest.ResponseChoices?.[Number(key) - 1];
    if (choice !== undefined) session().reply(newest.UniqueId, { choice });
  }

  const events: PhoneEvents = {
    onPage(page) {
      newest = page;
      places.set(page.UniqueId, places.size + 1);
      output.record({ event: "page", ...page });
      for (const line of ["", ...cardLines(output, page, places.size, withKeys)]) output.line(line);
      const { UniqueId: id } = page;
      const { answer, reply } = options;
      if (options.auto && page.Status === 0) later(READ_AFTER_MS, () => session().report(id, "READ"));
      if (answer !== undefined) later(ANSWER_AFTER_MS, () => session().report(id, answer));
      if (reply !== undefined) later(ANSWER_AFTER_MS, () => session().reply(id, { text: reply }));
    },
    onNotice(notice) {
      const { UniqueId, Kind, Answer = "", ByThisPerson = true, At } = notice;
      output.record({ event: "notice", ...notice });
      // A key answers the newest page that still stands.
      if (newest?.UniqueId === UniqueId) newest = null;
      const answered = [Kind, Answer, ByThisPerson ? "on another phone" : "by somebody else"].filter(
        (word) => word !== "",
      );
      const what = Kind === "ANSWERED" ? answered.join(" ") : Kind;
      if (places.has(UniqueId)) output.line(output.paint("yellow", `   ${label(UniqueId)} ${what} ${clockText(At)}`));
    },
    onReported(report) {
      const { kind: _, ...receipt } = report;
      output.record({ event: "receipt", ...receipt });
      dim(`   ${label(report.uniqueId)} ${report.status} reported ${clockText(report.at)}`);
    },
    onReplied({ uniqueId, at }) {
      output.record({ event: "reply", uniqueId, at });
      dim(`   ${label(uniqueId)} reply sent ${clockText(at)}`);
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
