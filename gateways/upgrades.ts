/**
 * Requests to go on as a WebSocket. They take the way of any request (routes, admission, who calls, refusals), so that nothing at the
 * doors need be said twice; only the handler that agrees takes the socket over.
 *
 *   upgrade ─► routed like a request ─► refused: answered, and its connection ends
 *                     └─► takeOver ─► the socket is the handler's; its request is over
 */
import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";

export type Upgrade = {
  readonly request: IncomingMessage;
  readonly socket: Socket;
  /** What came behind the request already. */
  readonly head: Buffer;
  /** It said something: of its address it is not the one to be ended for others. */
  readonly spoke: () => void;
};

/** For an answer that nobody reads. */
const STALLED_MS = 30_000;
const upgrades = new WeakMap<IncomingMessage, Upgrade>();

/** Any other upgrade (h2c, which Java's client asks for with each request) is passed over, and the request answered as it is. */
export function asksForWebSocket({ method, headers }: IncomingMessage): boolean {
  return method === "GET" && headers.upgrade?.toLowerCase() === "websocket";
}

/** Hands the server's upgrades to `route`, as requests. */
export function routeUpgrade(
  upgrade: Upgrade,
  route: (request: IncomingMessage, response: ServerResponse) => void,
): void {
  const { request, socket } = upgrade;
  // Nobody else listens to this socket any more.
  socket.on("error", nothing);
  socket.setTimeout(STALLED_MS, () => socket.destroy());
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.on("finish", () => socket.destroySoon());
  try {
    // Throws where an answer to an earlier request is under way.
    response.assignSocket(socket);
    upgrades.set(request, upgrade);
    route(request, response);
  } catch {
    socket.destroy();
  }
}

/** null: the request asks for no upgrade. Else its socket is the caller's from now on. */
export function takeOver({ raw }: FastifyRequest, reply: FastifyReply): Upgrade | null {
  const upgrade = upgrades.get(raw);
  if (upgrade === undefined) return null;
  upgrades.delete(raw);
  reply.hijack();
  reply.raw.detachSocket(upgrade.socket);
  upgrade.socket.setTimeout(0);
  upgrade.socket.removeAllListeners("timeout");
  // It has what it came for: its place is another's.
  reply.raw.emit("close");
  return upgrade;
}

function nothing(): void {}
