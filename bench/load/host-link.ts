/**
 * A host system's connection at the least cost: pages go out as bytes made before, and of what comes back only the
 * trackingId and the status are looked for. Every thousandth document is read whole, so that it is known to be what it should.
 */
import { connect } from "node:net";
import { readNotification } from "../../gateways/mxpp/notification.ts";

export type HostLink = {
  send(documents: readonly Buffer[]): void;
  close(): void;
};

export type HostLinkPorts = {
  readonly heard: (trackingId: string, status: string) => void;
  readonly failed: (error: Error) => void;
};

const CONNECT_MS = 5_000;
const REST_CHARACTERS = 1_000_000;
const READ_WHOLE_EVERY = 1_000;
const END = "</amcomMessage>";

export function openHostLink(port: number, ports: HostLinkPorts): Promise<HostLink> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error("the server took no host connection")), CONNECT_MS);
    let closed = false;
    socket.on("connect", () => {
      clearTimeout(timer);
      resolve({
        send(documents) {
          socket.write(documents.length === 1 ? documents[0]! : Buffer.concat(documents));
        },
        close() {
          closed = true;
          socket.destroy();
        },
      });
    });
    socket.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
      ports.failed(error);
    });
    socket.on("close", () => {
      if (!closed) ports.failed(new Error("the server ended a host connection"));
    });

    let rest = "";
    let documents = 0;
    socket.setEncoding("latin1"); // all we look for is ASCII
    socket.on("data", (chunk: string) => {
      const text = rest + chunk;
      let start = 0;
      for (let end = text.indexOf(END); end >= 0; end = text.indexOf(END, start)) {
        const next = end + END.length;
        const trackingId = between(text, "<trackingId>", start, end);
        const status = between(text, "<statusText>", start, end);
        documents += 1;
        if (documents % READ_WHOLE_EVERY === 1) {
          const whole = readNotification(text.slice(start, next).trim());
          if (whole?.trackingId !== trackingId || whole.status !== status)
            return void socket.destroy(new Error("what the server tells is no messageNotification"));
        }
        ports.heard(trackingId, status);
        start = next;
      }
      rest = text.slice(start);
      if (rest.length > REST_CHARACTERS) socket.destroy(new Error("the server's document has no end"));
    });
  });
}

function between(text: string, tag: string, from: number, to: number): string {
  const at = text.indexOf(tag, from);
  return at < 0 || at > to ? "" : text.slice(at + tag.length, text.indexOf("<", at + tag.length));
}
