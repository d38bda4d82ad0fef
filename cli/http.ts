/** Small HTTP requests with a deadline, a limit on the answer, and a CA of one's own; and server-sent events. */
import { type IncomingMessage, type RequestOptions, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

export type JsonRequest = {
  readonly method: "GET" | "POST" | "DELETE";
  readonly url: string;
  readonly bearer?: string | null;
  readonly body?: object;
  readonly ca?: string | Buffer | undefined;
  readonly deadlineMs?: number;
};
/** `body` is null where there was none, or it was not JSON. */
export type JsonAnswer = {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
};

const DEADLINE_MS = 10_000;
/** A hundred pages of 50,000 characters, each of which may take six bytes of JSON. */
const ANSWER_BYTES = 32 * 1024 * 1024;

/** Rejects with the connection's own error, or ETIMEDOUT after the deadline; any HTTP status is an answer. */
export async function requestJson(options: JsonRequest): Promise<JsonAnswer> {
  const text = options.body === undefined ? null : JSON.stringify(options.body);
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS;
  return await new Promise<JsonAnswer>((resolve, reject) => {
    const request = open(options.url, {
      method: options.method,
      ca: options.ca,
      // A connection of its own: a kept one may have died with the server that is being restarted.
      agent: false,
      headers: {
        accept: "application/json",
        ...(options.bearer ? { authorization: `Bearer ${options.bearer}` } : {}),
        ...(text === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
      },
    });
    const timer = setTimeout(() => request.destroy(coded("ETIMEDOUT")), deadlineMs);
    request.on("close", () => clearTimeout(timer));
    request.on("error", reject);
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES) request.destroy(coded("EMSGSIZE"));
        else chunks.push(chunk);
      });
      response.on("error", reject);
      response.on("end", () => {
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: parse(Buffer.concat(chunks).toString("utf8")),
        });
      });
    });
    request.end(text ?? undefined);
  });
}

export type EventStream = {
  readonly url: string;
  readonly signal: AbortSignal;
  onOpen(): void;
  /** One `data` field, its lines joined. */
  onData(data: string): void;
};

/** Nothing, not even a comment, came for so long: the stream is taken for dead. */
const SILENCE_MS = 60_000;
const EVENT_CHARACTERS = 1024 * 1024;

/** Reads a stream of server-sent events to its end. Rejects when it cannot be had; `status` is then 0 or not 200. */
export async function readEvents(stream: EventStream): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    if (stream.signal.aborted) return resolve();
    const request = open(stream.url, { headers: { accept: "text/event-stream" }, signal: stream.signal });
    request.setTimeout(SILENCE_MS, () => request.destroy(coded("ETIMEDOUT")));
    request.on("error", (error) => (stream.signal.aborted ? resolve() : reject(error)));
    request.on("response", (response) => {
      if (response.statusCode !== 200) {
        request.destroy(Object.assign(coded("ENOTSUP"), { status: response.statusCode }));
        return;
      }
      stream.onOpen();
      let kept = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        kept += text.replaceAll("\r", "");
        const events = kept.split("\n\n");
        kept = events.pop() ?? "";
        if (kept.length > EVENT_CHARACTERS) request.destroy(coded("EMSGSIZE"));
        for (const event of events) {
          const data = event.split("\n").flatMap((line) => /^data: ?(.*)$/.exec(line)?.[1] ?? []);
          if (data.length > 0) stream.onData(data.join("\n"));
        }
      });
      response.on("error", (error) => (stream.signal.aborted ? resolve() : reject(error)));
      response.on("end", resolve);
    });
    request.end();
  });
}

function open(url: string, options: RequestOptions & { ca?: string | Buffer | undefined }) {
  return url.startsWith("https:") ? requestHttps(url, options) : requestHttp(url, options);
}

function parse(text: string): unknown {
  try {
    return text === "" ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

function coded(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}
