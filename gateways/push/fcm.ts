/**
 * Android's push service by firebase-admin, one HTTP request a push. What the library hides is turned off or watched:
 * its own retries (up to four, sleeping inside the call) would keep the queue from deciding, its 15 s time-out is longer
 * than a page may wait, and an answer cut off halfway never settles its promise.
 *
 *   send ─► bearer token ─► POST ─┬─► answered ─► outcome
 *                                 ├─► 401: renew the token, once more
 *                                 ├─► connection closed first ─► retry
 *                                 └─► deadline ─► request destroyed ─► retry
 *
 * The caller bounds how many sends run at once.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readFileSync } from "node:fs";
import { ClientRequest } from "node:http";
import { Agent, type RequestOptions } from "node:https";
import { Socket } from "node:net";
import { deleteApp, FirebaseError, initializeApp } from "firebase-admin/app";
import { getMessaging, type Messaging } from "firebase-admin/messaging";
import type { Clock } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { CLOSED, CONNECTION_BROKEN, fcmOutcome, NO_ANSWER, readFcmAnswer } from "./outcome.ts";
import { androidMessage } from "./payload.ts";
import { type Push, type PushOutcome, type PushProvider, SLOTS } from "./provider.ts";
import { openTokenSource, readServiceAccount, TokenFault } from "./service-account.ts";

export type FcmSlice = {
  readonly serviceAccountFile: string;
  /** `https://host:port` dialled instead of Google, for messages and tokens alike; the server names stay Google's. */
  readonly url: string | null;
  /** PEM of the authority to trust instead of the public ones. */
  readonly caFile: string | null;
};
type Ports = { readonly log: Log; readonly clock: Clock };

const LIMITS = {
  deadlineMs: 10_000,
  tokenDeadlineMs: 5_000,
  // One a slot: with fewer, an urgent push would wait in the agent's queue behind those that hold them.
  connections: SLOTS.urgent + SLOTS.normal,
  idleMs: 30_000,
};

/** One send on its way: the request the library made for it, once it has. */
type Attempt = { request: ClientRequest | null; readonly broken: () => void };

/** @throws when the service account or the CA cannot be read. */
export function openFcm(slice: FcmSlice, ports: Ports, limits: Partial<typeof LIMITS> = {}): PushProvider {
  const { deadlineMs, tokenDeadlineMs, connections, idleMs } = { ...LIMITS, ...limits };
  const { clock } = ports;
  const log = ports.log.child({ provider: "FCM" });
  const account = readServiceAccount(slice.serviceAccountFile);
  const agent = openAgent(slice, connections, idleMs);
  const tokens = openTokenSource(account, agent, clock, tokenDeadlineMs);
  // A life of 0 s: the token source above decides how long a token is good, firebase-admin asks it at every send.
  const credential = { getAccessToken: async () => ({ access_token: await tokens.get(), expires_in: 0 }) };
  const options = { credential, projectId: account.projectId, httpAgent: agent };
  const app = initializeApp(options, `tocsin-${randomUUID()}`);
  const messaging = getMessaging(app);
  stopRetries(messaging);

  // The library hands out no request; Node announces each in the async context of the send it belongs to.
  const attempts = new AsyncLocalStorage<Attempt>();
  const onRequest = (event: unknown): void => {
    const attempt = attempts.getStore();
    const request = typeof event === "object" && event !== null ? Reflect.get(event, "request") : null;
    if (attempt === undefined || !(request instanceof ClientRequest) || !request.path.endsWith("/messages:send"))
      return;
    attempt.request = request;
    request.once("close", () => setImmediate(attempt.broken)); // a whole answer has been read by then
  };
  subscribe("http.client.request.created", onRequest);
  let closed = false;

  function tryOnce(push: Push, budgetMs: number): Promise<PushOutcome | "unauthenticated"> {
    return new Promise((resolve) => {
      const attempt: Attempt = { request: null, broken: () => settle(CONNECTION_BROKEN) };
      const timer = setTimeout(() => {
        settle(NO_ANSWER);
        attempt.request?.destroy();
      }, budgetMs);
      const settle = (outcome: PushOutcome | "unauthenticated") => {
        clearTimeout(timer);
        resolve(outcome);
      };
      attempts
        .run(attempt, async () => messaging.send(androidMessage(push, clock.wall())))
        .then(
          (name) => settle({ kind: "accepted", providerId: name }),
          (error: unknown) => settle(outcomeOfError(error, clock.wall())),
        );
    });
  }

  return {
    name: "FCM",
    async send(push) {
      if (closed) return CLOSED;
      const end = clock.monotonic() + deadlineMs;
      const first = await tryOnce(push, deadlineMs);
      if (first !== "unauthenticated") return first;
      log.warn({ push: push.id }, "access token was refused; getting another");
      try {
        await tokens.renew();
      } catch (fault) {
        return outcomeOfTokenFault(fault);
      }
      const second = await tryOnce(push, Math.max(1, end - clock.monotonic()));
      return second === "unauthenticated" ? { kind: "refused", code: "UNAUTHENTICATED", alarm: true } : second;
    },
    async close() {
      if (closed) return;
      closed = true;
      unsubscribe("http.client.request.created", onRequest);
      agent.destroy();
      await deleteApp(app).catch((error: unknown) => log.warn(faultFields(error), "firebase app did not close"));
    },
  };
}

