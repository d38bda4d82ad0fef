/**
 * Connections that this process has opened to its own listeners, known at the other end for what they are: two ends of one connection
 * name the same two addresses and ports, and no other connection names them meanwhile.
 */
import type { Socket } from "node:net";
import type { Place } from "./listener.ts";
import { onTheWire } from "./origin.ts";

type Peer = Pick<Socket, "localAddress" | "localPort" | "remoteAddress" | "remotePort">;

export type OwnConnections = {
  /** Before it connects; forgotten when it closes. @param to the listener's IP address and port */
  add(socket: Socket, to: Place): void;
  /** Whether this is the other end of one of them. */
  has(peer: Peer): boolean;
};

export function openOwnConnections(): OwnConnections {
  const opened = new Map<Socket, Place>();
  return {
    add(socket, to) {
      opened.set(socket, to);
      socket.once("close", () => opened.delete(socket));
    },
    has(peer) {
      const { localAddress, localPort } = peer;
      const { remoteAddress, remotePort } = onTheWire(peer);
      if (remotePort === undefined) return false;
      const wire = [plain(remoteAddress), remotePort, plain(localAddress), localPort].join(" ");
      for (const [socket, { host, port }] of opened)
        if ([plain(socket.localAddress), socket.localPort, plain(host), port].join(" ") === wire) return true;
      return false;
    },
  };
}

/** A listener on every address may name IPv4 ones as IPv6. */
function plain(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:/, "");
}
