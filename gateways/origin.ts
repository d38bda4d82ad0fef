/**
 * Who is at the other end of a connection. Where a trusted balancer has said for whom it came, `remoteAddress` and `remotePort` of
 * the socket are that one's, so that whatever tells callers apart goes by it. The kernel's own are kept: it knows no other.
 */
import type { Socket } from "node:net";

export type Origin = { readonly address: string; readonly port: number };
export type RemoteEnd = { readonly remoteAddress?: string | undefined; readonly remotePort?: number | undefined };

const wires = new WeakMap<RemoteEnd, RemoteEnd>();

/** From now on this is a connection of the origin's. */
export function comesFrom(socket: Socket, { address, port }: Origin): void {
  const { remoteAddress, remotePort } = socket;
  wires.set(socket, { remoteAddress, remotePort });
  Object.defineProperties(socket, { remoteAddress: { value: address }, remotePort: { value: port } });
}

/** The end that the kernel sees: the balancer's, or the peer's itself. */
export function onTheWire(peer: RemoteEnd): RemoteEnd {
  return wires.get(peer) ?? peer;
}
