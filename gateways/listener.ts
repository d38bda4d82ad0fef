/**
 * A listener that can be looked at as its callers do, and opened anew at the same address while its connections live on.
 *
 *   look ─► connects ─► the server's own handler has seen it, and answered ─► well
 *            │              ├─ turned away, since the port is full ─► well
 *            │              ├─ answered, and not by us: another process has the port ─► gone
 *            │              └─ no answer ─► silent
 *            └─ refused ─► gone
 *
 * What a look leaves behind is nothing: no line of log, no count, no place in a crowd, no connection that waits for its end.
 */
import { type AddressInfo, connect, Server, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Verdict } from "../actors/supervisors/service.ts";
import { faultFields, type Log } from "../log.ts";
import { onTheWire, type RemoteEnd } from "./origin.ts";

export type Place = { readonly host: string; readonly port: number };

export type Listener = {
  readonly address: Place;
  look(): Promise<Verdict>;
  /** Rejects with the listener's own error, such as EADDRINUSE. */
  restart(): Promise<void>;
};

/** What answers there. */
export type Speech = "tcp" | "tls" | "http" | "https";

/** So many slices of time: of a process that stood still, only one has passed. */
const SLICES = 8;
const SLICE_MS = 250;
const BACKLOG = 1_024;
/** This process has no file or port left to ask with. */
const OURS = ["EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS", "ENOMEM", "EAGAIN"];

type Look = { readonly socket: Socket; seen: boolean; turnedAway: boolean };
/** Looks under way, at any listener of this process. */
const looks = new Set<Look>();

/** Whether this connection is such a look, of which nobody is to take notice. */
export function isOwnLook(peer: RemoteEnd): boolean {
  return lookOf(peer) !== undefined;
}

function lookOf(peer: RemoteEnd): Look | undefined {
  const { remoteAddress, remotePort } = onTheWire(peer);
  if (looks.size === 0 || remotePort === undefined) return undefined;
  const address = remoteAddress?.replace(/^::ffff:/, "");
  return [...looks].find(({ socket }) => socket.localPort === remotePort && socket.localAddress === address);
}

/** Lets looks at this server be known for what they are, and its late errors be no end of the process. */
export function watched<S extends Server>(server: S, log: Log): S {
  server.on("connection", (peer) => {
    const look = lookOf(peer);
    if (look !== undefined) look.seen = true;
  });
  server.on("drop", (peer) => {
    const look = lookOf(peer ?? {});
    if (look !== undefined) look.turnedAway = true;
  });
  server.on("error", (error) => {
    // Until it listens, its opener hears of it.
    if (server.listening) log.error(faultFields(error), "listener failed");
  });
  return server;
}

/** @throws the listener's own error, such as EADDRINUSE */
export async function openListener(
  server: Server,
  slice: Place & { readonly speech: Speech },
  ports: { readonly log: Log },
): Promise<Listener> {
  watched(server, ports.log);
  await listen(server, slice);
  const { address: host, port } = server.address() as AddressInfo;
  const address = { host, port };
  return {
    address,
    look: () => lookAt(server, address, slice.speech),
    async restart() {
      stopListening(server);
      await listen(server, address);
    },
  };
}

/** At once, and nothing else: its connections live on. */
export function stopListening(server: Server): void {
  // An HTTP server's own way would end its idle connections.
  Server.prototype.close.call(server);
}

function listen(server: Server, { host, port }: Place): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      server.off("error", failed);
      resolve();
    };
    const failed = (error: Error) => {
      server.off("listening", done);
      reject(error);
    };
    server.once("error", failed);
    server.once("listening", done);
    server.listen(port, host, BACKLOG);
  });
}

export async function lookAt(server: Server, { host, port }: Place, speech: Speech): Promise<Verdict> {
  if (!server.listening) return "gone";
  const socket = connect({ port, host: host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host });
  const look: Look = { socket, seen: false, turnedAway: false };
  looks.add(look);
  try {
    const answer = await Promise.race([answerOf(socket, speech), late()]);
    if (OURS.includes(answer)) return "unknown";
    if (look.turnedAway || (look.seen && (answer === "answered" || (speech === "tcp" && answer !== "late"))))
      return "well";
    return answer === "ECONNREFUSED" || answer === "answered" ? "gone" : "silent";
  } finally {
    looks.delete(look);
    socket.resetAndDestroy();
  }
}

/** "answered", "closed" before that, or the code of what went wrong. */
function answerOf(socket: Socket, speech: Speech): Promise<string> {
  return new Promise((resolve) => {
    let secured = false;
    // Over TLS we are through first; only when the other side lets go of us is it too.
    const ended = (how: string) => resolve(secured && speech === "tls" ? "answered" : how);
    const failed = ({ code = "failed" }: NodeJS.ErrnoException) => ended(code);
    socket.on("error", failed).on("close", () => ended("closed"));
    if (speech === "tcp") return void socket.resume();
    // Its name is another's affair: the connection is to ourselves.
    const stream = speech === "http" ? socket : connectTls({ socket, rejectUnauthorized: false });
    if (stream !== socket) stream.on("error", failed).on("close", () => ended("closed"));
    if (speech === "tls") {
      stream.resume().once("secureConnect", () => {
        secured = true;
      });
      return;
    }
    stream.once("data", (bytes: Buffer) => resolve(bytes.toString("latin1", 0, 5) === "HTTP/" ? "answered" : "closed"));
    stream.write("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
  });
}

async function late(): Promise<string> {
  for (let slice = 0; slice < SLICES; slice += 1) await new Promise((resolve) => setTimeout(resolve, SLICE_MS));
  return "late";
}
