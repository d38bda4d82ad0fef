/**
 * The end of a connection: what was read is taken to its end, and what has just been accepted is told before it goes, as far as
 * the peer takes it in time. A host may say its good-bye behind its last page, before that page has had its turn.
 */
import type { Socket } from "node:net";
import { setTimeout as rest } from "node:timers/promises";
import type { Clock } from "../../domain.ts";

const LOOK_MS = 20;
/** For the peer's own good-bye. */
const DESTROY_MS = 1_000;

/** @returns ends it, once; resolves when its good-bye is said, at the latest after `deadlineMs` */
export function makeEnding(
  socket: Socket,
  clock: Clock,
  ports: {
    readonly busy: () => boolean;
    readonly gone: () => boolean;
    /** Nothing more is taken of what was read. */
    readonly stop: () => void;
  },
): (deadlineMs: number) => Promise<void> {
  let ending: Promise<void> | null = null;

  async function end(deadline: number): Promise<void> {
    while (ports.busy() && !ports.gone() && clock.monotonic() < deadline) await rest(LOOK_MS);
    ports.stop();
    socket.end();
    setTimeout(() => socket.destroy(), DESTROY_MS).unref();
  }
  return (deadlineMs) => {
    ending ??= end(clock.monotonic() + deadlineMs);
    return ending;
  };
}
