/**
 * Looks at a connection once a second: does its peer have what it was sent, and is it still there? While data is on its way
 * TCP's keep-alive is silent, so the kernel's unacknowledged bytes are watched.
 *
 *   told all ── written to ──► owing ── acknowledges ──► told all
 *                                ├── answers nothing for 30 s ──► lost: vanished
 *                                └── answers, but takes nothing for 55 s ──► lost: deaf
 */
import type { Socket } from "node:net";
import type { Clock } from "../../domain.ts";
import type { Peer, Peers } from "../unacknowledged.ts";

const WATCH_MS = 1_000;
/**
 * CONTRACT gives 60 s from when the peer vanished. What is written in the last of the 25 s after which keep-alive would have
 * noticed silences it.
 */
const SILENT_MS = 30_000;
/**
 * What waits behind a peer that reads nothing belongs to its next connection. And the kernel asks such a peer ever more
 * rarely whether it is there: were it left alone for longer, its vanishing could go unnoticed for minutes.
 */
const DEAF_MS = 55_000;

/** More than any system's TCP holds for a process that does not read (Linux: 6 MiB). */
const RECEIVE_BUFFER_MAX_BYTES = 8 * 1024 * 1024;

export type Watch = { stop(): void };
export type Lost = "vanished" | "deaf";

/** `written`: bytes handed to the socket so far, of which so many are `waiting` in this process. */
export type Sight = { readonly written: number; readonly waiting: number; readonly peer: Peer | null };

/** Judges a peer by what is seen of it, about once a second. `now`: monotonic ms. */
export function makePatience(): (sight: Sight, now: number) => Lost | null {
  let silentSince: number | null = null;
  let owedSince: number | null = null;
  let taken = 0;
  return ({ written, waiting, peer }, now) => {
    silentSince = peer?.silent === true ? (silentSince ?? now) : null;
    const owed = waiting + (peer?.unacknowledged ?? 0);
    if (owed === 0) owedSince = null;
    else if (owedSince === null || written - owed !== taken) owedSince = now;
    taken = written - owed;
    if (silentSince !== null && now - silentSince >= SILENT_MS) return "vanished";
    return owedSince !== null && now - owedSince >= DEAF_MS ? "deaf" : null;
  };
}

export function watchPeer(
  socket: Socket,
  ports: { readonly peers: Peers; readonly clock: Clock },
  on: {
    /** Each second. `now`: monotonic ms. */
    readonly second: (now: number) => void;
    /** How many bytes our kernel has taken so far. */
    readonly written: () => number;
    /** `acknowledged`: how many of those the peer has, at least. */
    readonly seen: (acknowledged: number, now: number) => void;
    readonly lost: (how: Lost) => void;
  },
): Watch {
  const { peers, clock } = ports;
  const judge = makePatience();
  let acknowledged = 0;
  let looking = false;
  let stopped = false;

  async function look(): Promise<void> {
    on.second(clock.monotonic());
    // Where nothing is written keep-alive is enough, and balancers' probes come by the thousand.
    if (socket.bytesWritten === 0) return on.seen(0, clock.monotonic());
    const written = on.written();
    const peer = await peers.look(socket);
    if (stopped) return;
    const now = clock.monotonic();
    const waiting = socket.writableLength;
    const lost = judge({ written: socket.bytesWritten, waiting, peer }, now);
    if (lost !== null) return on.lost(lost);
    // A kernel acknowledges for a process that does not read, as much as its buffer holds. Under TLS its bytes are more than ours.
    const owed = waiting + (peer?.unacknowledged ?? 0);
    if (peer !== null || !peers.sees)
      acknowledged = owed === 0 ? written : Math.max(acknowledged, written - owed - RECEIVE_BUFFER_MAX_BYTES);
    on.seen(acknowledged, now);
  }

  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    void look().finally(() => {
      looking = false;
    });
  }, WATCH_MS);
  return {
    stop() {
      stopped = true;
      clearInterval(timer);
    },
  };
}
