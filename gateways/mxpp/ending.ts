/**
 * The end of a connection: what was read is taken to its end, and what has just been accepted is told before it goes, as far as
 * the peer takes it in time. A host may say its good-bye behind its last page, before that page has had its turn.
 *
 *   running ── we end it ──► told ──► good-bye ── the peer's own ──► answered: it has taken all that came before ours
 *      └── the peer does ──► told ──► good-bye       └── reset, nothing within 1 s ──► broken
 */
import type { Socket } from "node:net";
import { setTimeout as rest } from "node:timers/promises";
import type { Clock } from "../../domain.ts";
import type { Peers } from "../unacknowledged.ts";

const LOOK_MS = 20;
/** For the peer's own good-bye. */
const DESTROY_MS = 1_000;

export type Ending = {
  /** Ends it, once; resolves when its good-bye is said, at the latest after `deadlineMs`. */
  end(deadlineMs: number): Promise<void>;
  /**
   * Once the connection is closed: whether the peer has answered our good-bye with its own. A process that is gone, or leaves bytes in
   * its kernel, resets instead; one that went before says good-bye first, which the kernel alone can tell.
   */
  answered(): Promise<boolean>;
};

export function makeEnding(
  socket: Socket,
  clock: Clock,
  ports: {
    readonly busy: () => boolean;
    readonly gone: () => boolean;
    readonly peers: Pick<Peers, "of">;
    /** Nothing more is taken of what was read. */
    readonly stop: () => void;
  },
): Ending {
  let ending: Promise<void> | null = null;
  const connection = ports.peers.of(socket);
  let theirs = false;
  let reset = false;
  socket.on("end", () => {
    theirs = ending === null;
  });
  socket.on("error", () => {
    reset = true;
  });

  async function end(deadline: number): Promise<void> {
    while (ports.busy() && !ports.gone() && clock.monotonic() < deadline) await rest(LOOK_MS);
    ports.stop();
    socket.end();
    setTimeout(() => socket.destroy(), DESTROY_MS).unref();
  }
  return {
    end(deadlineMs) {
      ending ??= end(clock.monotonic() + deadlineMs);
      return ending;
    },
    // Where we said none nothing is asked: what waits for the host goes to its next connection at once.
    async answered() {
      if (ending === null || theirs || reset) return false;
      return (await connection?.look())?.endedByUs === true;
    },
  };
}
