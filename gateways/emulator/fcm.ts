/**
 * Google's side over HTTPS: the OAuth token endpoint (`POST /token`) and FCM HTTP v1
 * (`POST /v1/projects/<project>/messages:send`), with FCM's checks and error bodies. Every registration token is taken
 * unless a fault is scripted for it.
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { faultFields } from "../../log.ts";
import { isRecord, parseObject, readBody } from "./body.ts";
import { TOKEN_URI } from "./credentials.ts";
import type { Fault } from "./faults.ts";
import { wrongMessage } from "./fcm-message.ts";
import { proveJwt } from "./jwt.ts";
import { listen, type Service, type ServicePorts } from "./service.ts";

const MAX_BODY_BYTES = 65_536;
const MAX_HEADER_BYTES = 16_384;
const MAX_CONNECTIONS = 1000;
const READ_MS = 10_000;
const IDLE_MS = 60_000;
const SILENCE_MS = 60_000;
const ACCESS_TOKEN_LIFE_S = 3599;
const MAX_ASSERTION_LIFE_S = 3600;
const CLOCK_LEEWAY_S = 300;
const MAX_ACCESS_TOKENS = 10_000;
const SCOPES = ["https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"];
const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/** HTTP status and canonical status of each error code; UNAUTHENTICATED and PERMISSION_DENIED come from in front of FCM. */
const CODES: Readonly<Record<string, readonly [number, string]>> = {
  INVALID_ARGUMENT: [400, "INVALID_ARGUMENT"],
  UNAUTHENTICATED: [401, "UNAUTHENTICATED"],
  THIRD_PARTY_AUTH_ERROR: [401, "UNAUTHENTICATED"],
  PERMISSION_DENIED: [403, "PERMISSION_DENIED"],
  SENDER_ID_MISMATCH: [403, "PERMISSION_DENIED"],
  UNREGISTERED: [404, "NOT_FOUND"],
  QUOTA_EXCEEDED: [429, "RESOURCE_EXHAUSTED"],
  INTERNAL: [500, "INTERNAL"],
  UNSPECIFIED_ERROR: [500, "UNKNOWN"],
  UNAVAILABLE: [503, "UNAVAILABLE"],
};
const WITHOUT_DETAIL = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED"]);

type Refusal = { readonly code: string; readonly message: string; readonly field?: string };

