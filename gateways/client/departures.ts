/**
 * Streams that are to come again elsewhere, told so a portion at a time: all at once would be a crowd at the other nodes' doors.
 *
 *   leave ─► in line ─► reconnect {afterMs, urls} ─► closed, 1012
 */
import { CLOSE } from "./frames.ts";
import type { Stream } from "./stream.ts";

export type Departures = {
  leave(streams: Iterable<Stream>): void;
  /** All that are left, at once: there is no time for more turns. */
  finish(): void;
};

const EVERY_MS = 50;
/** At least so many a turn; and so many turns for all that wait, at most. */
const PORTION = 50;
const TURNS = 30;
/** Each phone waits a random part of it. */
const AWAY_MS = 3_000;

export function openDepartures(ports: {
  readonly urls: () => readonly string[];
  readonly end: (stream: Stream, code: number) => void;
}): Departures {
  const line = new Set<Stream>();
  let portion = PORTION;
  let timer: NodeJS.Timeout | null = null;

  function turn(most = portion): void {
    let told = 0;
    for (const stream of line) {
      if (told === most) return;
      line.delete(stream);
      told += 1;
      stream.write("reconnect", { afterMs: Math.floor(Math.random() * AWAY_MS), urls: ports.urls() });
      ports.end(stream, CLOSE.restart);
    }
    if (timer !== null) clearInterval(timer);
    timer = null;
  }

  return {
    leave(streams) {
      for (const stream of streams) line.add(stream);
      portion = Math.max(PORTION, Math.ceil(line.size / TURNS));
      timer ??= setInterval(() => turn(), EVERY_MS);
    },
    finish: () => turn(Number.POSITIVE_INFINITY),
  };
}
