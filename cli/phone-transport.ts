/**
 * How `tocsin phone` reaches its server: trusting a CA of one's own, which a browser's `fetch` and `WebSocket` cannot be told to, and by a
 * connection of its own for each call, since a kept one may have died with the server that is being restarted.
 */
import { Readable } from "node:stream";
import { WebSocket } from "ws";
import { openRequest } from "../gateways/json-request.ts";
import type { Fetch, OpenSocket } from "../sdk/index.ts";

export type PhoneServer = { readonly url: string; readonly ca?: string | Buffer | undefined };

const FRAME_BYTES = 1024 * 1024;

export function fetchFrom(server: () => PhoneServer): Fetch {
  return (url, { method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const length = { "content-length": Buffer.byteLength(body) };
      const options = { method, ca: server().ca, agent: false, signal, headers: { ...headers, ...length } } as const;
      const request = openRequest(url, options);
      request.on("error", reject);
      request.on("response", (response) => {
        const stream = Readable.toWeb(response) as ReadableStream<Uint8Array>;
        resolve({
          status: response.statusCode ?? 0,
          headers: { get: (name) => response.headers[name]?.toString() ?? null },
          body: stream,
          text: () => new Response(stream).text(),
        });
      });
      request.end(body);
    });
}

export function socketFrom(server: () => PhoneServer): OpenSocket {
  return (url, protocols) =>
    new WebSocket(url, protocols, { ca: server().ca, perMessageDeflate: false, maxPayload: FRAME_BYTES });
}
