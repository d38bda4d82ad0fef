/** The record of what operators do: a line in the log for each call of the API that changed something, and whose key asked for it. */
import type { FastifyRequest } from "fastify";
import type { Log } from "../../log.ts";
import type { App } from "../http.ts";
import { keyNameOf } from "./authentication.ts";

/** `call`: method and route, as in docs/api/openapi.json. `about`: the id of what was changed, or was made; of a rule its site's, and its type. */
export function auditCalls(app: App, log: Log): void {
  // What a call has made has its id in the answer alone.
  const made = new WeakMap<FastifyRequest, string>();
  app.addHook("preSerialization", async (request, _reply, payload: unknown) => {
    const { id } = Object(payload) as { id?: unknown };
    if (typeof id === "string") made.set(request, id);
    return payload;
  });
  app.addHook("onResponse", async (request, reply) => {
    // What was refused may be called by any text at all.
    if (request.method === "GET" || request.method === "HEAD" || reply.statusCode >= 400) return;
    const named = Object.values(request.params as Record<string, string>).join(" ");
    const call = `${request.method} ${request.routeOptions.url}`;
    const [about, key, peer] = [named || (made.get(request) ?? null), keyNameOf(request), request.ip];
    log.info({ part: "audit", call, about, key, peer }, "an operator changed something");
  });
}
