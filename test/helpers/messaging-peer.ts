/** The server's side of client messaging and the emulator's stream, in memory: just enough for a phone to be tried against. */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AmcMessage } from "../../sdk/index.ts";

export type Answer = { readonly status: number; readonly body: object; readonly headers?: Record<string, string> };
type Fields = { readonly [name: string]: unknown };

export type MessagingPeer = {
  readonly url: string;
  /** Puts a page in the inbox. */
  waits(text: string, more?: Partial<AmcMessage>): AmcMessage;
  /** Sends a push to whoever listens on the stream. */
  pushes(): void;
  /** Every request: the operation, and its fields. */
  readonly calls: { readonly operation: string; readonly fields: Fields }[];
  readonly receipts: string[];
  /** The notification addresses that are listened for. */
  listening(): readonly (string | null)[];
  /** Answers the next calls of an operation otherwise. */
  answers(operation: string, answer: Answer): void;
  /** Ends every stream. */
  cutsStreams(): void;
  close(): Promise<void>;
};

const PAGES_AT_ONCE = 2;

export type PeerOptions = {
  /** False: an emulator that has no stream, only a list. */
  readonly streams?: boolean;
  /** Answers to anything else, by method and URL: `GET /api/v1/sites`. A function is asked each time. */
  readonly routes?: { readonly [route: string]: Answer | ((request: IncomingMessage) => Answer) };
};

export async function openMessagingPeer(options: PeerOptions = {}): Promise<MessagingPeer> {
  const inbox: AmcMessage[] = [];
  const calls: { operation: string; fields: Fields }[] = [];
  const receipts: string[] = [];
  const streams = new Map<ServerResponse, string | null>();
  const otherwise: { operation: string; answer: Answer }[] = [];
  let pushed = 0;

  function operate(operation: string, fields: Fields): Answer {
    const at = otherwise.findIndex((one) => one.operation === operation);
    const [planned] = at === -1 ? [] : otherwise.splice(at, 1);
    if (planned !== undefined) return planned.answer;
    if (operation === "Register") return success({ VendorId: randomUUID(), DeviceToken: `token-${randomUUID()}` });
    if (operation === "GetMessages") {
      for (const id of (fields.confirm ?? []) as string[]) {
        inbox.splice(0, inbox.length, ...inbox.filter((page) => page.UniqueId !== id));
      }
      return success({ Messages: inbox.slice(0, PAGES_AT_ONCE), More: inbox.length > PAGES_AT_ONCE });
    }
    for (const { uniqueId, status } of (fields.statuses ?? []) as { uniqueId: string; status: string }[]) {
      receipts.push(`${uniqueId} ${status}`);
    }
    return success({});
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://peer");
    if (url.pathname === "/pushes/stream" && options.streams !== false) {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("retry: 1000\n\n");
      streams.set(response, url.searchParams.get("token"));
      response.once("close", () => streams.delete(response));
      return;
    }
    const operation = /^\/ClientMessaging\/V2\/(\w+)$/.exec(url.pathname)?.[1];
    if (operation === undefined || request.method === "GET") {
      const items = pushed === 0 ? [] : [{ id: pushed }];
      const route =
        url.pathname === "/pushes"
          ? { status: 200, body: { items } }
          : options.routes?.[`${request.method} ${request.url}`];
      const answer = typeof route === "function" ? route(request) : (route ?? { status: 404, body: {} });
      response.writeHead(answer.status, answer.headers).end(JSON.stringify(answer.body));
      return;
    }
    const fields = JSON.parse(await read(request)) as Fields;
    calls.push({ operation, fields: { ...fields, authorization: request.headers.authorization } });
    const { status, headers, body } = operate(operation, fields);
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };

  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    receipts,
    listening: () => [...streams.values()],
    waits(text, more = {}) {
      const page: AmcMessage = {
        UniqueId: randomUUID(),
        Date: new Date().toISOString(),
        Text: text,
        Status: 0,
        SiteId: "",
        ConversationId: "",
        CallbackNumber: "",
        Priority: 2,
        MessageType: "",
        Assets: [],
        From: { Id: "1", Name: "Lab", ContactId: "" },
        ...more,
      };
      inbox.push(page);
      return page;
    },
    pushes() {
      pushed++;
      for (const stream of streams.keys())
        stream.write(`id: ${pushed}\ndata: ${JSON.stringify({ id: pushed, provider: "FCM" })}\n\n`);
    },
    answers: (operation, answer) => void otherwise.push({ operation, answer }),
    cutsStreams() {
      for (const stream of streams.keys()) stream.destroy();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function success(body: object): Answer {
  return { status: 200, body: { ResponseCode: 0, ResponseDescription: "Success", ...body } };
}

async function read(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  return text;
}
