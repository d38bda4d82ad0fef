/** MXPP: listens for host systems, plain and over TLS, and holds a session for each connection. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, Server as TlsServer } from "node:tls";
import type { HostSystemId } from "../../domain.ts";
import { makeBatch } from "../../persistence/batch.ts";
import { type Refusal, recordRefusals } from "../../persistence/refusals.ts";
import { addressKey, openAllowance } from "../allowance.ts";
import { budgetBytes, openBudget } from "../budget.ts";
import type { Certificates } from "../certificates.ts";
import { connectionsMax } from "../connections.ts";
import { boundCrowds } from "../crowds.ts";
import { isOwnLook, type Listener, openListener, type Place } from "../listener.ts";
import { openNotes } from "../notes.ts";
import { onTheWire } from "../origin.ts";
import { openOwnConnections } from "../own-connections.ts";
import type { Pressure } from "../pressure.ts";
import { type Balancers, readProxyHeaders } from "../proxy-protocol.ts";
import { makeTurns } from "../turns.ts";
import { openBeginnings } from "./beginnings.ts";
import { openKnownHosts } from "./known-hosts.ts";
import { openLinks } from "./links.ts";
import { type OwnHost, openOwnHost } from "./own-host.ts";
import { choosePartings } from "./parting.ts";
import { openPlaces } from "./places.ts";
import { openSession, type Session, type SessionPorts } from "./session.ts";
import { openShares } from "./shares.ts";

export type MxppSlice = Balancers & {
  readonly node: string;
  readonly bind: string;
  /** 0: any free port; -1: off. */
  readonly port: number;
  readonly tlsPort: number;
};

export type Mxpp = {
  /** null: that listener is off. */
  readonly address: { readonly plain: Place | null; readonly tls: Place | null };
  /** Asks this part of the connections to come again elsewhere, see parting.ts. */
  part(part: number): void;
  /** Connections live on when one is opened anew. */
  readonly listeners: { readonly plain: Listener | null; readonly tls: Listener | null };
  /** Test pages of our own come by it. */
  readonly ownHost: OwnHost | null;
  connections(): { readonly plain: number; readonly tls: number };
  /** Stops listening, lets what was read be answered, ends connections by the deadline. */
  close(deadlineMs: number): Promise<void>;
};

/** A connection with when it came (monotonic ms), and what had been read of it when it was looked at last. */
type Held = { readonly socket: Socket; readonly since: number; seen: number };

const HANDSHAKE_MS = 10_000;
/** One that has just come is not sent away again: where no balancer stands between, it comes back each time. */
const SETTLED_MS = 4_000;
/** What was read is answered within this. */
const PARTING_MS = 5_000;
/** Of what one address is refused that is no host system: a stranger must not fill the database. */
const STRANGERS_REFUSALS = { burst: 500, perMinute: 60, callersMax: 50_000 };
/** Two batches of a host system's pages: one in flight, and one that gathers meanwhile. */
const PLACES = 512;
/** Documents handed on in one turn of the event loop. */
const TURN_COST = 64;
/** All peers whose documents say nothing are read no faster than such a turn in this time. */
const SLOW_MS = 100;

