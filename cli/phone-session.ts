/**
 * A phone that is switched on: the client for TypeScript (sdk/), woken by the emulator's pushes as a real one is by Apple's and Google's. It
 * goes on through every fault until it is switched off, its registration is void, or another has taken its place.
 */
import {
  type AmcMessage,
  type ClientStorage,
  type Notice,
  openClient,
  type Report,
  ServerRefused,
  Unreachable,
} from "../sdk/index.ts";
import { CommandFault } from "./exit.ts";
import type { Registration } from "./phone-client.ts";
import { fetchFrom, type PhoneServer, socketFrom } from "./phone-transport.ts";
import { hearWakeUps } from "./wake-ups.ts";

/** What a person does with a page. */
export type Reaction = "READ" | "ACKNOWLEDGED" | "IGNORED";
export type PhoneEnd = "off" | "unregistered" | "displaced";

export type PhoneSession = {
  /** Reported as soon as the server takes it; never twice for one page and status. */
  report(uniqueId: string, status: Reaction): void;
  /** Told as soon as the server takes it, behind what was reported before. */
  reply(uniqueId: string, words: { readonly text: string } | { readonly choice: string }): void;
  readonly ended: Promise<PhoneEnd>;
};

export type PhoneEvents = {
  onPage(page: AmcMessage): void;
  onNotice?(notice: Notice): void;
  /** The server has taken it. */
  onReported?(report: Report & { readonly kind: "status" }): void;
  onReplied?(report: Report & { readonly kind: "reply" }): void;
  /** The server will never take it; `reason` is its own. */
  onRefused?(reason: string): void;
  onWakeUp?(push: object): void;
  /** `offline`: why, as a code or the server's words. */
  onState?(state: "online" | "offline", why: string | null): void;
};

export type PhoneOptions = {
  readonly registration: Registration;
  /** Asked before every call. It may throw while no server runs. */
  server(): PhoneServer;
  emulatorUrl(): string | null;
  readonly signal: AbortSignal;
  /** Whether it listens by the stream, or only asks. */
  readonly stream?: boolean;
  /** By default it forgets with the process. */
  readonly storage?: ClientStorage;
};

const POLL_MS = 60_000;
/** Without an emulator nothing wakes this phone. */
const UNWOKEN_MS = 5_000;

export function openPhone(options: PhoneOptions, events: PhoneEvents): PhoneSession {
  const { registration, server, emulatorUrl, signal, stream = false, storage } = options;
  const opening = openClient({
    servers: () => [server().url],
    registration,
    fetch: fetchFrom(server),
    openSocket: stream ? socketFrom(server) : null,
    pollMs: () => (emulatorUrl() === null ? UNWOKEN_MS : POLL_MS),
    ...(storage === undefined ? {} : { storage }),
  });

  async function run(): Promise<PhoneEnd> {
    const client = await opening;
    let online: boolean | null = null;
    const session = client.listen((event) => {
      if (event.type === "page") events.onPage(event.page);
      else if (event.type === "notice") events.onNotice?.(event.notice);
      else if (event.type === "reported" && event.report.kind === "status") events.onReported?.(event.report);
      else if (event.type === "reported" && event.report.kind === "reply") events.onReplied?.(event.report);
      else if (event.type === "refused") events.onRefused?.(event.reason);
      else if (event.type === "state" && online !== (event.state !== "offline")) {
        online = event.state !== "offline";
        events.onState?.(online ? "online" : "offline", online ? null : whyOf(event.fault));
      }
    });
    if (signal.aborted) session.close();
    signal.addEventListener("abort", session.close, { once: true });
    const over = new AbortController();
    void hearWakeUps({
      notificationAddress: registration.notificationAddress,
      signal: AbortSignal.any([signal, over.signal]),
      emulatorUrl,
      onWakeUp(push) {
        if (push !== null) events.onWakeUp?.(push);
        client.wake();
      },
      // The emulator goes with its server: see at once whether that is away too.
      onLost: client.wake,
    });
    const end = await session.ended;
    over.abort();
    return end === "closed" ? "off" : end;
  }

  return {
    report(uniqueId, status) {
      void opening.then(({ messages }) => {
        const say = { READ: messages.markRead, ACKNOWLEDGED: messages.acknowledge, IGNORED: messages.ignore }[status];
        return say(uniqueId).catch(({ message }: Error) => events.onRefused?.(message));
      });
    },
    reply(uniqueId, words) {
      void opening
        .then(({ messages }) => messages.reply(uniqueId, words))
        .catch(({ message }: Error) => events.onRefused?.(message));
    },
    ended: run(),
  };
}

/** The server's words, or the code of the connection's error. */
function whyOf(fault: unknown): string {
  if (fault instanceof ServerRefused || fault instanceof CommandFault) return fault.message;
  return fault instanceof Unreachable ? fault.code : "no answer";
}
