/**
 * The HTTP(S) listener that phones, operators and probes share. Rooms hand in their routes; each set lives in a scope of
 * its own, with error handler and hooks of its own where it wants them.
 *
 *   open ─► listening ─ close(deadline) ─► stops accepting, finishes requests ─► all finished ─► closed
 *            ▲    │                                   └─ deadline ─► every socket destroyed ───────┘
 *            └────┘ restart: another takes its place at the same port, and this one closes
 *
 * Callers are told apart by address, so that one of them fills its own share of the node and nobody else's. A balancer whose
 * X-Forwarded-For is believed stands for many; any other address may be a whole hospital's, and is never shut out.
 */
import { lookup } from "node:dns/promises";
import { createServer as createHttpServer, type RequestListener, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type RawServerDefault } from "fastify";
import type { Clock } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import type { Meter } from "../meter.ts";
import { BatchFull } from "../persistence/batch.ts";
import { addressAllowed } from "./address.ts";
import { callerOf, openAdmission, waitingMax } from "./admission.ts";
import { budgetBytes, openBudget } from "./budget.ts";
import type { Certificates } from "./certificates.ts";
import { connectionsMax } from "./connections.ts";
import { boundCrowds } from "./crowds.ts";
import { isOwnLook, type Listener, lookAt, stopListening, watched } from "./listener.ts";
import { onTheWire } from "./origin.ts";
import { withoutPipelining } from "./pipelining.ts";
import type { Pressure } from "./pressure.ts";
import { notFound, problemOf, sendProblem } from "./problems.ts";
import { type Balancers, readProxyHeaders } from "./proxy-protocol.ts";
import { compileValidator, compileWriter } from "./schema-compilers.ts";
import { asksForWebSocket, routeUpgrade } from "./upgrades.ts";

/** Of the trusted proxies X-Forwarded-For is believed as well. */
export type HttpSlice = Balancers & {
  readonly bind: string;
  /** 0: any free one. */
  readonly port: number;
};

export type App = FastifyInstance<
  RawServerDefault,
  import("node:http").IncomingMessage,
  import("node:http").ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** One room's routes, put into a scope of their own. Upgrades are routed too: see upgrades.ts. */
export type RouteSet = (app: App) => void | Promise<void>;

export type HttpGateway = {
  readonly address: { readonly url: string; readonly port: number };
  readonly listener: Listener;
  /** Stops accepting, lets requests under way finish, destroys what is left after `deadlineMs`. */
  close(deadlineMs: number): Promise<void>;
};

const BODY_LIMIT_BYTES = 256 * 1024;
const HEADERS_LIMIT_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
/** An answer of which the caller takes nothing for so long is given up: it may hold a whole inbox. */
const STALLED_MS = 30_000;
/** Longer than balancers keep a connection (60 s), so that it is they who close an idle one. */
const KEEP_ALIVE_MS = 65_000;
const TIMEOUT_LOOK_MS = 1_000;
/** For requests that were under way when the listener was opened anew. */
const RESTART_DEADLINE_MS = 30_000;
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;
/** So many requests may wait while this node has too much to do; the others are answered 503 at once. */
const PUT_OFF_WAITING = 64;
/** Answered to whoever asks: a balancer that hears nothing takes the node for dead and ends all it carries, and Kubernetes kills it. */
const PROBES: readonly (string | undefined)[] = ["/healthz", "/readyz"];
/** Nothing from elsewhere, and no upgrade to HTTPS where there is none. */
const DOCS_POLICY =
  "default-src 'self'; base-uri 'self'; font-src 'self' data:; frame-ancestors 'none'; img-src 'self' data:; " +
  "object-src 'none'; script-src 'self'; script-src-attr 'none'; style-src 'self'";

declare module "fastify" {
  interface FastifyRequest {
    /** Whose turn it waits for. */
    caller: string;
    /** It has what it came for. */
    leave(): void;
  }
}

type HttpPorts = {
  readonly log: Log;
  readonly meter: Meter;
  readonly clock: Clock;
  readonly certificates: Certificates | null;
  readonly pressure: Pick<Pressure, "putsOff" | "refuses" | "parts">;
};

