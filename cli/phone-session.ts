/**
 * A phone that is switched on: fetches at every wake-up (and every minute, since a wake-up may be lost), reports what became of
 * its pages, and goes on through every fault until it is switched off or its registration is void.
 *
 *   idle ──wake-up, 60 s, a receipt to report──► working: fetch, then report ──► idle
 *                                                   │ failed: offline
 *                                                   └── back-off ──► working
 */
import type { Receipt } from "../domain.ts";
import { makeBackoff, pause } from "./backoff.ts";
import { CommandFault } from "./exit.ts";
import { makeInbox } from "./inbox.ts";
import {
  type AmcMessage,
  type Notice,
  PhoneRefused,
  type PhoneServer,
  phoneClient,
  type ReceiptReport,
  type Registration,
  type ReplyReport,
  receiptReport,
  replyReport,
} from "./phone-client.ts";
import { hearWakeUps } from "./wake-ups.ts";

export type PhoneSession = {
  /** Reported as soon as the server takes it; never twice for one page and status. */
  report(uniqueId: string, status: Receipt): void;
  /** Told as soon as the server takes it, behind what was reported before. */
  reply(uniqueId: string, words: { readonly text: string } | { readonly choice: string }): void;
  /** `off`: the signal; `unregistered`: the server does not know this registration any more. */
  readonly ended: Promise<"off" | "unregistered">;
};

export type PhoneEvents = {
  onPage(page: AmcMessage): void;
  onNotice?(notice: Notice): void;
  /** The server has taken it. */
  onReported?(report: ReceiptReport): void;
  onReplied?(report: ReplyReport): void;
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
};

const SAFETY_MS = 60_000;
/** Without an emulator nothing wakes this phone. */
const UNWOKEN_MS = 5_000;
const BACKOFF_MIN_MS = 200;
const BACKOFF_MAX_MS = 5_000;
const REPORTS_AT_ONCE = 100;
/** With so many unreported the phone fetches no more. */
const OUTBOX_MAX = 1_000;

export function openPhone(
  { registration, server, emulatorUrl, signal }: PhoneOptions,
  events: PhoneEvents,
): PhoneSession {
  const client = phoneClient(server, registration);
  const inbox = makeInbox(client, registration.confirms, events.onPage, events.onNotice);
  const backoff = makeBackoff(BACKOFF_MIN_MS, BACKOFF_MAX_MS);
  const reported = new Set<string>();
  const outbox: ReceiptReport[] = [];
  const replies: ReplyReport[] = [];
  let fetches = true;
  let online: boolean | null = null;
  let wake = new AbortController();

  function looks(): void {
    fetches = true;
    stir();
  }

  function stir(): void {
    wake.abort();
    wake = new AbortController();
  }

  async function flush(): Promise<void> {
    let together = REPORTS_AT_ONCE;
    while (outbox.length > 0 && !signal.aborted) {
      const reports = outbox.slice(0, together);
      const taken = await says(() => client.setStatus(reports), reports.length === 1);
      // One at a time, so that the one at fault takes no other with it.
      if (taken === "split") {
        together = 1;
        continue;
      }
      outbox.splice(0, reports.length);
      if (taken === "taken") for (const report of reports) events.onReported?.(report);
    }
    while (replies.length > 0 && !signal.aborted) {
      const reply = replies[0]!;
      const taken = await says(() => client.reply(reply), true);
      replies.shift();
      if (taken === "taken") events.onReplied?.(reply);
    }
  }

  /** Throws where it is to be said again. */
  async function says(call: () => Promise<unknown>, alone: boolean): Promise<"taken" | "refused" | "split"> {
    try {
      await call();
      return "taken";
    } catch (error) {
      if (!(error instanceof PhoneRefused) || !isFinal(error.httpStatus)) throw error;
      if (!alone) return "split";
      events.onRefused?.(error.message);
      return "refused";
    }
  }

  /** False where the registration is void. */
  async function work(): Promise<boolean> {
    try {
      if (fetches && outbox.length < OUTBOX_MAX) {
        fetches = false;
        await inbox.fetch().catch((error: unknown) => {
          fetches = true;
          throw error;
        });
      }
      await flush();
      backoff.reset();
      if (online !== true) events.onState?.("online", null);
      online = true;
    } catch (error) {
      if (error instanceof PhoneRefused && error.httpStatus === 401) return false;
      if (online !== false) events.onState?.("offline", whyOf(error));
      online = false;
      const retryAfterMs = error instanceof PhoneRefused ? error.retryAfterMs : null;
      await pause(Math.max(retryAfterMs ?? 0, backoff.next()), signal);
    }
    return true;
  }

  async function run(): Promise<"off" | "unregistered"> {
    let safetyAt = performance.now() + SAFETY_MS;
    while (!signal.aborted) {
      const woken = wake.signal;
      if (!(await work())) return "unregistered";
      if (fetches || outbox.length > 0 || replies.length > 0) continue;
      const dueMs = emulatorUrl() === null ? UNWOKEN_MS : safetyAt - performance.now();
      await pause(Math.max(dueMs, 0), AbortSignal.any([signal, woken]));
      if (performance.now() < safetyAt && emulatorUrl() !== null) continue;
      fetches = true;
      safetyAt = performance.now() + SAFETY_MS;
    }
    return "off";
  }

  const over = new AbortController();
  void hearWakeUps({
    notificationAddress: registration.notificationAddress,
    signal: AbortSignal.any([signal, over.signal]),
    emulatorUrl,
    onWakeUp(push) {
      if (push !== null) events.onWakeUp?.(push);
      looks();
    },
    // The emulator goes with its server: see at once whether that is away too.
    onLost: looks,
  });

  return {
    report(uniqueId, status) {
      const key = `${uniqueId} ${status}`;
      if (reported.has(key)) return;
      reported.add(key);
      outbox.push(receiptReport(uniqueId, status));
      stir();
    },
    reply(uniqueId, words) {
      replies.push(replyReport(uniqueId, words));
      stir();
    },
    ended: run().finally(() => over.abort()),
  };
}

/** The same again would be refused again. */
function isFinal(httpStatus: number): boolean {
  return httpStatus >= 400 && httpStatus < 500 && ![401, 408, 429].includes(httpStatus);
}

/** The server's words, or the code of the connection's error. */
function whyOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  if (error instanceof PhoneRefused || error instanceof CommandFault) return error.message;
  return typeof code === "string" ? code : "no answer";
}
