/**
 * When an answer counts as taken by a phone that does not confirm (CONTRACT: written out, and its connection did not
 * break): its kernel has acknowledged every byte. A good-bye proves nothing by itself: a phone that gave up says it too.
 *
 *   writing ── finish ──► written ── all acknowledged, before the phone's good-bye or after ours ──► taken
 *      └── close ──► lost    └── error, reset, good-bye with bytes outstanding, nothing within 10 s ──► lost
 */
import type { ServerResponse } from "node:http";
import type { Peers } from "../unacknowledged.ts";

/** Looks at the kernel's table come ever further apart. */
const LOOKS_MS = [20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 3_000];

/** Call before the answer is sent; resolves once, within about 10 s of its end. */
export function answerTaken(response: ServerResponse, peers: Peers): Promise<boolean> {
  const { socket } = response;
  return new Promise((resolve) => {
    const connection = socket === null ? null : peers.of(socket);
    if (socket === null || connection === null) return resolve(false);
    let done = false;
    let written = false;

    function settle(taken: boolean): void {
      if (done) return;
      done = true;
      socket!.off("error", lost);
      socket!.off("end", ended);
      socket!.off("close", closed);
      resolve(taken);
    }
    function lost(): void {
      settle(false);
    }
    /**
     * The phone's good-bye carries its last acknowledgement. Looked at before anybody answers it: once our own is acknowledged
     * the kernel forgets the connection.
     */
    function ended(): void {
      const handedOver = response.writableEnded && socket!.writableLength === 0;
      settle(handedOver && (!peers.sees || connection!.lookNow()?.unacknowledged === 0));
    }
    /** Without the phone's good-bye it is we who closed, and the kernel goes on sending. */
    function closed(hadError: boolean): void {
      if (hadError || !written) lost();
      else if (!peers.sees) settle(true);
    }

    // Each answer of a connection listens until it is settled; how many there are the device's allowance bounds.
    socket.setMaxListeners(0);
    socket.on("error", lost);
    socket.prependListener("end", ended);
    socket.on("close", closed);
    response.on("close", () => {
      if (!response.writableFinished) lost();
    });
    response.on("finish", () => {
      written = true;
      // A connection that is to be closed may be gone from the kernel's table before the first look.
      if (!response.shouldKeepAlive && connection.lookNow()?.unacknowledged === 0) settle(true);
      else void watch(socket.bytesWritten);
    });

    /** A phone that asks again at once has later answers under way whenever it is looked: those bytes are not this answer's. */
    async function watch(end: number): Promise<void> {
      for (const pause of LOOKS_MS) {
        await new Promise((wake) => setTimeout(wake, pause));
        if (done) return;
        if (socket!.writableLength > 0) continue;
        const later = socket!.bytesWritten - end;
        const peer = await connection!.look();
        if (peer !== null && peer.unacknowledged <= later) return settle(true);
        if (peer === null && peers.sees) return settle(false);
      }
      settle(!peers.sees);
    }
  });
}
