/**
 * The emulator's plain HTTP side on loopback: the record of pushes, the fault script and the lock screen page.
 *
 *   GET /pushes[?token=&after=&limit=]   {items: [PushRecord]}      DELETE /pushes
 *   GET /pushes/stream[?token=]          server-sent events, one PushRecord each; resumes from Last-Event-ID
 *   GET /faults  POST /faults  DELETE /faults
 *   GET /                                the lock screen
 *
 * A browser's page elsewhere must not script faults: bodies must be declared JSON (so the browser asks first and is not
 * answered), and the Host must not be a name somebody else's DNS could point here.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { isIP } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { faultFields, type Log } from "../../log.ts";
import { parseObject, readBody } from "./body.ts";
import type { FaultScript } from "./faults.ts";
import { LOCK_SCREEN } from "./lock-screen.ts";
import type { RecordedPush, Recorder } from "./record.ts";
import { listen, type Service } from "./service.ts";

type Ports = { readonly log: Log; readonly faults: FaultScript; readonly record: Recorder };

const MAX_BODY_BYTES = 16_384;
const MAX_HEADER_BYTES = 8_192;
const MAX_CONNECTIONS = 500;
const MAX_STREAMS = 100;
/** A listener further behind than this is cut off; it resumes from its last event. */
const MAX_STREAM_LAG_BYTES = 1_048_576;
const READ_MS = 10_000;
const KEEP_ALIVE_MS = 15_000;
const ITEMS_A_WRITE = 500;

const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

type Handler = (request: IncomingMessage, response: ServerResponse, query: URLSearchParams) => void | Promise<void>;

export async function openRecordService(bind: string, port: number, ports: Ports): Promise<Service> {
  const { faults, record } = ports;
  let streams = 0;

  const routes: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
    "/pushes": {
      GET: async (_request, response, query) => {
        const limit = count(query.get("limit"), Number.MAX_SAFE_INTEGER);
        const found = record.list({ token: query.get("token"), after: count(query.get("after"), 0), limit });
        response.writeHead(200, { "content-type": "application/json" });
        await pipeline(Readable.from(listText(found)), response);
      },
      DELETE: (_request, response) => {
        record.clear();
        response.writeHead(204).end();
      },
    },
    "/pushes/stream": { GET: stream },
    "/faults": {
      GET: (_request, response) => reply(response, 200, { items: faults.list() }),
      POST: async (request, response) => {
        const body = await readBody(request, MAX_BODY_BYTES);
        if (body === null) response.shouldKeepAlive = false;
        if (body === null) return reply(response, 413, { error: `a fault is at most ${MAX_BODY_BYTES} bytes` });
        if (!/^application\/json\b/i.test(request.headers["content-type"] ?? "")) {
          return reply(response, 415, { error: "a fault is application/json" });
        }
        const refused = faults.add(parseObject(body));
        return refused === null
          ? reply(response, 201, { items: faults.list() })
          : reply(response, 400, { error: refused });
      },
      DELETE: (_request, response) => {
        faults.clear();
        response.writeHead(204).end();
      },
    },
    ...Object.fromEntries(
      LOCK_SCREEN.map(({ path, type, text }): [string, Record<string, Handler>] => [
        path,
        { GET: (_request, response) => void response.writeHead(200, { "content-type": type }).end(text) },
      ]),
    ),
  };

  function stream(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): void {
    if (streams >= MAX_STREAMS) {
      reply(response, 503, { error: `${MAX_STREAMS} streams are open already` });
      return;
    }
    streams += 1;
    const token = query.get("token");
    const send = (push: RecordedPush): void => {
      if (token !== null && push.token !== token) return;
      response.write(`id: ${push.id}\ndata: ${push.json}\n\n`);
      if (response.writableLength > MAX_STREAM_LAG_BYTES) response.destroy();
    };
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 1000\n\n");
    const seen = request.headers["last-event-id"];
    if (typeof seen === "string") {
      for (const push of record.list({ token, after: count(seen, 0), limit: Number.MAX_SAFE_INTEGER })) {
        if (!response.destroyed) send(push);
      }
    }
    const end = record.listen(send);
    const beat = setInterval(() => response.write(": \n\n"), KEEP_ALIVE_MS);
    response.once("close", () => {
      streams -= 1;
      clearInterval(beat);
      end();
    });
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    if (!isOurName(request.headers.host ?? "", bind))
      return reply(response, 421, { error: "not a name of this server" });
    const [path = "/", query = ""] = (request.url ?? "/").split("?", 2);
    const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (route === undefined) return reply(response, 404, { error: "no such page" });
    const method = request.method === "HEAD" ? "GET" : (request.method ?? "");
    const handler = Object.hasOwn(route, method) ? route[method] : undefined;
    if (handler === undefined) {
      response.setHeader("allow", Object.keys(route).join(", "));
      return reply(response, 405, { error: "not a method of this page" });
    }
    await handler(request, response, new URLSearchParams(query));
  }

  const limits = { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: READ_MS, requestTimeout: READ_MS };
  const server = createServer(limits, (request, response) => {
    serve(request, response).catch((fault: unknown) => {
      ports.log.debug(faultFields(fault), "emulator request broke off");
      response.destroy();
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  return {
    port: await listen(server, bind, port),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The list as text in pieces, so that a full record neither fills memory twice nor holds up the node. */
function* listText(pushes: readonly RecordedPush[]): Generator<string> {
  yield '{"items":[';
  for (let at = 0; at < pushes.length; at += ITEMS_A_WRITE) {
    const piece = pushes.slice(at, at + ITEMS_A_WRITE).map((push) => push.json);
    yield `${at === 0 ? "" : ","}${piece.join(",")}`;
  }
  yield "]}";
}

function count(text: string | null, otherwise: number): number {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : otherwise;
}

function isOurName(host: string, bind: string): boolean {
  const name = host.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  return name === "localhost" || name === bind || isIP(name) !== 0;
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
