/**
 * Web pages that call as phones do. A browser asks first whether a page of another origin may (CORS, Fetch standard 3.3), and lets it read
 * only what it was told; with a WebSocket it asks nothing, and names the page's origin. What proves a phone is its token, never what a
 * browser adds by itself, so this list keeps nobody out who has one: it is by which pages of which servers people are to be paged.
 *
 *   preflight ─► listed: 204, before anybody asks who calls       else: 404, and the browser makes no call
 *   call      ─► listed: the answer may be read                   else: it may not
 *   stream    ─► listed, of this server itself, or no page's      else: 403
 */
import type { FastifyRequest } from "fastify";
import type { App } from "../http.ts";

export type WebPages = {
  /** For all routes of this scope. */
  mayCall(app: App): void;
  /** A page of this server's own address, and a program that says it is one (React Native, Starscream), is listed nowhere. */
  mayListen(request: FastifyRequest): boolean;
};

/** What phones read of an answer besides its body. */
const READ = "Date, Retry-After";
const SENT = "Authorization, Content-Type";
/** How long a browser may keep a preflight's answer: Chromium keeps none for longer. */
const REMEMBERED_SECONDS = 7_200;

/**
 * @param origins exact, as browsers write them
 * @param urls what phones are told to call: a balancer may say another Host than it was called by
 */
export function openWebPages(origins: readonly string[], urls: () => readonly string[]): WebPages {
  const listed = new Set(origins);
  const isListed = ({ origin }: FastifyRequest["headers"]) => origin !== undefined && listed.has(origin);

  return {
    mayCall(app) {
      if (listed.size === 0) return;
      app.addHook("onRequest", (request, reply, done) => {
        const { method, headers } = request;
        const isPreflight = method === "OPTIONS" && headers["access-control-request-method"] !== undefined;
        if (!isPreflight || !isListed(headers)) return done();
        void reply
          .code(204)
          .header("access-control-allow-methods", "POST")
          .header("access-control-allow-headers", SENT)
          .header("access-control-max-age", String(REMEMBERED_SECONDS))
          .send();
      });
      // Of refusals too, whoever refuses: a phone has to read how long it is to wait.
      app.addHook("onSend", (request, reply, _payload, done) => {
        void reply.header("vary", "Origin");
        if (isListed(request.headers))
          void reply
            .header("access-control-allow-origin", request.headers.origin)
            .header("access-control-expose-headers", READ);
        done();
      });
    },
    mayListen({ headers }) {
      const { origin, host } = headers;
      if (origin === undefined || listed.has(origin)) return true;
      const from = hostOf(origin);
      return from !== null && (from === host?.toLowerCase() || urls().some((url) => hostOf(url) === from));
    },
  };
}

/** With its port, where that is not its scheme's own. */
function hostOf(url: string): string | null {
  return URL.parse(url)?.host || null;
}
