/**
 * When an answer counts as taken by a phone that does not confirm (CONTRACT: written out, and its connection did not
 * break): its kernel has acknowledged every byte. A good-bye proves nothing by itself: a phone that gave up says it too.
 * Nor has the phone read what its kernel has: one that was asleep meanwhile and gives up when it wakes resets the connection.
 *
 *   writing ── finish ──► written ── all acknowledged, before the phone's good-bye or after ours ──► taken ── reset ──► unread
 *      └── close ──► lost    └── error, reset, good-bye with bytes outstanding, nothing within 10 s ──► lost └── asks again, end ──► read
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Peers } from "../unacknowledged.ts";

export type Fate = {
  /** Resolves once, within about 10 s of the answer's end. */
  readonly taken: Promise<boolean>;
  /** Of one that was taken: its phone did not read it after all. Resolves when that is certain, at the latest with the connection's end. */
  readonly unread: Promise<boolean>;
};

export type Deliveries = {
  /** Call with each request: what was answered before on its connection has been read. */
  asked(request: IncomingMessage): void;
  /** Call before the answer is sent. */
  follow(response: ServerResponse): Fate;
};

/** Looks at the kernel's table come ever further apart. */
const LOOKS_MS = [20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 3_000];

export function openDeliveries(peers: Peers): Deliveries {
  /** By connection: those of its answers whose phone has yet to show that it has read them. */
  const unproven = new WeakMap<Socket, Set<() => void>>();

  function unreadOf(socket: Socket): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (unread: boolean) => {
        socket.off("error", reset);
        socket.off("close", closed);
        unproven.get(socket)?.delete(read);
        resolve(unread);
      };
      const read = () => settle(false);
      // Its kernel resets a connection whose program goes with bytes unread.
      const reset = (error: NodeJS.ErrnoException) => settle(error.code === "ECONNRESET");
      const closed = () => settle(false);
      socket.on("error", reset);
      socket.on("close", closed);
      unproven.set(socket, (unproven.get(socket) ?? new Set()).add(read));
    });
  }

  return {
    asked({ socket }) {
      for (const read of unproven.get(socket) ?? []) read();
    },
    follow(response) {
      const { socket } = response;
      const taken = answerTaken(response, peers);
      const unread = socket === null ? Promise.resolve(false) : unreadOf(socket);
      return { taken, unread };
    },
  };
}

/** Our good-bye waits until it is released: once it is acknowledged the kernel forgets a connection that the phone has ended first. */
function withhold(socket: Socket): () => void {
  const held: { end?: Socket["end"] } = socket;
  // Another answer of this connection has it.
  if (Object.hasOwn(held, "end")) return () => {};
  let asked = false;
  held.end = () => {
    asked = true;
    return socket;
  };
  return () => {
    delete held.end;
    if (asked) socket.end();
  };
}

function answerTaken(response: ServerResponse, peers: Peers): Promise<boolean> {
  const { socket } = response;
  return new Promise((resolve) => {
    const connection = socket === null ? null : peers.of(socket);
    if (socket === null || connection === null) return resolve(false);
    let done = false;
    let written = false;
    let release = () => {};

    function settle(taken: boolean): void {
      if (done) return;
      done = true;
      socket!.off("error", lost);
      socket!.off("end", ended);
      socket!.off("close", closed);
      resolve(taken);
      release();
    }
    function lost(): void {
      settle(false);
    }
    /** The phone's good-bye carries its last acknowledgement. */
    function ended(): void {
      const handedOver = response.writableEnded && socket!.writableLength === 0;
      if (!handedOver || !peers.sees) {
        settle(handedOver);
        return;
      }
      const answer = withhold(socket!);
      void connection!.look().then((peer) => {
        settle(peer?.unacknowledged === 0);
        answer();
      });
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
    response.prependListener("finish", () => {
      if (!response.shouldKeepAlive && !done) release = withhold(socket);
      written = true;
      void watch(socket.bytesWritten);
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