function openAgent(slice: FcmSlice, connections: number, idleMs: number): Agent {
  const agent = new Agent({
    keepAlive: true,
    maxSockets: connections,
    maxFreeSockets: connections,
    // A connection idle for longer may have been forgotten by a firewall in between; a page must not find out.
    timeout: idleMs,
    minVersion: "TLSv1.2",
    ...(slice.caFile === null ? {} : { ca: readFileSync(slice.caFile) }),
  });
  const target = slice.url === null ? null : new URL(slice.url);
  const dial = agent.createConnection.bind(agent);
  agent.createConnection = (options: RequestOptions, callback) => {
    const elsewhere =
      target === null ? {} : { host: target.hostname.replace(/^\[|\]$/g, ""), port: target.port || 443 };
    const socket = dial({ ...options, ...elsewhere }, callback);
    if (socket instanceof Socket) socket.setNoDelay(true);
    return socket;
  };
  return agent;
}

/** firebase-admin has no option for this; `test/push-fcm.test.ts` fails if a new version moves what is reached for here. */
function stopRetries(messaging: Messaging): void {
  const handler: unknown = Reflect.get(messaging, "messagingRequestHandler");
  const client: unknown = isObject(handler) ? Reflect.get(handler, "httpClient") : null;
  if (!isObject(client) || !isObject(Reflect.get(client, "retry"))) {
    throw new Error("firebase-admin keeps its retry settings elsewhere than expected; see gateways/push/fcm.ts");
  }
  Reflect.set(client, "retry", undefined);
}

function outcomeOfError(error: unknown, now: number): PushOutcome | "unauthenticated" {
  if (!(error instanceof FirebaseError)) return { kind: "retry", afterMs: null, code: "unexpected-fault" };
  const { httpResponse, cause, code } = error;
  if (cause instanceof TokenFault) return outcomeOfTokenFault(cause);
  if (httpResponse !== undefined) {
    const retryAfter: unknown = httpResponse.headers["retry-after"];
    const answer = readFcmAnswer(httpResponse.status, httpResponse.data, retryAfter, now);
    return answer.status === 401 && answer.errorCode === null ? "unauthenticated" : fcmOutcome(answer);
  }
  // Without an answer, only the library's own look at the message can have objected.
  if (code.startsWith("messaging/")) return { kind: "refused", code: code.replace("messaging/", ""), alarm: true };
  return CONNECTION_BROKEN;
}

function outcomeOfTokenFault(fault: unknown): PushOutcome {
  if (!(fault instanceof TokenFault)) return { kind: "retry", afterMs: null, code: "unexpected-fault" };
  const { code } = fault;
  return fault.transient ? { kind: "retry", afterMs: null, code } : { kind: "refused", code, alarm: true };
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
