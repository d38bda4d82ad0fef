/**
 * The connections of one listener by the address they come from: one address holds half of the port's at most. One that lost
 * count of its connections goes on by the newest: the one that was silent longest is ended for it. A connection counts from
 * its first packet, so that handshakes that never end fill no port either.
 */
import type { Server, Socket } from "node:net";
import { addressKey } from "./allowance.ts";
import { isOwnLook } from "./listener.ts";
import { onTheWire } from "./origin.ts";

export type Crowds = {
  /** It said something. */
  spoke(socket: Socket): void;
};

const ADDRESS_PART = 0.5;

/** Sets the server's own bound, too. */
export function boundCrowds(
  server: Server,
  slice: {
    readonly max: number;
    /** Addresses that stand for many: they may fill the port. */
    readonly unbounded: (address: string) => boolean;
  },
  /** A connection of this address was ended for another of its. */
  ended: (address: string) => void,
): Crowds {
  /** Of each address by the whole of where they come from, those that spoke last behind. */
  const crowds = new Map<string, Map<string, Socket>>();
  const places = new WeakMap<Socket, { readonly crowd: Map<string, Socket>; readonly key: string }>();
  server.maxConnections = slice.max;

  function join(socket: Socket): void {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined || isOwnLook(socket)) return;
    const address = remoteAddress.replace(/^::ffff:/, "");
    if (slice.unbounded(address)) return;
    const peer = addressKey(address);
    const crowd = crowds.get(peer) ?? new Map<string, Socket>();
    crowds.set(peer, crowd);
    const wire = onTheWire(socket);
    const key = `${wire.remoteAddress} ${wire.remotePort}`;
    // Over TLS it comes twice: as the connection, and with its handshake done.
    crowd.delete(key);
    crowd.set(key, socket);
    places.set(socket, { crowd, key });
    socket.once("close", () => {
      if (crowd.get(key) === socket) crowd.delete(key);
      if (crowd.size === 0 && crowds.get(peer) === crowd) crowds.delete(peer);
    });
    if (crowd.size <= slice.max * ADDRESS_PART) return;
    const [silent] = crowd;
    crowd.delete(silent![0]);
    ended(address);
    silent![1].destroy();
  }
  server.on("connection", join);
  server.on("secureConnection", join);

  return {
    spoke(socket) {
      const place = places.get(socket);
      if (place?.crowd.delete(place.key)) place.crowd.set(place.key, socket);
    },
  };
}
