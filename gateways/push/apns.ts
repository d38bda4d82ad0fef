/**
 * Apple's push service over one HTTP/2 connection, by the package `apn` (the maintained @parse/node-apn). The library
 * connects and renews the provider token (signed by provider-token.ts); the answer is read off the stream here, because the library never
 * sees `Retry-After` (it looks for it in capitals), drops the status of some answers, and leaves a send unsettled when its
 * connection is cut after the request was written. Its own retries are off: the queue decides.
 *
 *   send ─► stream ─┬─► answered whole ─► outcome          500, 503: the next push opens a new connection
 *                   ├─► 403 ExpiredProviderToken ─► the library has a new token: once more
 *                   ├─► closed before the answer (cut, GOAWAY, refused) ─► retry
 *                   ├─► idle connection does not answer a PING in 3 s ─► connection destroyed ─► retry
 *                   └─► deadline ─► stream closed; connection destroyed if it was mute throughout ─► retry
 *
 * The caller bounds how many sends run at once.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readFileSync } from "node:fs";
import { type ClientHttp2Stream, constants, type Http2Session, type IncomingHttpHeaders } from "node:http2";
import { Notification, Provider } from "apn";
import type { Clock } from "../../domain.ts";
import type { Log } from "../../log.ts";
import { type ApnsAnswer, apnsOutcome, CLOSED, CONNECTION_BROKEN, NO_ANSWER, retryAfterMs } from "./outcome.ts";
import { appleNotification } from "./payload.ts";
import type { Push, PushOutcome, PushProvider } from "./provider.ts";
import { signByClock } from "./provider-token.ts";

export type ApnsSlice = {
  /** The `.p8` signing key. */
  readonly keyFile: string;
  readonly keyId: string;
  readonly teamId: string;
  /** The app's bundle id. */
  readonly topic: string;
  /** `https://host:port` instead of Apple's production service (the sandbox, an emulator). */
  readonly url: string | null;
  /** PEM of the authority to trust instead of the public ones. */
  readonly caFile: string | null;
  readonly silent: boolean;
};
type Ports = { readonly log: Log; readonly clock: Clock };

const LIMITS = { deadlineMs: 10_000, idleMs: 15_000, pingMs: 3_000, closeMs: 1_000 };
/** APNs answers in a hundred bytes. */
const MAX_ANSWER_CHARS = 4_096;

/** One send on its way. `started` is the monotonic ms at which its stream was opened. */
type Attempt = {
  started: number;
  stream: ClientHttp2Stream | null;
  session: Http2Session | null;
  readonly settle: (answer: ApnsAnswer | "broken" | "mute") => void;
};

