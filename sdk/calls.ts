/**
 * One call, one answer: client messaging over HTTPS. Several servers are tried in turn, beginning with the one that answered last; each
 * has a deadline, and an answer a limit. What is no answer of a Tocsin server (a hot spot's page, half of one) is none.
 */
import { ServerRefused, Unreachable } from "./faults.ts";
import type {
  DoneAnswer,
  GetMessagesAnswer,
  GetMessagesBody,
  GetSettingsAnswer,
  RegisterAnswer,
  RegisterBody,
  ReplyAnswer,
  ReplyBody,
  SetStatusAnswer,
  SetStatusBody,
  SettingsBody,
  UpdateBody,
  VendorBody,
} from "./schema.ts";
import type { ServerTime } from "./server-time.ts";
import { within } from "./waiting.ts";

/** What each operation is asked with and answered with; `vendorId` is added. */
export type Operations = {
  Register: [RegisterBody, RegisterAnswer];
  GetMessages: [Omit<GetMessagesBody, "vendorId">, GetMessagesAnswer];
  SetStatus: [Omit<SetStatusBody, "vendorId">, SetStatusAnswer];
  Reply: [Omit<ReplyBody, "vendorId">, ReplyAnswer];
  GetSettings: [Omit<SettingsBody, "vendorId">, GetSettingsAnswer];
  UpdateNotificationAddress: [Omit<UpdateBody, "vendorId">, DoneAnswer];
  Unregister: [Omit<VendorBody, "vendorId">, DoneAnswer];
};

/** As much of `fetch` as is needed; a browser's, Node's or React Native's will do. */
export type Fetch = (
  url: string,
  request: {
    readonly method: "POST";
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string;
    readonly signal: AbortSignal;
  },
) => Promise<{
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body?: ReadableStream<Uint8Array> | null;
  text(): Promise<string>;
}>;

export type Identity = { readonly vendorId: string; readonly deviceToken: string };

export type Calls = {
  /** @throws Unreachable, ServerRefused */
  call<Operation extends keyof Operations>(
    operation: Operation,
    body: Operations[Operation][0],
    signal?: AbortSignal,
  ): Promise<Operations[Operation][1]>;
};

export type CallPorts = {
  readonly fetch: Fetch;
  /** Asked before every call; it may throw. */
  readonly servers: () => readonly string[];
  readonly identity: () => Identity | null;
  readonly time: ServerTime;
  readonly deadlineMs?: number | undefined;
};

const DEADLINE_MS = 10_000;
/** A hundred pages of 50,000 characters, each of which may take six bytes of JSON. */
const ANSWER_BYTES = 32 * 1024 * 1024;
/** No server silences a phone for longer. */
const RETRY_AFTER_MAX_MS = 120_000;

export function openCalls(ports: CallPorts): Calls {
  const { time, deadlineMs = DEADLINE_MS } = ports;
  let first = 0;

  async function ask(server: string, operation: keyof Operations, body: object, signal: AbortSignal): Promise<object> {
    const identity = operation === "Register" ? null : ports.identity();
    const sentMs = Date.now();
    const answer = await ports.fetch(`${server.replace(/\/+$/, "")}/ClientMessaging/V2/${operation}`, {
      method: "POST",
      headers: {
        accept: "application/json",
        "content-type": "application/json",
        ...(identity === null ? {} : { authorization: `Bearer ${identity.deviceToken}` }),
      },
      body: JSON.stringify(identity === null ? body : { vendorId: identity.vendorId, ...body }),
      signal,
    });
    const text = await readText(answer, operation);
    const fields = parse(text);
    const code = fields?.ResponseCode;
    if (typeof code === "number") time.heard(Date.parse(answer.headers.get("date") ?? "") + 500, sentMs);
    if (answer.status === 200 && fields !== null && code === 0) return fields;
    if (answer.status === 200 && typeof code !== "number") throw new Unreachable(operation, "EBADANSWER");
    throw new ServerRefused(operation, {
      httpStatus: answer.status,
      responseCode: typeof code === "number" ? code : null,
      description: typeof fields?.ResponseDescription === "string" ? fields.ResponseDescription : null,
      retryAfterMs: retryAfterMs(answer.headers.get("retry-after")),
    });
  }

  return {
    async call<Operation extends keyof Operations>(
      operation: Operation,
      body: Operations[Operation][0],
      signal?: AbortSignal,
    ) {
      const servers = ports.servers();
      let fault: Error = new Unreachable(operation, "ENOSERVER");
      for (let turn = 0; turn < servers.length; turn += 1) {
        const place = (first + turn) % servers.length;
        try {
          const answer = await within(
            deadlineMs,
            () => new Unreachable(operation, signal?.aborted ? "ABORTED" : "ETIMEDOUT"),
            (own) => ask(servers[place]!, operation, body, own),
            signal,
          );
          first = place;
          return answer as Operations[Operation][1];
        } catch (error) {
          // A refusal that says more is not hidden by a server that is not there.
          const named = error instanceof ServerRefused || error instanceof Unreachable;
          const now = named ? error : new Unreachable(operation, codeOf(error));
          if (!(fault instanceof ServerRefused) || now instanceof ServerRefused) fault = now;
          if (signal?.aborted) break;
          if (now instanceof ServerRefused && (now.final || now.unregistered)) break;
        }
      }
      throw fault;
    },
  };
}

/** In the order it came, up to the limit: an answer without end is none. */
async function readText(answer: Awaited<ReturnType<Fetch>>, operation: string): Promise<string> {
  const reader = answer.body?.getReader?.();
  if (reader === undefined) {
    const text = await answer.text();
    if (text.length > ANSWER_BYTES) throw new Unreachable(operation, "EMSGSIZE");
    return text;
  }
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.length;
    if (bytes > ANSWER_BYTES) {
      await reader.cancel().catch(() => {});
      throw new Unreachable(operation, "EMSGSIZE");
    }
    text += decoder.decode(value, { stream: true });
  }
}

function parse(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

/** Seconds, or a date. */
function retryAfterMs(header: string | null): number | null {
  if (header === null || header.trim() === "") return null;
  const ms = /^\s*\d+\s*$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS) : null;
}

/** A connection's own code, which Node's fetch keeps a level down. */
function codeOf(error: unknown): string {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: { code?: unknown } };
  if (typeof code === "string") return code;
  return typeof cause?.code === "string" ? cause.code : "ENETWORK";
}
