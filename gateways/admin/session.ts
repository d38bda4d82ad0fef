/**
 * The first sign-in: a printed link leads to `/start#<token>`; the page there exchanges the token, once, for an API key
 * and shows it. The token stands in the fragment, which browsers send to nobody, and only a click spends it, so that a
 * program that follows links does not.
 */
import { createHash } from "node:crypto";
import { Type } from "@fastify/type-provider-typebox";
import { exchangeSignInToken } from "../../persistence/api-keys.ts";
import type { Database } from "../../persistence/database.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import type { Attempts } from "./authentication.ts";
import { answers, strict, Time } from "./schemas.ts";

const Token = strict({ token: Type.String({ minLength: 1, maxLength: 200 }) });
const Session = Type.Object({ apiKey: Type.String(), expiresAt: Time });

export function sessionRoutes(app: App, meta: Database, attempts: Attempts): void {
  app.post(
    "/api/v1/session",
    {
      schema: {
        tags: ["session"],
        summary: "Exchange a one-time sign-in token for an API key valid for 12 hours",
        body: Token,
        response: answers({ 200: Session }),
      },
    },
    async (request, reply) => {
      const refusal = new Problem(
        "invalid-token",
        "Ask the node for a new sign-in link; each is good once and for 30 minutes.",
      );
      const session = await attempts(request, () => exchangeSignInToken(meta, request.body.token), refusal);
      reply.header("cache-control", "no-store");
      return { apiKey: session.apiKey, expiresAt: session.expiresAt.toISOString() };
    },
  );

  app.get("/start", { schema: { hide: true } }, async (_request, reply) =>
    reply
      .headers({
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": POLICY,
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
      })
      .send(PAGE),
  );
}

const STYLE = `
:root { color-scheme: light dark; font: 1.05rem/1.5 system-ui, sans-serif; }
body { max-width: 40rem; margin: 12vh auto; padding: 0 1.25rem; }
button { font: inherit; padding: 0.5rem 1.25rem; min-height: 2.75rem; }
code { display: block; padding: 0.75rem; border: 1px solid; overflow-wrap: anywhere; user-select: all; }
[hidden] { display: none; }
`;

const SCRIPT = `
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const say = (text) => { document.getElementById("state").textContent = text; };
const button = document.getElementById("exchange");
if (token === "") {
  say("This page needs the whole sign-in link that the server printed at its start.");
  button.hidden = true;
}
button.addEventListener("click", async () => {
  button.disabled = true;
  say("Signing in\\u2026");
  try {
    const answer = await fetch("api/v1/session", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token }),
    });
    const body = await answer.json();
    if (!answer.ok) {
      say(body.title + ". " + body.detail);
      button.disabled = answer.status === 401;
      return;
    }
    button.hidden = true;
    say("This is your API key. It is shown only now and works until " + new Date(body.expiresAt).toLocaleString() + ".");
    document.getElementById("key").textContent = body.apiKey;
    document.getElementById("result").hidden = false;
  } catch {
    say("The server did not answer. The link is not spent; try again.");
    button.disabled = false;
  }
});
`;

const POLICY = [
  "default-src 'none'",
  `script-src '${digestOf(SCRIPT)}'`,
  `style-src '${digestOf(STYLE)}'`,
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tocsin: sign in</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Tocsin</h1>
<p id="state" role="status" aria-live="polite">Sign in with this one-time link. It works once, within 30 minutes of its making.</p>
<p><button id="exchange" type="button">Sign in</button></p>
<div id="result" hidden>
<code id="key"></code>
<p>Send it as <samp>Authorization: Bearer &lt;key&gt;</samp>. The API is described at <a href="docs">/docs</a>.</p>
</div>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;

function digestOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
