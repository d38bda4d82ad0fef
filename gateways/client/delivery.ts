/**
 * When an answer counts as taken by a phone that does not confirm (CONTRACT: written out, and its connection did not
 * break): the peer has acknowledged every byte, has asked for something else, or has closed in good order.
 *
 *   writing ── finish ──► written ── acknowledged, next request, orderly end ──► taken
 *      └── close ──► lost    └── error, reset, or nothing within 10 s ──► lost
 */
import type { ServerResponse } from "node:http";
import type { Peers } from "../unacknowledged.ts";

/** Looks at the kernel's table come ever further apart. */
const LOOKS_MS = [20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 3_000];

/** Call before the answer is sent; resolves once, within about 10 s of its end. */
export function answerTaken(response: ServerResponse, peers: Peers): Promise<boolean> {
  const { socket, req } = response;
  return new Promise((resolve) => {
    if (socket === null) return resolve(false);
    let done = false;
    let written = false;

    function settle(taken: boolean): void {
      if (done) return;
      done = true;
      socket!.off("error", lost);
      socket!.off("close", closed);
      resolve(taken);
    }
    function lost(): void {
      settle(false);
    }
    function closed(hadError: boolean): void {
      settle(written && !hadError && !req.aborted);
    }

    socket.on("error", lost);
    socket.on("close", closed);
    response.on("close", () => {
      if (!response.writableFinished) lost();
    });
    response.on("finish", () => {
      written = true;
      void watch();
    });

    async function watch(): Promise<void> {
      for (const pause of LOOKS_MS) {
        await new Promise((wake) => setTimeout(wake, pause));
        if (done) return;
        if (socket!.writableLength > 0) continue;
        const peer = await peers.look(socket!);
        if (peer?.unacknowledged === 0) return settle(true);
      }
      settle(false);
    }
  });
}
