/**
 * Apple's side: `POST /3/device/<token>` over HTTP/2 and TLS, with Apple's checks in Apple's words ("Sending notification
 * requests to APNs"). Every device token is taken unless a fault is scripted for it.
 */
import { randomUUID } from "node:crypto";
import {
  constants,
  createSecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { faultFields } from "../../log.ts";
import { isRecord, parseObject, readBody } from "./body.ts";
import type { EmulatorCredentials } from "./credentials.ts";
import type { Fault } from "./faults.ts";
import { type Jwt, proveJwt } from "./jwt.ts";
import { listen, type Service, type ServicePorts } from "./service.ts";

const MAX_PAYLOAD_BYTES = 4096;
const MAX_HEADER_BYTES = 8192;
const MAX_CONNECTIONS = 1000;
const READ_MS = 10_000;
/** How long a silent fault holds a request. */
const SILENCE_MS = 60_000;
const PROVIDER_TOKEN_LIFE_S = 3600;
const CLOCK_LEEWAY_S = 300;
/** Provider tokens a fault called expired, the last of them. */
const MAX_REVOKED = 100;

const PUSH_TYPES = new Set(
  "alert background voip location complication fileprovider mdm liveactivity pushtotalk widgets controls".split(" "),
);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** The status of each reason; every other is 400. */
const STATUS: Readonly<Record<string, number>> = {
  BadCertificate: 403,
  BadCertificateEnvironment: 403,
  BadEnvironmentKeyInToken: 403,
  ExpiredProviderToken: 403,
  Forbidden: 403,
  InvalidProviderToken: 403,
  MissingProviderToken: 403,
  UnrelatedKeyIdInToken: 403,
  BadPath: 404,
  MethodNotAllowed: 405,
  ExpiredToken: 410,
  Unregistered: 410,
  PayloadTooLarge: 413,
  TooManyProviderTokenUpdates: 429,
  TooManyRequests: 429,
  InternalServerError: 500,
  ServiceUnavailable: 503,
  Shutdown: 503,
};

export async function openApnsService(bind: string, ports: ServicePorts): Promise<Service> {
  const { clock, credentials, faults, record } = ports;
  const revoked = new Set<string>();
  let last: { readonly token: string; readonly jwt: Jwt | null } | null = null;
  const server = createSecureServer({
    ...credentials.server,
    minVersion: "TLSv1.2",
    settings: { maxConcurrentStreams: 1000, maxHeaderListSize: MAX_HEADER_BYTES, enablePush: false },
  });
  server.maxConnections = MAX_CONNECTIONS;
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.on("error", () => {}); // a client that left
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    stream.setTimeout(SILENCE_MS + READ_MS, () => stream.close(constants.NGHTTP2_CANCEL));
    serve(stream, headers).catch((fault: unknown) => {
      ports.log.debug(faultFields(fault), "APNs request broke off");
      stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    });
  });

  async function serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const given = headers["apns-id"];
    const id = typeof given === "string" && UUID.test(given) ? given.toUpperCase() : randomUUID().toUpperCase();
    const body = await readBody(stream, MAX_PAYLOAD_BYTES);
    const token = deviceToken(headers[":path"] ?? "");
    const fault = token === null ? null : faults.meet("APNS", token);
    if (fault !== null && (await meet(stream, headers, id, fault))) return;
    const reason =
      refusal(headers, token) ?? authorization(headers) ?? wrongHeader(headers, credentials) ?? wrongBody(body);
    if (reason !== null) return refuse(stream, id, reason, {});
    record.add({
      provider: "APNS",
      token: token ?? "",
      headers: appleHeaders(headers),
      payload: (body === null ? null : parseObject(body)) ?? {},
      at: new Date(clock.wall()).toISOString(),
    });
    answer(stream, { ":status": 200, "apns-id": id });
  }

  /** True when the fault took the place of the answer. */
  async function meet(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    id: string,
    fault: Fault,
  ): Promise<boolean> {
    if (fault.delayMs !== undefined) await sleep(fault.delayMs);
    if (stream.destroyed) return true;
    const { session } = stream;
    switch (fault.action ?? "answer") {
      case "cut":
        session?.destroy();
        return true;
      case "silent":
        setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), SILENCE_MS).unref();
        return true;
      case "goaway":
        // Tells the client that this very stream and all after it were not looked at.
        session?.goaway(
          constants.NGHTTP2_NO_ERROR,
          Math.max(0, (stream.id ?? 1) - 2),
          Buffer.from('{"reason":"Shutdown"}'),
        );
        session?.close();
        stream.close(constants.NGHTTP2_REFUSED_STREAM);
        return true;
      case "answer": {
        if (fault.reason === undefined && fault.status === undefined) return false;
        if (fault.reason === "ExpiredProviderToken") revoke(headers.authorization ?? "");
        refuse(stream, id, fault.reason ?? "", fault);
        return true;
      }
    }
  }

  /** A token once called expired stays so: only a new one helps. */
  function revoke(authorization: string): void {
    revoked.add(authorization);
    if (revoked.size > MAX_REVOKED) revoked.delete([...revoked][0] ?? "");
  }

  function refuse(stream: ServerHttp2Stream, id: string, reason: string, fault: Partial<Fault>): void {
    const status = fault.status ?? STATUS[reason] ?? 400;
    const retry = fault.retryAfter === undefined ? {} : { "retry-after": String(fault.retryAfter) };
    const head = { ":status": status, "apns-id": id, "content-type": "application/json", ...retry };
    const died = status === 410 ? { timestamp: fault.timestamp ?? clock.wall() } : {};
    answer(stream, head, reason === "" ? undefined : JSON.stringify({ reason, ...died }));
  }

  function authorization(headers: IncomingHttpHeaders): string | null {
    const [scheme, token, ...more] = (headers.authorization ?? "").split(" ");
    if (scheme?.toLowerCase() !== "bearer" || token === undefined || more.length > 0) return "MissingProviderToken";
    // A client signs a token once and sends it with every push.
    if (last?.token !== token) last = { token, jwt: proveJwt(token, "ES256", credentials.apple.publicKey) };
    const { jwt } = last;
    const { apnsKeyId, apnsTeamId } = credentials.client;
    if (jwt === null || jwt.header.kid !== apnsKeyId || jwt.claims.iss !== apnsTeamId) return "InvalidProviderToken";
    const { iat } = jwt.claims;
    if (typeof iat !== "number") return "InvalidProviderToken";
    const age_s = clock.wall() / 1000 - iat;
    if (age_s < -CLOCK_LEEWAY_S) return "InvalidProviderToken";
    return age_s > PROVIDER_TOKEN_LIFE_S || revoked.has(headers.authorization ?? "") ? "ExpiredProviderToken" : null;
  }

  const port = await listen(server, bind, 0);
  return {
    port,
    async close() {
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function deviceToken(path: string): string | null {
  const found = /^\/3\/device\/([^/?#]*)$/.exec(path)?.[1];
  try {
    return found === undefined ? null : decodeURIComponent(found);
  } catch {
    return null;
  }
}

function refusal(headers: IncomingHttpHeaders, token: string | null): string | null {
  if (token === null) return "BadPath";
  if (headers[":method"] !== "POST") return "MethodNotAllowed";
  return token === "" ? "MissingDeviceToken" : null;
}

function wrongHeader(headers: IncomingHttpHeaders, credentials: EmulatorCredentials): string | null {
  const text = (name: string): string | null => {
    const value = headers[name];
    return typeof value === "string" ? value : null;
  };
  const topic = text("apns-topic");
  if (topic === null) return "MissingTopic";
  if (topic !== credentials.client.apnsTopic) return "TopicDisallowed";
  const type = text("apns-push-type");
  if (type !== null && !PUSH_TYPES.has(type)) return "InvalidPushType";
  const priority = text("apns-priority") ?? "10";
  if (!["10", "5", "1"].includes(priority) || (type === "background" && priority !== "5")) return "BadPriority";
  const id = text("apns-id");
  if (id !== null && !UUID.test(id)) return "BadMessageId";
  if (Buffer.byteLength(text("apns-collapse-id") ?? "") > 64) return "BadCollapseId";
  return /^\d{1,12}$/.test(text("apns-expiration") ?? "0") ? null : "BadExpirationDate";
}

function wrongBody(body: Buffer | null): string | null {
  if (body === null) return "PayloadTooLarge";
  // Apple has no word of its own for a body that is no notification.
  return isRecord(parseObject(body)?.aps) ? null : "PayloadEmpty";
}

function appleHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const apple = Object.entries(headers).filter(([name]) => name.startsWith("apns-"));
  return Object.fromEntries(apple.map(([name, value]) => [name, String(value)]));
}

function answer(stream: ServerHttp2Stream, head: Record<string, string | number>, body?: string): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond(head);
  stream.end(body);
  stream.resume(); // whatever of the request was left unread
}
