/**
 * One connection of the stream (frames: docs/api/asyncapi.json): says hello, hands on what the server tells, and matches its results to what
 * was asked. A side that is silent for too long is taken for gone, by the other as by this one.
 *
 *   opening ── hello ──► open ── closed by either, silent, 10 s without a hello ──► closed, once
 */
import { Unreachable } from "./faults.ts";
import type { ClientFrames, ServerFrames } from "./schema.ts";

/** As much of a WebSocket as is needed; a browser's, Node's or the package ws' will do. */
export type StreamSocket = {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
};
export type OpenSocket = (url: string, protocols: string[]) => StreamSocket;

export type ServerFrame = {
  readonly type: string;
  readonly seq: number | null;
  readonly at: string | null;
  readonly data: Readonly<Record<string, unknown>>;
};
export type LinkEnd = { readonly code: number; readonly opened: boolean };

export type Link = {
  send<Type extends keyof ClientFrames>(type: Type, data: ClientFrames[Type]): void;
  /** Resolves with the frame's result. @throws Unreachable when the link ends, or within 10 s */
  ask<Type extends keyof ClientFrames>(type: Type, data: ClientFrames[Type]): Promise<ServerFrames["result"]>;
  close(): void;
  readonly closed: Promise<LinkEnd>;
};

export type LinkOptions = {
  readonly server: string;
  readonly token: string;
  readonly openSocket: OpenSocket;
  /** The socket is open: what the phone says first. */
  onOpen(link: Link): void;
  onHello(hello: ServerFrames["hello"], at: string | null, link: Link): void;
  /** Every frame but hello, result, ping and pong. */
  onFrame(frame: ServerFrame): void;
};

const HELLO_MS = 10_000;
const RESULT_MS = 10_000;
const HEARTBEAT_SECONDS = 30;
/** Heartbeats without a word: then the phone asks, then it gives up. */
const ASK_AFTER = 1.5;
const GONE_AFTER = 2;
const FRAME_CHARACTERS = 1024 * 1024;
const ERROR_MS = 500;
const GOOD_BYE = 1000;
const NO_CLOSE_SEEN = 1006;

export function openLink(options: LinkOptions): Link {
  const asked = new Map<string, { resolve(result: ServerFrames["result"]): void; reject(error: Error): void }>();
  let count = 0;
  let opened = false;
  let over = false;
  let beatMs = HEARTBEAT_SECONDS * 1_000;
  let heardAt = Date.now();
  let end: (end: LinkEnd) => void = () => {};
  const closed = new Promise<LinkEnd>((resolve) => {
    end = resolve;
  });

  const url = `${options.server.replace(/\/+$/, "").replace(/^http/, "ws")}/ClientMessaging/V2/Stream`;
  const socket = options.openSocket(url, ["tocsin.v2", `bearer.${options.token}`]);
  const hello = setTimeout(() => finish(NO_CLOSE_SEEN), HELLO_MS);
  let watch = setInterval(look, beatMs / 2);

  function finish(code: number): void {
    if (over) return;
    over = true;
    clearTimeout(hello);
    clearInterval(watch);
    try {
      socket.close(GOOD_BYE);
    } catch {
      // It never opened.
    }
    for (const { reject } of asked.values()) reject(new Unreachable("Stream", "ECLOSED"));
    asked.clear();
    end({ code, opened });
  }

  function look(): void {
    const silentMs = Date.now() - heardAt;
    if (silentMs > beatMs * GONE_AFTER) finish(NO_CLOSE_SEEN);
    else if (silentMs > beatMs * ASK_AFTER) link.send("ping", {});
  }

  function heard(text: unknown): void {
    if (over) return;
    heardAt = Date.now();
    const frame = typeof text === "string" && text.length <= FRAME_CHARACTERS ? read(text) : null;
    if (frame === null) return;
    const { type, data } = frame;
    if (type === "hello") {
      clearTimeout(hello);
      opened = true;
      const seconds = Number(data.heartbeatSeconds);
      if (seconds >= 1 && seconds <= 300) beatMs = seconds * 1_000;
      clearInterval(watch);
      watch = setInterval(look, beatMs / 2);
      options.onHello(data as ServerFrames["hello"], frame.at, link);
    } else if (type === "ping") link.send("pong", {});
    else if (type === "result") {
      const result = data as ServerFrames["result"];
      asked.get(result.to)?.resolve(result);
      asked.delete(result.to);
    }
    if (!["hello", "ping", "pong", "result"].includes(type)) options.onFrame(frame);
  }

  const link: Link = {
    send: (type, data) => void say(type, data),
    ask: (type, data) =>
      new Promise((resolve, reject) => {
        if (over) return reject(new Unreachable("Stream", "ECLOSED"));
        const id = say(type, data);
        const late = setTimeout(() => {
          asked.delete(id);
          reject(new Unreachable("Stream", "ETIMEDOUT"));
        }, RESULT_MS);
        asked.set(id, {
          resolve(result) {
            clearTimeout(late);
            resolve(result);
          },
          reject(error) {
            clearTimeout(late);
            reject(error);
          },
        });
      }),
    close: () => finish(GOOD_BYE),
    closed,
  };

  function say(type: string, data: object): string {
    count += 1;
    const id = String(count);
    if (!over) {
      try {
        socket.send(JSON.stringify({ type, id, data }));
      } catch {
        finish(NO_CLOSE_SEEN);
      }
    }
    return id;
  }

  socket.onopen = () => {
    if (!over) options.onOpen(link);
  };
  socket.onmessage = (event: { data?: unknown }) => heard(event.data);
  socket.onclose = (event: { code?: unknown }) => finish(typeof event.code === "number" ? event.code : NO_CLOSE_SEEN);
  // A close with its code follows; where none does, that was it.
  socket.onerror = () => void setTimeout(finish, ERROR_MS, NO_CLOSE_SEEN);
  return link;
}

function read(text: string): ServerFrame | null {
  try {
    const { type, seq, at, data } = JSON.parse(text) as Partial<Record<string, unknown>>;
    if (typeof type !== "string" || typeof data !== "object" || data === null) return null;
    return {
      type,
      seq: typeof seq === "number" && Number.isSafeInteger(seq) ? seq : null,
      at: typeof at === "string" ? at : null,
      data: data as Record<string, unknown>,
    };
  } catch {
    return null;
  }
}
