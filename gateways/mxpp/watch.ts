/**
 * Looks at a connection once a second: does its peer have what it was sent, and is it still there? While data is on its way
 * TCP's keep-alive is silent, so the kernel's unacknowledged bytes are watched.
 */
import type { Socket } from "node:net";
import type { Clock } from "../../domain.ts";
import type { Peers } from "../unacknowledged.ts";

const WATCH_MS = 1_000;
/** A peer that answers nothing for this long is gone; CONTRACT gives 60 s from when it vanished. */
const SILENT_MS = 40_000;

export type Watch = { stop(): void };

export function watchPeer(
  socket: Socket,
  ports: { readonly peers: Peers; readonly clock: Clock },
  on: {
    /** Each second. `now`: monotonic ms. */
    readonly second: (now: number) => void;
    /** How many bytes our kernel has taken so far. */
    readonly written: () => number;
    /** `acknowledged`: how many of those the peer's kernel has, at least. */
    readonly seen: (acknowledged: number, now: number) => void;
    readonly vanished: () => void;
  },
): Watch {
  const { peers, clock } = ports;
  let silentSince: number | null = null;
  let looking = false;
  let stopped = false;

  async function look(): Promise<void> {
    on.second(clock.monotonic());
    // Where nothing is written keep-alive is enough, and balancers' probes come by the thousand.
    if (socket.bytesWritten === 0) return on.seen(0, clock.monotonic());
    // Under TLS the kernel's bytes are more than ours, never fewer.
    const written = on.written();
    const peer = await peers.look(socket);
    if (stopped) return;
    const now = clock.monotonic();
    silentSince = peer?.silent === true ? (silentSince ?? now) : null;
    if (silentSince !== null && now - silentSince >= SILENT_MS) on.vanished();
    else on.seen(written - (peer?.unacknowledged ?? (peers.sees ? written : 0)), now);
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
