/**
 * A host system's side of MXPP (CONTRACT: MXPP): one connection that sends pages and hears what becomes of them. The command line
 * and the node's own test pages speak by it.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { readDocument } from "./document.ts";
import { type FramerEvent, makeFramer } from "./framing.ts";
import type { NewMessage } from "./new-message.ts";
import { type Notification, readNotification } from "./notification.ts";

export type HostTls = {
  readonly ca?: string | Buffer | undefined;
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
  /** Whatever certificate the server shows: it is known otherwise. */
  readonly anyServer?: boolean;
};
export type HostTarget = { readonly host: string; readonly port: number; readonly tls?: HostTls | null };

export type HostEvents = {
  onNotification(notification: Notification): void;
  /** A reply or a message from a phone. */
  onPage?(page: NewMessage): void;
  /** The stream, or a document of it, is not MXPP; `detail` is a fixed phrase. After a fault of the stream it closes. */
  onFault?(detail: string): void;
  /** Before it connects. */
  onSocket?(socket: Socket): void;
};

export type HostLink = {
  /** Resolves when the operating system took all of it; rejects when the connection broke first. */
  send(bytes: Uint8Array): Promise<void>;
  /** Resets the connection, as a crash or a cut cable would. */
  cut(): void;
  /** Says good-bye, and waits for the peer's (at most 500 ms). */
  close(): Promise<void>;
  /** Resolves when the connection is gone, with the error's code, or null after an orderly end. */
  readonly gone: Promise<string | null>;
};

export const CONNECT_DEADLINE_MS = 5_000;
const CLOSE_DEADLINE_MS = 500;
const KEEP_ALIVE_MS = 15_000;

/** Rejects with the socket's own error (ECONNREFUSED, a TLS code), or ETIMEDOUT after the deadline. */
export async function openHostLink(
  target: HostTarget,
  events: HostEvents,
  deadlineMs = CONNECT_DEADLINE_MS,
): Promise<HostLink> {
  const socket = await connect(target, events, deadlineMs);
  const framer = makeFramer();
  let code: string | null = null;
  const gone = new Promise<string | null>((resolve) => socket.once("close", () => resolve(code)));
  socket.on("error", (error: NodeJS.ErrnoException) => {
    code = error.code ?? "ERROR";
  });
  socket.on("data", (chunk: Buffer) => {
    for (const event of framer.push(chunk)) {
      hear(event, events);
      if (event.kind === "fault") socket.destroy();
    }
  });

  return {
    gone,
    send: (bytes) =>
      new Promise((resolve, reject) => {
        socket.write(bytes, (error) => (error ? reject(error) : resolve()));
      }),
    cut() {
      socket.resetAndDestroy();
    },
    async close() {
      socket.end();
      const timer = setTimeout(() => socket.destroy(), CLOSE_DEADLINE_MS);
      await gone;
      clearTimeout(timer);
    },
  };
}

function hear(event: FramerEvent, events: HostEvents): void {
  if (event.kind !== "document") {
    events.onFault?.(event.kind === "fault" ? event.detail : "a document over the limit");
    return;
  }
  const notification = readNotification(event.xml);
  const document = notification === null ? readDocument(event.xml) : null;
  if (notification !== null) events.onNotification(notification);
  else if (document?.kind === "newMessage") events.onPage?.(document.page);
  else events.onFault?.("a document that is neither a notification nor a page");
}

async function connect({ host, port, tls }: HostTarget, events: HostEvents, deadlineMs: number): Promise<Socket> {
  const socket = tls
    ? connectTls({ host, port, ca: tls.ca, cert: tls.cert, key: tls.key, rejectUnauthorized: tls.anyServer !== true })
    : connectTcp({ host, port });
  events.onSocket?.(socket);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy(Object.assign(new Error("no answer to the connection"), { code: "ETIMEDOUT" }));
    }, deadlineMs);
    const settle = (error?: Error) => {
      clearTimeout(timer);
      socket.off("error", settle);
      if (error) reject(error);
      else resolve();
    };
    socket.once("error", settle);
    socket.once(tls ? "secureConnect" : "connect", () => settle());
  });
  return socket;
}