/** @throws the listener's own error, such as EADDRINUSE */
export async function openHttp(slice: HttpSlice, ports: HttpPorts, routes: readonly RouteSet[]): Promise<HttpGateway> {
  const { certificates } = ports;
  // "localhost" stands for two addresses, and Fastify would open a second server that knows nothing of certificates.
  const { address: host, family } = await lookup(slice.bind);
  let current = await openApp({ ...slice, bind: host }, ports, routes);
  let closed = false;
  const { port } = current.server.address() as AddressInfo;
  certificates?.onChange(() => {
    // Of one that is closing there is nobody to be told any more.
    if (!closed)
      (current.server as unknown as { setSecureContext(pair: object): void }).setSecureContext(pairOf(certificates));
  });
  const address = { host, port };
  const scheme = certificates === null ? "http" : "https";
  const name = slice.bind === "0.0.0.0" || slice.bind === "::" ? "localhost" : family === 6 ? `[${host}]` : slice.bind;
  return {
    address: { url: `${scheme}://${name}:${port}`, port },
    listener: {
      address,
      look: () => lookAt(current.server, address, scheme),
      /** All of it anew: whatever kept it from answering is left behind. What is under way is finished there. */
      async restart() {
        const before = current;
        stopListening(before.server);
        const next = await openApp({ ...slice, bind: host, port }, ports, routes);
        current = next;
        before.close(RESTART_DEADLINE_MS).catch(nothing);
        if (closed) await next.close(0);
      },
    },
    close(deadlineMs) {
      closed = true;
      return current.close(deadlineMs);
    },
  };
}

type OpenApp = { readonly server: Server; close(deadlineMs: number): Promise<void> };