export async function openMxpp(
  slice: MxppSlice,
  ports: Omit<
    SessionPorts,
    "hosts" | "refused" | "links" | "note" | "budget" | "turns" | "shares" | "places" | "beginnings"
  > & {
    readonly certificates: Certificates | null;
    readonly pressure: Pressure;
  },
): Promise<Mxpp> {
  const { log, meter, database, certificates, clock, pressure } = ports;
  const isBalancer = (address: string) => ports.addressAllowed(slice.trustedProxies, address);
  const sessions = new Map<Session, Held>();
  const own = openOwnConnections();
  const counts = { plain: 0, tls: 0 };
  const hosts = openKnownHosts(ports);
  const note = openNotes(ports);
  const strangersRefusals = openAllowance(STRANGERS_REFUSALS, ports);

  const refusals = makeBatch<Refusal & { n: number }, true>({
    key: (refusal) => String(refusal.n),
    write: async (entries) => {
      await recordRefusals(database, slice.node, entries);
      return entries.map(() => true as const);
    },
    entriesMax: 100,
    waitingMax: 1_000,
  });
  let refusalCount = 0;

  const links = openLinks(ports);
  const sessionPorts: SessionPorts = {
    ...ports,
    hosts,
    budget: openBudget(budgetBytes()),
    links,
    turns: {
      usual: makeTurns({ costMax: TURN_COST, everyMs: 0 }),
      slow: makeTurns({ costMax: TURN_COST, everyMs: SLOW_MS }),
    },
    shares: openShares(),
    places: openPlaces(PLACES),
    beginnings: openBeginnings(budgetBytes()),
    note,
    refused: ({ host, address, ...refusal }) => {
      if (host === null) {
        const stranger = addressKey(address);
        if (strangersRefusals.waitMs(stranger) > 0) return;
        strangersRefusals.charge(stranger);
      }
      refusalCount += 1;
      const hostSystemId: HostSystemId | null = host?.id ?? null;
      // The host has its answer already; that the operator's record is complete is not worth a wait.
      refusals.submit({ ...refusal, hostSystemId, n: refusalCount }).catch(() => {});
    },
  };

  function hold(socket: Socket, kind: "plain" | "tls", fingerprint: string | null): void {
    const { localPort, remoteAddress, remotePort } = socket;
    // Reset before anybody could see whose it was; what it sent cannot be judged, and nobody waits for the answer.
    if (localPort === undefined || remoteAddress === undefined) return void socket.destroy();
    if (isOwnLook(socket)) return void socket.destroy();
    if (pressure.refuses()) {
      meter.count("back_pressure", { queue: "mxpp_refused" });
      return void socket.destroy();
    }
    const address = addressOf(remoteAddress);
    const stranger = isBalancer(address) ? `${address} ${remotePort}` : address;
    const direct = !isBalancer(addressOf(onTheWire(socket).remoteAddress ?? ""));
    const peer = { fingerprint, port: localPort, address, stranger, direct, own: own.has(socket) };
    const session = openSession(socket, peer, sessionPorts);
    sessions.set(session, { socket, since: clock.monotonic(), seen: 0 });
    counts[kind] += 1;
    socket.on("close", () => {
      sessions.delete(session);
      counts[kind] -= 1;
    });
  }

  /** A host system that opens ever more must not lock out the others. */
  function bound(server: Server): void {
    const crowds = boundCrowds(server, { max: connectionsMax("mxpp"), unbounded: isBalancer }, (address) => {
      meter.count("back_pressure", { queue: "mxpp_address" });
      note(address, {}, "host system holds too many connections; the one silent longest is ended");
    });
    server.on(server instanceof TlsServer ? "secureConnection" : "connection", (socket: Socket) =>
      socket.on("data", () => crowds.spoke(socket)),
    );
    readProxyHeaders(server, slice, {
      ...ports,
      gateway: "mxpp",
      own: (socket) => isOwnLook(socket) || own.has(socket),
    });
  }

  const { bind } = slice;
  const servers: Server[] = [];
  let plain: Listener | null = null;
  if (slice.port >= 0) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => hold(socket, "plain", null));
    bound(server);
    servers.push(server);
    plain = await openListener(server, { host: bind, port: slice.port, speech: "tcp" }, { log });
  }
  let tls: Listener | null = null;
  if (slice.tlsPort >= 0 && certificates !== null) {
    const server = createTlsServer(
      {
        ...certificates.current(),
        // A host may show a certificate; one that shows a wrong one is not let in as if it had shown none.
        requestCert: true,
        rejectUnauthorized: false,
        handshakeTimeout: HANDSHAKE_MS,
      },
      (socket: TLSSocket) => {
        // Not before: a probe that says good-bye in its handshake must not be waited for.
        socket.allowHalfOpen = true;
        const shown = socket.getPeerCertificate();
        const fingerprint = shown?.fingerprint256 ?? null;
        if (fingerprint !== null && !socket.authorized) {
          meter.count("auth_failures", { gateway: "mxpp" });
          log.warn({ peer: socket.remoteAddress ?? null }, "host connection refused: its certificate is not trusted");
          socket.destroy();
          return;
        }
        hold(socket, "tls", fingerprint);
      },
    );
    // A balancer's probe, or a peer that speaks no TLS: counted, not logged.
    server.on("tlsClientError", (_error, socket) => {
      meter.count("xml_faults", { gateway: "mxpp", class: "tls" });
      socket.destroy();
    });
    certificates.onChange(() => server.setSecureContext(certificates.current()));
    bound(server);
    servers.push(server);
    tls = await openListener(server, { host: bind, port: slice.tlsPort, speech: "tls" }, { log });
  }

  return {
    address: { plain: plain?.address ?? null, tls: tls?.address ?? null },
    listeners: { plain, tls },
    ownHost: openOwnHost({ plain, tls }, own),
    connections: () => ({ ...counts }),
    part(part) {
      const settledBefore = clock.monotonic() - SETTLED_MS;
      const carried = [...sessions].map(([session, held]) => {
        const bytes = held.socket.bytesRead - held.seen;
        held.seen = held.socket.bytesRead;
        return { connection: session, bytes, settled: held.since < settledBefore };
      });
      const asked = choosePartings(carried, part);
      if (asked.length === 0) return;
      meter.count("parted_connections", { kind: "mxpp" }, asked.length);
      log.info({ connections: asked.length, of: sessions.size }, "host connections are ended, to come again elsewhere");
      for (const session of asked) void session.close(PARTING_MS);
    },
    async close(deadlineMs) {
      for (const server of servers) server.close();
      await Promise.all([...sessions.keys()].map((session) => session.close(deadlineMs)));
      await links.close();
    },
  };
}

/** An IPv4 address that a socket for both has mapped. */
function addressOf(remote: string): string {
  return remote.replace(/^::ffff:/, "");
}
