/** The server's side of an MXPP socket, through the server's own codecs: hears pages, and tells what a test wants told. */
import { createServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import type { ReplyId, StatusText } from "../../domain.ts";
import { readDocument } from "../../gateways/mxpp/document.ts";
import { makeFramer } from "../../gateways/mxpp/framing.ts";
import type { NewMessage } from "../../gateways/mxpp/new-message.ts";
import { renderNotification } from "../../gateways/mxpp/notification.ts";
import { renderReply } from "../../gateways/mxpp/reply.ts";
import type { NotificationEncoding } from "../../persistence/host-systems.ts";

type Told = {
  readonly trackingId: string;
  readonly status: StatusText;
  readonly reason?: string;
  readonly encoding?: NotificationEncoding;
};

export type MxppPeer = {
  readonly port: number;
  /** `host:port` */
  readonly address: string;
  /** Every page that came, in order. */
  readonly pages: readonly NewMessage[];
  /** Every connection there was, in order. */
  readonly sockets: readonly Socket[];
  close(): Promise<void>;
};

/** When every notification here was written: 2026-01-02T00:00:00Z. */
const TOLD_AT = Date.UTC(2026, 0, 2);

export async function openMxppPeer(
  onPage: (page: NewMessage, socket: Socket, peer: MxppPeer) => void = () => {},
  tls?: TlsOptions,
): Promise<MxppPeer> {
  const pages: NewMessage[] = [];
  const sockets: Socket[] = [];
  const server = tls === undefined ? createServer(hear) : createTlsServer(tls, hear);
  function hear(socket: Socket): void {
    sockets.push(socket);
    socket.on("error", () => {});
    const framer = makeFramer();
    socket.on("data", (chunk) => {
      for (const event of framer.push(chunk)) {
        const document = event.kind === "document" ? readDocument(event.xml) : null;
        if (document?.kind !== "newMessage") throw new Error("the host sent something else than a page");
        pages.push(document.page);
        onPage(document.page, socket, peer);
      }
    });
  }
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const peer: MxppPeer = {
    port,
    address: `127.0.0.1:${port}`,
    pages,
    sockets,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
  return peer;
}

/** Answers every page with these, at once. */
export function answering(...statuses: readonly (StatusText | { status: StatusText; reason: string })[]) {
  return ({ trackingId }: NewMessage, socket: Socket): void => {
    for (const one of statuses) tell(socket, { trackingId, ...(typeof one === "string" ? { status: one } : one) });
  };
}

/** What a person replied to a page, or the same again. */
export function replyTo({ trackingId }: NewMessage, socket: Socket, text: string): void {
  const words = { text, destination: "1001", name: "Ada", toId: "cli", deviceId: null, conversationId: "", siteId: "" };
  const page = { origin: "lab", source: "1001", systemId: "lab", trackingId, at: TOLD_AT };
  const reply = { ...words, priority: "medium" as const };
  socket.write(
    renderReply(
      { ...page, kind: "reply", status: "REPLY", replyId: "" as ReplyId, reply },
      { encoding: "utf-8", priorities: null },
    ),
  );
}

export function tell(socket: Socket, { trackingId, status, reason, encoding = "utf-8" }: Told): void {
  const page = { origin: "lab", source: "1001", systemId: "lab" };
  socket.write(renderNotification({ ...page, trackingId, status, at: TOLD_AT, reason: reason ?? null }, encoding));
}