async function openApp(slice: HttpSlice, ports: HttpPorts, routes: readonly RouteSet[]): Promise<OpenApp> {
  const log = ports.log.child({ part: "http" });
  const { certificates } = ports;
  /** By where they come from: over TLS a connection is two. Those that were upgraded are their takers'. */
  const sockets = new Map<string, Socket>();
  /** Those that were let in: while new ones are refused these go on. */
  const letIn = new WeakSet<Socket>();
  const isProxy = (address: string) => addressAllowed(slice.trustedProxies, address);
  const { pressure } = ports;
  const waiting = waitingMax();
  const admission = openAdmission(() => (pressure.putsOff() ? PUT_OFF_WAITING : waiting));
  let closing = false;

  function makeServer(handler: RequestListener): Server {
    const options = {
      maxHeaderSize: HEADERS_LIMIT_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: TIMEOUT_LOOK_MS,
      noDelay: true,
      shouldUpgradeCallback: asksForWebSocket,
    };
    const server: Server = watched(
      certificates === null
        ? createHttpServer(options, handler)
        : createHttpsServer(
            { ...options, ...pairOf(certificates), handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS },
            handler,
          ),
      log,
    );
    server.setTimeout(STALLED_MS);
    const crowds = boundCrowds(server, { max: connectionsMax("http"), unbounded: isProxy }, () =>
      ports.meter.count("back_pressure", { queue: "http_address" }),
    );
    server.on("request", ({ socket }) => crowds.spoke(socket));
    readProxyHeaders(server, slice, { ...ports, log, gateway: "http", own: isOwnLook });
    server.on("connection", (socket: Socket) => {
      const wire = wireOf(socket);
      sockets.set(wire, socket);
      socket.once("close", () => {
        if (sockets.get(wire) === socket) sockets.delete(wire);
      });
    });
    server.on("upgrade", (request, socket: Socket, head) => {
      const spoke = () => crowds.spoke(socket);
      spoke();
      sockets.delete(wireOf(socket));
      routeUpgrade({ request, socket, head, spoke }, app.routing);
    });
    // A handshake that fails (a probe, plain HTTP, an old TLS) or never ends is the caller's affair. No answer could be sent.
    server.on("tlsClientError", (_error: Error, socket: Socket) => void socket.destroy());
    return server;
  }

  const app: App = Fastify({
    serverFactory: (handler) => makeServer(withoutPipelining(handler as RequestListener, waiting)),
    bodyLimit: BODY_LIMIT_BYTES,
    logger: false,
    trustProxy: slice.trustedProxies.length === 0 ? false : [...slice.trustedProxies],
    forceCloseConnections: "idle",
    routerOptions: { maxParamLength: 300 },
    frameworkErrors: (error, request, reply) =>
      admission.enter(callerOf(request), (refusal) => void sendProblem(reply, problemOf(refusal ?? error))),
    clientErrorHandler: refuseMalformed,
  }).withTypeProvider<TypeBoxTypeProvider>();
  app.setValidatorCompiler(compileValidator);
  app.setSerializerCompiler(compileWriter);
  app.setNotFoundHandler(notFound);
  app.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error);
    // The route's pattern, never the URL: ids and queries stay out of the log.
    if (problem.code === "internal")
      log.error({ ...faultFields(error), method: request.method, route: request.routeOptions.url }, "request failed");
    return sendProblem(reply, problem);
  });
  const budget = openBudget(budgetBytes());
  app.decorateRequest("caller", "");
  app.decorateRequest("leave", nothing);
  // No promises here: each would make a request wait for another round of them.
  app.addHook("onRequest", (request, reply, done) => {
    const { headers, socket } = request.raw;
    request.caller = callerOf(request);
    if (!PROBES.includes(request.routeOptions.url)) {
      if (pressure.refuses() && !letIn.has(socket)) {
        ports.meter.count("back_pressure", { queue: "http_refused" });
        void reply.header("connection", "close");
        return done(new BatchFull());
      }
      letIn.add(socket);
    }
    const bytes = "transfer-encoding" in headers ? BODY_LIMIT_BYTES : Number(headers["content-length"] ?? 0);
    // A probe has no body, and is answered however much is under way. One over the limit is refused unread.
    const given = bytes > 0 && bytes <= BODY_LIMIT_BYTES ? budget.admit(bytes) : nothing;
    if (given === null) return done(new BatchFull());
    reply.raw.once("close", () => {
      given();
      request.leave();
    });
    admission.enter(request.caller, done);
  });
  // Not before: a caller that is slow to send its body takes no place meanwhile.
  app.addHook("preValidation", (request, _reply, done) => {
    // Gone while it waited for its turn: its going would not be heard again.
    if (request.raw.socket.destroyed) return;
    request.leave = admission.settle(request.caller, done);
  });
  app.addHook("onSend", (request, reply, payload, done) => {
    reply.header("x-content-type-options", "nosniff");
    if (closing || pressure.parts()) reply.header("connection", "close");
    // A file has its place until it is read.
    if (typeof payload !== "object" || payload === null || Buffer.isBuffer(payload)) request.leave();
    done();
  });

  let reference: Buffer | null = null;
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Tocsin", description: "Pages, their recipients, and where each page stands.", version: "1" },
      components: {
        securitySchemes: {
          apiKey: { type: "http", scheme: "bearer" },
          deviceToken: { type: "http", scheme: "bearer" },
        },
      },
    },
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    staticCSP: true,
    transformStaticCSP: () => DOCS_POLICY,
    uiConfig: { validatorUrl: null, persistAuthorization: false },
    uiHooks: {
      // Written once: it takes milliseconds.
      preHandler(request, reply, done) {
        if (request.routeOptions.url !== "/docs/json") return done();
        reference ??= Buffer.from(JSON.stringify(app.swagger()));
        void reply.type("application/json; charset=utf-8").send(reference);
      },
    },
  });
  for (const set of routes) await app.register(async (scope) => set(scope as App));
  try {
    await app.listen({ host: slice.bind, port: slice.port });
  } catch (error) {
    await app.close();
    throw error;
  }

  return {
    server: app.server as Server,
    async close(deadlineMs) {
      closing = true;
      const deadline = setTimeout(() => {
        for (const socket of sockets.values()) socket.destroy();
      }, deadlineMs);
      await app.close();
      clearTimeout(deadline);
      for (const socket of sockets.values()) socket.destroy();
    },
  };
}

function nothing(): void {}

function wireOf(socket: Socket): string {
  const { remoteAddress, remotePort } = onTheWire(socket);
  return `${remoteAddress} ${remotePort}`;
}

/** Phones and operators prove themselves by tokens: the client CA is for host systems' listeners alone. */
function pairOf(certificates: Certificates): { cert: string; key: string; minVersion: "TLSv1.2" } {
  const { cert, key, minVersion } = certificates.current();
  return { cert, key, minVersion };
}

const MALFORMED: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
};

/** Bytes that are no HTTP get a bare answer; a connection that resets is a balancer's probe and leaves no trace. */
function refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (socket.writable && error.code !== "ECONNRESET") {
    const status = MALFORMED[error.code ?? ""] ?? "400 Bad Request";
    socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    return;
  }
  socket.destroy();
}
