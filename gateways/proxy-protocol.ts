/**
 * A listener behind balancers that say for whom they come (PROXY protocol): of each of their connections the header is read before
 * anything else, TLS included, and taken off.
 *
 *   connected ─► from elsewhere, or this process ───────────────────────────► handed over as it is
 *       └─► from a trusted balancer ─► header ─► it is the origin's it names ─► handed over
 *                     │                  └─ it names none (LOCAL, UNKNOWN) ─► handed over as the balancer's own
 *                     ├─ no header, one at fault, none within 5 s ─► counted, noted, ended
 *                     └─ gone before ─► a probe; no trace of it
 *
 * A header that comes from elsewhere is no header: it is what the protocol of the port makes of it, a fault in each.
 */
import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import type { Clock } from "../domain.ts";
import type { Log } from "../log.ts";
import type { Meter } from "../meter.ts";
import { addressAllowed } from "./address.ts";
import { openNotes } from "./notes.ts";
import { comesFrom, type Origin } from "./origin.ts";
import { readProxyHeader } from "./proxy-header.ts";

export type Balancers = {
  /** Addresses and CIDR ranges of those that are believed. */
  readonly trustedProxies: readonly string[];
  /** Each of their connections begins with a header. */
  readonly proxyProtocol: boolean;
};

/** The specification asks for 3 s at least: a packet may have been lost. */
const HEADER_MS = 5_000;

/**
 * Whoever listens for the server's connections by now hears of each when its header is read; who listens later hears of it at once.
 * @param ports `gateway`: how it is called in what is counted; `own`: whether it is this process that connected
 */
export function readProxyHeaders(
  server: Server,
  { trustedProxies, proxyProtocol }: Balancers,
  ports: {
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
    readonly gateway: string;
    readonly own: (socket: Socket) => boolean;
  },
): void {
  if (!proxyProtocol) return;
  const { meter, gateway, own } = ports;
  const note = openNotes(ports);
  const takers = server.listeners("connection");
  server.removeAllListeners("connection");
  const handOver = (socket: Socket) => {
    for (const taker of takers) taker.call(server, socket);
  };
  /** Of connections that have yet to shake hands: what comes out of that is another socket. */
  const named = new Map<string, Origin>();

  server.on("connection", (socket: Socket) => {
    const { remoteAddress: balancer } = socket;
    if (balancer === undefined || own(socket) || !addressAllowed(trustedProxies, balancer)) return handOver(socket);
    awaitHeader(socket, {
      read(origin) {
        if (origin !== null) {
          if (server instanceof TlsServer) {
            const wire = wireOf(socket);
            named.set(wire, origin);
            socket.once("close", () => named.delete(wire));
          }
          comesFrom(socket, origin);
        }
        handOver(socket);
      },
      ended(fault) {
        meter.count("proxy_faults", { gateway, class: fault });
        note(
          balancer,
          { gateway, class: fault },
          "connection of a balancer ended: its PROXY header is not what it must be",
        );
      },
    });
  });
  if (server instanceof TlsServer) {
    server.prependListener("secureConnection", (socket) => {
      const origin = named.get(wireOf(socket));
      if (origin !== undefined) comesFrom(socket, origin);
    });
  }
}

function awaitHeader(
  socket: Socket,
  on: { readonly read: (origin: Origin | null) => void; readonly ended: (fault: string) => void },
): void {
  let bytes: Buffer = Buffer.alloc(0);
  const late = setTimeout(end, HEADER_MS, "late");
  const gone = () => void socket.destroy();

  function stop(): void {
    clearTimeout(late);
    socket.off("readable", look).off("end", gone).off("close", stop);
  }
  function end(fault: string): void {
    stop();
    socket.destroy();
    on.ended(fault);
  }
  function look(): void {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    bytes = Buffer.concat([bytes, chunk]);
    const reading = readProxyHeader(bytes);
    if (reading.kind === "more") return;
    if (reading.kind === "fault") {
      end(reading.fault);
      return;
    }
    stop();
    // Before anybody else looks: of what came with it nothing is lost, an end of the stream included.
    const rest = bytes.subarray(reading.bytes);
    if (rest.length > 0) socket.unshift(rest);
    on.read(reading.origin);
  }
  socket.on("error", () => {});
  socket.on("readable", look).on("end", gone).on("close", stop);
}

/** Tells apart whatever is connected to one listener. */
function wireOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}
