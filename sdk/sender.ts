/**
 * Says what the outbox holds, in order, by the stream where there is one and by calls where there is none. What the server will never take
 * is told and forgotten; whatever else goes wrong, it is said again.
 */
import type { Calls } from "./calls.ts";
import { ServerRefused, Unreachable } from "./faults.ts";
import type { Link } from "./link.ts";
import type { Outbox, Report } from "./outbox.ts";
import type { ServerFrames } from "./schema.ts";
import { fullJitter, pause } from "./waiting.ts";

/** What the server made of it. `answer`: the one that stands, where the server says. */
export type Outcome = {
  readonly result: ServerFrames["result"]["Result"];
  readonly answer: ServerFrames["result"]["Answer"] | null;
};

export type SenderEvents = {
  onReported(report: Report, outcome: Outcome): void;
  onRefused(report: Report, reason: string): void;
};

const TOGETHER = 100;
/** Some minutes: nobody is there to switch it off. */
const TRIES_MAX = 30;
const TRY_FIRST_MS = 500;
const TRY_LONGEST_MS = 10_000;

/** Until nothing waits, or nothing but replies that no server takes now: no answer waits behind them. @throws Unreachable, ServerRefused */
export async function sendReports(
  { calls, outbox, link, signal }: { calls: Calls; outbox: Outbox; link: () => Link | null; signal: AbortSignal },
  events: SenderEvents,
): Promise<void> {
  let together = TOGETHER;
  let streams = true;
  let putOff: ServerRefused | null = null;
  while (!signal.aborted) {
    const reports = outbox.next(together, putOff === null);
    if (reports.length === 0) break;
    const open = streams ? link() : null;
    try {
      const outcomes = open === null ? await byCalls(calls, reports) : await byStream(open, reports);
      if (outcomes.some(({ result }) => result === "unavailable")) throw new Unreachable("Stream", "EUNAVAILABLE");
      await outbox.done(reports);
      for (const [index, report] of reports.entries()) {
        const outcome = outcomes[index]!;
        if (outcome.result === "refused") events.onRefused(report, "The server refused it");
        else events.onReported(report, outcome);
      }
    } catch (error) {
      // What does not go by the stream goes by calls; if it was taken it is known by its clientId.
      if (open !== null && error instanceof Unreachable) {
        streams = false;
        continue;
      }
      if (error instanceof ServerRefused && error.unavailable && reports[0]?.kind === "reply") {
        putOff = error;
        continue;
      }
      if (!(error instanceof ServerRefused) || !error.final) throw error;
      // One at a time, so that the one at fault takes no other with it.
      if (reports.length > 1) {
        together = 1;
        continue;
      }
      await outbox.done(reports);
      events.onRefused(reports[0]!, error.message);
    }
  }
  if (putOff !== null) throw putOff;
}

export type LastWords = {
  /** Begins, unless it is at it. */
  say(): Promise<void>;
  end(): void;
};

/**
 * For a phone that listens no more since another has its place (a second window of a browser): a person may answer here all the same. By
 * calls, until nothing waits, or it has failed too often; then it waits for the next start.
 */
export function openLastWords(
  ports: { readonly calls: Calls; readonly outbox: Outbox },
  events: SenderEvents,
): LastWords {
  const { outbox } = ports;
  const over = new AbortController();
  const { signal } = over;
  let saying = false;
  return {
    async say() {
      if (saying) return;
      saying = true;
      const backoff = fullJitter(TRY_FIRST_MS, TRY_LONGEST_MS);
      for (let tries = 0; tries < TRIES_MAX && outbox.size() > 0 && !signal.aborted; tries += 1) {
        try {
          await sendReports({ ...ports, link: () => null, signal }, events);
        } catch (error) {
          const refused = error instanceof ServerRefused ? error : null;
          if (refused?.unregistered) break;
          await pause(Math.max(refused?.retryAfterMs ?? 0, backoff.next()), signal);
        }
      }
      saying = false;
    },
    end: () => over.abort(),
  };
}

async function byStream(link: Link, reports: readonly Report[]): Promise<Outcome[]> {
  return await Promise.all(
    reports.map(async ({ kind, ...report }) => {
      const { Result, Answer } = await link.ask(kind, report as never);
      return { result: Result, answer: Answer ?? null };
    }),
  );
}

async function byCalls(calls: Calls, reports: readonly Report[]): Promise<Outcome[]> {
  const [first] = reports;
  if (first?.kind === "reply") {
    const { kind: _, ...reply } = first;
    const { Result = "recorded" } = await calls.call("Reply", reply);
    return [{ result: Result, answer: null }];
  }
  const statuses = reports.flatMap((report) => {
    if (report.kind !== "status") return [];
    const { kind: _, ...status } = report;
    return [status];
  });
  const { Results } = await calls.call("SetStatus", { statuses });
  return statuses.map((_, index) => {
    const { Result, Answer } = (Results?.[index] ?? {}) as Partial<ServerFrames["result"]>;
    return { result: Result ?? "recorded", answer: Answer ?? null };
  });
}
