/**
 * The requests of one connection, the next when the one before is answered: they are answered in that order anyway, and a
 * connection that sends many at once has no more of the node than one that waits for its answers.
 *
 *   request ─► none under way ─► handled ─► answered, or the caller gone ─► the next held is handled
 *      └─ one is ─► held ─► too many: the connection ends
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Socket } from "node:net";

type Held = readonly [IncomingMessage, ServerResponse];
type Place = { busy: boolean; readonly held: Held[] };

/** No phone and no balancer sends a second one before it has its answer. */
const HELD_MAX = 64;

/** @param max of all connections together */
export function withoutPipelining(handler: RequestListener, max: number): RequestListener {
  const places = new WeakMap<Socket, Place>();
  let held = 0;

  function placeOf(socket: Socket): Place {
    const place: Place = { busy: false, held: [] };
    places.set(socket, place);
    socket.once("close", () => {
      held -= place.held.length;
      place.held.length = 0;
    });
    return place;
  }

  function handle(place: Place, request: IncomingMessage, response: ServerResponse): void {
    place.busy = true;
    response.once("close", () => {
      place.busy = false;
      const next = request.socket.destroyed ? undefined : place.held.shift();
      if (next === undefined) return;
      held -= 1;
      handle(place, ...next);
    });
    handler(request, response);
  }

  return (request, response) => {
    const { socket } = request;
    // What came in one piece with a request too many is still read to its end.
    if (socket.destroyed) return;
    const place = places.get(socket) ?? placeOf(socket);
    if (!place.busy) return handle(place, request, response);
    if (place.held.length >= HELD_MAX || held >= max) return void socket.destroy();
    place.held.push([request, response]);
    held += 1;
  };
}
