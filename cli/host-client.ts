/**
 * A host system's side of MXPP (CONTRACT: MXPP): one connection that sends pages and hears what becomes of them. The same
 * codecs as the server's, so a page may hold anything XML can.
 */
import { randomBytes } from "node:crypto";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { readDocument } from "../gateways/mxpp/document.ts";
import { type FramerEvent, makeFramer } from "../gateways/mxpp/framing.ts";
import { type Draft, type NewMessage, renderNewMessage } from "../gateways/mxpp/new-message.ts";
import { type Notification, readNotification } from "../gateways/mxpp/notification.ts";

export type HostTls = {
  readonly ca?: string | Buffer | undefined;
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
};
export type HostTarget = { readonly host: string; readonly port: number; readonly tls?: HostTls | null };

export type HostEvents = {
  onNotification(notification: Notification): void;
  /** A reply or a message from a phone. */
  onPage?(page: NewMessage): void;
  /** The stream, or a document of it, is not MXPP; `detail` is a fixed phrase. After a fault of the stream it closes. */
  onFault?(detail: string): void;
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
  const socket = await connect(target, deadlineMs);
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

async function connect({ host, port, tls }: HostTarget, deadlineMs: number): Promise<Socket> {
  const socket = tls
    ? connectTls({ host, port, ca: tls.ca, cert: tls.cert, key: tls.key })
    : connectTcp({ host, port });
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

export const HOST_ENCODINGS = ["utf-8", "utf-16"] as const;
export type HostEncoding = (typeof HOST_ENCODINGS)[number];

/** `utf-16`: little-endian with its byte-order mark, and declared so. */
export function encodePage(page: Draft, encoding: HostEncoding = "utf-8"): Buffer {
  const xml = renderNewMessage(page);
  if (encoding === "utf-8") return Buffer.from(xml, "utf8");
  return Buffer.from(`\uFEFF${xml.replace('encoding="UTF-8"', 'encoding="UTF-16"')}`, "utf16le");
}

/** 64 bits of chance: a host's trackingIds need only differ from each other. */
export function freshTrackingId(): string {
  return randomBytes(8).toString("hex");
}