export async function openFcmService(bind: string, ports: ServicePorts): Promise<Service> {
  const { clock, credentials, faults, record } = ports;
  const { google } = credentials;
  /** Access tokens given out, each with the ms since 1970 at which it ends. */
  const granted = new Map<string, number>();
  const sendPath = `/v1/projects/${google.projectId}/messages:send`;
  const limits = { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: READ_MS, requestTimeout: READ_MS };
  const server = createServer({ ...credentials.server, minVersion: "TLSv1.2", ...limits, keepAliveTimeout: IDLE_MS });
  server.maxConnections = MAX_CONNECTIONS;
  server.on("request", (request, response) => {
    serve(request, response).catch((fault: unknown) => {
      ports.log.debug(faultFields(fault), "FCM request broke off");
      request.socket.destroy();
    });
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request, MAX_BODY_BYTES);
    if (body === null) response.shouldKeepAlive = false;
    if (request.url === "/token") return serveToken(request, response, body);
    if (!/^\/v1\/projects\/[^/]+\/messages:send$/.test(request.url ?? "") || request.method !== "POST") {
      return reply(response, 404, { error: { code: 404, message: "Not found.", status: "NOT_FOUND" } });
    }
    return serveMessage(request, response, body);
  }

  async function serveMessage(request: IncomingMessage, response: ServerResponse, body: Buffer | null): Promise<void> {
    const json = body === null ? null : parseObject(body);
    const message = isRecord(json?.message) ? json.message : {};
    const token = typeof message.token === "string" ? message.token : "";
    const fault = faults.meet("FCM", token);
    if (fault !== null && (await meet(request, response, fault))) return;
    const refusal = unauthorised(request) ?? wrongRequest(request, json) ?? wrongMessage(message);
    if (refusal !== null) return refuse(response, refusal, {});
    const micros = `${clock.wall()}${randomBytes(2).readUInt16BE().toString().padStart(5, "0").slice(-3)}`;
    if (json?.validate_only !== true) {
      const { token: _token, android, ...payload } = message;
      record.add({
        provider: "FCM",
        token,
        headers: Object.fromEntries(Object.entries(isRecord(android) ? android : {}).map(([k, v]) => [k, String(v)])),
        payload,
        at: new Date(clock.wall()).toISOString(),
      });
    }
    reply(response, 200, {
      name: `projects/${google.projectId}/messages/0:${micros}%${randomBytes(8).toString("hex")}`,
    });
  }

  async function serveToken(request: IncomingMessage, response: ServerResponse, body: Buffer | null): Promise<void> {
    const fault = faults.meet("OAUTH", "");
    if (fault !== null && (await meetSilence(request, fault))) return;
    const scripted = fault?.reason ?? (fault?.status === undefined ? null : "internal_failure");
    const refused = scripted ?? wrongAssertion(new URLSearchParams(body?.toString() ?? ""));
    if (refused !== null)
      return reply(response, fault?.status ?? 400, { error: refused, error_description: "Refused." });
    const token = `ya29.${randomBytes(48).toString("base64url")}`;
    granted.set(token, clock.wall() + ACCESS_TOKEN_LIFE_S * 1000);
    if (granted.size > MAX_ACCESS_TOKENS) granted.delete([...granted.keys()][0] ?? "");
    reply(response, 200, { access_token: token, expires_in: ACCESS_TOKEN_LIFE_S, token_type: "Bearer" });
  }

  /** RFC 7523 section 3, Google's limits: the error word, or null. */
  function wrongAssertion(form: URLSearchParams): string | null {
    if (form.get("grant_type") !== GRANT_TYPE) return "unsupported_grant_type";
    const jwt = proveJwt(form.get("assertion") ?? "", "RS256", google.publicKey);
    if (jwt === null) return "invalid_grant";
    const { iss, aud, scope, iat, exp } = jwt.claims;
    if (iss !== google.clientEmail || aud !== TOKEN_URI) return "invalid_grant";
    if (typeof iat !== "number" || typeof exp !== "number" || exp - iat > MAX_ASSERTION_LIFE_S) return "invalid_grant";
    const now_s = clock.wall() / 1000;
    if (now_s >= exp || iat > now_s + CLOCK_LEEWAY_S) return "invalid_grant";
    const asked = typeof scope === "string" ? scope.split(" ") : [];
    return SCOPES.some((one) => asked.includes(one)) ? null : "invalid_scope";
  }

  function unauthorised(request: IncomingMessage): Refusal | null {
    const until = granted.get(bearer(request));
    if (until !== undefined && until > clock.wall()) return null;
    return { code: "UNAUTHENTICATED", message: "Request had invalid authentication credentials." };
  }

  function wrongRequest(request: IncomingMessage, json: Readonly<Record<string, unknown>> | null): Refusal | null {
    if (request.url !== sendPath) return { code: "PERMISSION_DENIED", message: "Permission denied on the project." };
    if (!/^application\/json\b/i.test(request.headers["content-type"] ?? "") || !isRecord(json?.message)) {
      return { code: "INVALID_ARGUMENT", message: "Invalid JSON payload received." };
    }
    const strange = Object.keys(json).find((name) => name !== "message" && name !== "validate_only");
    return strange === undefined ? null : { code: "INVALID_ARGUMENT", message: "Unknown name.", field: strange };
  }

  /** True when the fault took the place of the answer. */
  async function meet(request: IncomingMessage, response: ServerResponse, fault: Fault): Promise<boolean> {
    if (await meetSilence(request, fault)) return true;
    if (fault.reason === undefined && fault.status === undefined) return false;
    // A token once disowned stays so: only a new one helps.
    if (fault.reason === "UNAUTHENTICATED") granted.delete(bearer(request));
    const field = fault.field === undefined ? {} : { field: fault.field };
    refuse(response, { code: fault.reason ?? "", message: "Scripted.", ...field }, fault);
    return true;
  }

  const port = await listen(server, bind, 0);
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Waits as told; true when nothing more is to be answered. */
async function meetSilence(request: IncomingMessage, fault: Fault): Promise<boolean> {
  if (fault.delayMs !== undefined) await sleep(fault.delayMs);
  if (fault.action === "cut") request.socket.destroy();
  if (fault.action === "silent") setTimeout(() => request.socket.destroy(), SILENCE_MS).unref();
  return fault.action === "cut" || fault.action === "silent" || request.socket.destroyed;
}

/** A fault with a status and no reason is answered as a proxy in front of Google would: without FCM's body. */
function refuse(response: ServerResponse, refusal: Refusal, fault: Partial<Fault>): void {
  const [usual, canonical] = CODES[refusal.code] ?? [400, "UNKNOWN"];
  const status = fault.status ?? usual;
  if (fault.retryAfter !== undefined) response.setHeader("retry-after", String(fault.retryAfter));
  if (refusal.code === "") {
    response.writeHead(status, { "content-type": "text/html" }).end("<!doctype html><title>Error</title>");
    return;
  }
  const details: object[] = [];
  if (!WITHOUT_DETAIL.has(refusal.code)) {
    details.push({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode: refusal.code });
  }
  if (refusal.field !== undefined) {
    const fieldViolations = [{ field: refusal.field, description: refusal.message }];
    details.push({ "@type": "type.googleapis.com/google.rpc.BadRequest", fieldViolations });
  }
  reply(response, status, { error: { code: status, message: refusal.message, status: canonical, details } });
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json; charset=UTF-8" }).end(JSON.stringify(body));
}

function bearer(request: IncomingMessage): string {
  return /^Bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
}
