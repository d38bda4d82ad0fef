/**
 * A host system that does what the command line's own client never would: reads nothing, says good-bye too early, comes from
 * another address, sends what is no MXPP. It reads notifications by the server's own codecs.
 */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { encodePage, freshTrackingId } from "../../cli/host-client.ts";
import type { StatusText } from "../../domain.ts";
import { makeFramer } from "../../gateways/mxpp/framing.ts";
import type { Draft } from "../../gateways/mxpp/new-message.ts";
import { type Notification, readNotification } from "../../gateways/mxpp/notification.ts";
import { eventually, WITHIN_MS } from "./eventually.ts";
import { textOf } from "./host.ts";

export type RawHost = {
  readonly socket: Socket;
  /** Sends a page; returns its trackingId. Does not wait for the operating system to take it. */
  sends(page: Partial<Draft> & { readonly destination: string }): string;
  /** True when the operating system took it all at once. */
  writes(bytes: Uint8Array | string): boolean;
  statuses(trackingId: string): StatusText[];
  hears(): readonly Notification[];
  awaits(trackingId: string, status: StatusText, within?: number): Promise<Notification>;
  stopsReading(): void;
  readsAgain(): void;
  cuts(): void;
  /** When the connection is gone: the error's code, or null after an orderly end. */
  readonly gone: Promise<string | null>;
};

export async function openRawHost(options: {
  readonly port: number;
  readonly name: string;
  /** Where the host seems to be: any address of 127.0.0.0/8. */
  readonly from?: string;
  /** False: from the first moment it reads nothing. */
  readonly reads?: boolean;
  readonly ca?: string;
  /** What a balancer writes before everything. */
  readonly header?: Uint8Array;
}): Promise<RawHost> {
  const { port, name, from, reads = true, ca, header } = options;
  const place = { port, host: "127.0.0.1", allowHalfOpen: true, ...(from === undefined ? {} : { localAddress: from }) };
  const raw = connect(place);
  raw.setNoDelay(true);
  if (header !== undefined) raw.write(header);
  const socket: Socket = ca === undefined ? raw : connectTls({ socket: raw, ca, host: place.host });
  const heard: Notification[] = [];
  const framer = makeFramer();
  let code: string | null = null;
  const gone = new Promise<string | null>((resolve) => socket.once("close", () => resolve(code)));
  socket.on("error", (error: NodeJS.ErrnoException) => {
    code = error.code ?? "ERROR";
  });
  await new Promise<void>((resolve, reject) => {
    socket.once(ca === undefined ? "connect" : "secureConnect", resolve);
    socket.once("error", reject);
  });
  const hear = (chunk: Buffer) => {
    for (const event of framer.push(chunk)) {
      const notification = event.kind === "document" ? readNotification(event.xml) : null;
      if (notification === null) throw new Error("the node sent something that is no notification");
      heard.push(notification);
    }
  };
  if (reads) socket.on("data", hear);
  // Having heard the node's good-bye it says its own.
  socket.on("end", () => socket.end());

  return {
    socket,
    gone,
    sends(page) {
      const trackingId = page.trackingId ?? freshTrackingId();
      const draft = { origin: name, text: textOf(trackingId), priority: "medium", sentAt: Date.now() };
      socket.write(encodePage({ ...draft, ...page, trackingId }));
      return trackingId;
    },
    writes: (bytes) => socket.write(bytes),
    statuses: (trackingId) => heard.filter((one) => one.trackingId === trackingId).map(({ status }) => status),
    hears: () => heard,
    awaits: (trackingId, status, within = WITHIN_MS) =>
      eventually(
        `host ${name} heard ${status} of ${trackingId}`,
        () => heard.find((one) => one.trackingId === trackingId && one.status === status),
        within,
      ),
    stopsReading: () => void socket.pause(),
    readsAgain() {
      if (socket.listenerCount("data") === 0) socket.on("data", hear);
      socket.resume();
    },
    cuts: () => void raw.resetAndDestroy(),
  };
}
