/**
 * A session's events as a loop's. Each waits until the loop has come round to the next: a page counts as kept when its turn of the loop is
 * over, and one in whose turn the loop was left does not.
 */
import type { Report } from "./outbox.ts";
import type { AmcMessage, Notice, Settings } from "./schema.ts";
import type { Outcome } from "./sender.ts";
import type { Session, SessionEnd, SessionState } from "./session.ts";

export type ClientEvent =
  /** Kept when the next event is asked for, and confirmed to the server only then. */
  | { readonly type: "page"; readonly page: AmcMessage }
  /** What has become of a page: it was withdrawn, its time is over, somebody else has answered. */
  | { readonly type: "notice"; readonly notice: Notice }
  /** The server has taken what this phone said. */
  | { readonly type: "reported"; readonly report: Report; readonly outcome: Outcome }
  /** The server will never take it. */
  | { readonly type: "refused"; readonly report: Report; readonly reason: string }
  | { readonly type: "state"; readonly state: SessionState; readonly fault: unknown }
  | { readonly type: "settings"; readonly settings: Settings }
  /** Something did not work and is done again or left out: the storage's faults above all. */
  | { readonly type: "fault"; readonly fault: unknown };

type Waiting = { readonly event: ClientEvent; kept(): void; left(error: Error): void };

/** Of what nobody has to keep, the oldest go. */
const TOLD_MAX = 1_000;

export async function* openEventStream(
  listen: (onEvent: (event: ClientEvent) => Promise<void>) => Session,
): AsyncGenerator<ClientEvent, SessionEnd> {
  const waiting: Waiting[] = [];
  let ended: SessionEnd | null = null;
  let over = false;
  let stir: () => void = () => {};

  const session = listen(
    (event) =>
      new Promise((kept, left) => {
        if (over) return left(new Error("The loop was left"));
        waiting.push({ event, kept, left });
        const told = waiting.findIndex((one) => one.event.type !== "page" && one.event.type !== "notice");
        if (waiting.length > TOLD_MAX && told >= 0) waiting.splice(told, 1);
        stir();
      }),
  );
  void session.ended.then((end) => {
    ended = end;
    stir();
  });

  let current: Waiting | undefined;
  try {
    for (;;) {
      while ((current = waiting.shift()) !== undefined) {
        yield current.event;
        current.kept();
      }
      if (ended !== null) return ended;
      await new Promise<void>((resolve) => {
        stir = resolve;
        if (waiting.length > 0 || ended !== null) resolve();
      });
    }
  } finally {
    over = true;
    session.close();
    for (const one of [...(current === undefined ? [] : [current]), ...waiting])
      one.left(new Error("The loop was left"));
    await session.ended;
  }
}
