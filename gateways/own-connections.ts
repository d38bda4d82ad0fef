/**
 * Connections that this process has opened to its own listeners, known at the other end for what they are: two ends of one connection
 * name the same two addresses and ports, and no other connection names them meanwhile.
 */
import type { Socket } from "node:net";
import { onTheWire } from "./origin.ts";

type Peer = Pick<Socket, "localPort" | "remoteAddress" | "remotePort">;

export type OwnConnections = {
  /** Before it connects; forgotten when it closes. @param port the listener's */
  add(socket: Socket, port: number): void;
  /** Whether this is the other end of one of them. */
  has(peer: Peer): boolean;
};

export function openOwnConnections(): OwnConnections {
  const opened = new Map<Socket, number>();
  return {
    add(socket, port) {
      opened.set(socket, port);
      socket.once("close", () => opened.delete(socket));
    },
    has(peer) {
      const { localPort } = peer;
      const { remoteAddress, remotePort } = onTheWire(peer);
      if (remotePort === undefined) return false;
      const address = plain(remoteAddress);
      for (const [socket, port] of opened)
        if (port === localPort && socket.localPort === remotePort && plain(socket.localAddress) === address)
          return true;
      return false;
    },
  };
}

/** A listener on every address may name IPv4 ones as IPv6. */
function plain(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:/, "");
}