/** @throws when the key or the CA cannot be read. */
export function openApns(slice: ApnsSlice, ports: Ports, limits: Partial<typeof LIMITS> = {}): PushProvider {
  const { deadlineMs, idleMs, pingMs, closeMs } = { ...LIMITS, ...limits };
  const { clock } = ports;
  const log = ports.log.child({ provider: "APNS" });
  const provider = new Provider({
    token: { key: slice.keyFile, keyId: slice.keyId, teamId: slice.teamId },
    production: true,
    connectionRetryLimit: 0,
    requestTimeout: deadlineMs * 2, // ours comes first
    ...(slice.caFile === null ? {} : { ca: [readFileSync(slice.caFile)] }),
    ...(slice.url === null ? {} : addressOf(slice.url)),
  });
  signByClock(provider, slice, clock);
  /** Monotonic ms at which each open session was last heard of. */
  const heard = new Map<Http2Session, number>();
  const attempts = new AsyncLocalStorage<Attempt>();
  let proven = false;
  let closed = false;

  /** Destroys a session that no longer answers: its pushes settle as broken and the next one connects anew. */
  function abandon(session: Http2Session): void {
    if (session.destroyed) return;
    log.warn({}, "connection is mute; abandoned");
    session.destroy();
  }

  function follow(session: Http2Session): void {
    const last = heard.get(session);
    const now = clock.monotonic();
    if (last === undefined) {
      heard.set(session, now);
      session.once("close", () => heard.delete(session));
    } else if (now - last > idleMs && !session.connecting && !session.destroyed) {
      // A firewall may have forgotten an idle connection. Ask, so that the push need not wait for its whole deadline.
      heard.set(session, now);
      const timer = setTimeout(() => abandon(session), pingMs);
      session.ping((error) => {
        clearTimeout(timer);
        if (error === null) heard.set(session, clock.monotonic());
      });
    }
  }

  // The library hands out no stream; Node announces each in the async context of the send it belongs to.
  const onStream = (event: unknown): void => {
    const attempt = attempts.getStore();
    const stream = (event as { readonly stream: ClientHttp2Stream }).stream;
    const session = stream.session;
    if (attempt === undefined || session === undefined) return;
    attempt.stream = stream;
    attempt.session = session;
    follow(session);
    attempt.started = clock.monotonic();
    let headers: IncomingHttpHeaders | null = null;
    let body = "";
    let whole = false;
    stream.once("response", (received) => {
      headers = received;
      heard.set(session, clock.monotonic());
    });
    stream.on("data", (chunk: string | Buffer) => {
      if (body.length < MAX_ANSWER_CHARS) body += chunk;
    });
    stream.once("end", () => {
      whole = true;
    });
    stream.on("error", () => {}); // told by "close"
    stream.once("close", () => {
      const answer = headers === null ? null : readAnswer(headers, body, clock.wall());
      // A 200 is an answer as soon as its head is there; any other needs its reason.
      attempt.settle(answer !== null && (whole || answer.status === 200) ? answer : "broken");
      if (answer?.status === 500 || answer?.status === 503) session.close();
    });
  };
  subscribe("http2.client.stream.created", onStream);

  function tryOnce(push: Push, budgetMs: number): Promise<ApnsAnswer | "broken" | "mute"> {
    return new Promise((resolve) => {
      const attempt: Attempt = {
        started: 0,
        stream: null,
        session: null,
        settle: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
      };
      const timer = setTimeout(() => {
        attempt.settle("mute");
        attempt.stream?.close(constants.NGHTTP2_CANCEL);
        const { session } = attempt;
        if (session !== null && (heard.get(session) ?? 0) <= attempt.started) abandon(session);
      }, budgetMs);
      const note = notificationOf(push, slice, clock.wall());
      const token = encodeURIComponent(push.notificationAddress);
      attempts
        .run(attempt, async () => provider.send(note, token))
        // With a stream, its "close" tells more; without one, no request was made.
        .then(undefined, () => {})
        .then(() => {
          if (attempt.stream === null) attempt.settle("broken");
        });
    });
  }

  return {
    name: "APNS",
    async send(push) {
      if (closed) return CLOSED;
      const end = clock.monotonic() + deadlineMs;
      let answer = await tryOnce(push, deadlineMs);
      if (typeof answer === "object" && answer.status === 403 && answer.reason === "ExpiredProviderToken") {
        log.warn({ push: push.id }, "provider token was called expired; renewed");
        answer = await tryOnce(push, Math.max(1, end - clock.monotonic()));
      }
      if (answer === "broken") return CONNECTION_BROKEN;
      if (answer === "mute") return NO_ANSWER;
      const outcome: PushOutcome = apnsOutcome(answer, proven);
      proven ||= outcome.kind === "accepted";
      return outcome;
    },
    async close() {
      if (closed) return;
      closed = true;
      unsubscribe("http2.client.stream.created", onStream);
      const gone = [...heard.keys()].map((session) => new Promise((resolve) => session.once("close", resolve)));
      provider.shutdown();
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise((resolve) => {
        timer = setTimeout(resolve, closeMs);
      });
      await Promise.race([Promise.all(gone), late]);
      clearTimeout(timer);
      for (const session of heard.keys()) session.destroy();
    },
  };
}

/** The library dials `https://<address>`, and its `port`, 443 unless told, goes before the one in the address. */
function addressOf(url: string): { address: string; port: number } {
  const { host, port } = new URL(url);
  return { address: host, port: Number(port || 443) };
}

function notificationOf(push: Push, slice: ApnsSlice, now: number): Notification {
  const apple = appleNotification(push, now, slice.silent);
  return new Notification({
    id: push.id,
    topic: slice.topic,
    pushType: apple.pushType,
    priority: apple.priority,
    collapseId: apple.collapseId,
    expiry: apple.expiration,
    rawPayload: apple.payload,
  });
}

function readAnswer(headers: IncomingHttpHeaders, body: string, now: number): ApnsAnswer {
  let fault: unknown = null;
  try {
    fault = JSON.parse(body);
  } catch {
    // An accepted push has no body; anything else without one is judged by its status.
  }
  const get = (name: string): unknown =>
    typeof fault === "object" && fault !== null ? Reflect.get(fault, name) : null;
  const reason = get("reason");
  const timestamp = get("timestamp");
  const apnsId = headers["apns-id"];
  return {
    status: Number(headers[":status"]),
    reason: typeof reason === "string" ? reason : null,
    timestamp: typeof timestamp === "number" ? timestamp : null,
    afterMs: retryAfterMs(headers["retry-after"], now),
    apnsId: typeof apnsId === "string" ? apnsId : null,
  };
}
