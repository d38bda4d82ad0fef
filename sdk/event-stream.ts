/**
 * A session's events as a loop's. Each waits until the loop has come round to the next: a page counts as kept when its turn of the loop is
 * over, and one in whose turn the loop was left does not.
 */
import type { ClientEvent } from "./client.ts";
import type { Session, SessionEnd } from "./session.ts";

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
