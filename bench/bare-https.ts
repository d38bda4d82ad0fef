/** A server with nothing behind it, a program of its own: see ceilings/https.ts. */
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import Fastify from "fastify";
import type { BareServerOrders, BareServerReport } from "./ceilings/https.ts";
import { benchPage } from "./load/document.ts";

/** As long as the server's answer to a phone for which one page waits. */
const { text } = benchPage({
  origin: "laboratory",
  trackingId: "bench-1-00000000",
  destination: "70000000",
  priority: "medium",
});
const ANSWER = JSON.stringify({
  ResponseType: "GetMessages",
  ResponseCode: 0,
  ResponseDescription: "Success",
  Messages: [
    {
      UniqueId: "11111111-2222-4333-8444-555555555555",
      Date: "2026-01-01T12:00:00.000Z",
      Text: text,
      Status: 0,
      SiteId: "1",
      ConversationId: "4711",
      CallbackNumber: null,
      Priority: 2,
      MessageType: "Message",
      From: { Id: "-17", Name: "Laboratory", ContactId: null },
    },
  ],
  More: false,
});

let served = 0;
const report = (what: BareServerReport) => void process.send?.(what);
process.once("disconnect", () => process.exit(0));
process.once("message", async ({ kind, certFile, keyFile }: BareServerOrders) => {
  const https = { cert: readFileSync(certFile), key: readFileSync(keyFile), noDelay: true };
  report({ port: kind === "https" ? await openBare(https) : await openFastify(https) });
  process.on("message", () => {
    const { user, system } = process.cpuUsage();
    report({ served, cpuSeconds: (user + system) / 1e6 });
  });
});

type Https = { readonly cert: Buffer; readonly key: Buffer; readonly noDelay: boolean };

async function openFastify(https: Https): Promise<number> {
  const app = Fastify({ https });
  app.post("/ClientMessaging/V2/GetMessages", async (_request, reply) => {
    served += 1;
    return reply.type("application/json").send(ANSWER);
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  return (app.server.address() as AddressInfo).port;
}

function openBare(https: Https): Promise<number> {
  const server = createServer(https, (request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      body += chunk;
    });
    request.on("end", () => {
      JSON.parse(body);
      served += 1;
      response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(ANSWER) });
      response.end(ANSWER);
    });
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)));
}
