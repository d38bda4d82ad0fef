/** Small HTTP requests with a deadline, a limit on the answer, and a CA of one's own. */
import { type ClientRequest, type IncomingMessage, type RequestOptions, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

export type JsonRequest = {
  readonly method: "GET" | "POST" | "DELETE";
  readonly url: string;
  readonly bearer?: string | null;
  readonly body?: object;
  readonly ca?: string | Buffer | undefined;
  /** Whatever certificate the server shows: it is known otherwise. */
  readonly anyServer?: boolean;
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
    const request = openRequest(options.url, {
      method: options.method,
      ca: options.ca,
      rejectUnauthorized: options.anyServer !== true,
      // A connection of its own: a kept one may have died with the server that is being restarted.
      agent: false,
      headers: {
        accept: "application/json",
        ...(options.bearer ? { authorization: `Bearer ${options.bearer}` } : {}),
        ...(text === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
      },
    });
    const timer = setTimeout(() => request.destroy(codedError("ETIMEDOUT")), deadlineMs);
    request.on("close", () => clearTimeout(timer));
    request.on("error", reject);
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES) request.destroy(codedError("EMSGSIZE"));
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

type Options = RequestOptions & { ca?: string | Buffer | undefined; rejectUnauthorized?: boolean };

export function openRequest(url: string, options: Options): ClientRequest {
  return url.startsWith("https:") ? requestHttps(url, options) : requestHttp(url, options);
}

function parse(text: string): unknown {
  try {
    return text === "" ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

export function codedError(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code });
}
