/** This node as a host system of its own: a connection to its own listener, known there for what it is. */
import type { Listener } from "../listener.ts";
import type { OwnConnections } from "../own-connections.ts";
import { type HostEvents, openHostLink } from "./host-link.ts";
import { type Draft, renderNewMessage } from "./new-message.ts";

export type OwnLink = {
  /** Resolves when the operating system took all of it; rejects when the connection broke first. */
  send(page: Draft): Promise<void>;
  cut(): void;
  readonly gone: Promise<unknown>;
};
/** Rejects as `openHostLink`. */
export type OwnHost = (events: Pick<HostEvents, "onNotification">) => Promise<OwnLink>;

/** null: this node listens for no host systems. */
export function openOwnHost(
  { plain, tls }: { readonly plain: Listener | null; readonly tls: Listener | null },
  own: OwnConnections,
): OwnHost | null {
  const listener = plain ?? tls;
  if (listener === null) return null;
  const { host, port } = listener.address;
  const target = {
    host: host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host,
    port,
    // Whose name is on the certificate is another's affair: the connection is to ourselves.
    tls: plain === null ? { anyServer: true } : null,
  };
  return async (events) => {
    const { send, cut, gone } = await openHostLink(target, {
      ...events,
      onSocket: (socket) => own.add(socket, target),
    });
    return { cut, gone, send: (page) => send(Buffer.from(renderNewMessage(page))) };
  };
}
