/**
 * A server that one phone listens to, in memory: pages and notices by calls and by the stream, numbered, resumed and confirmed as the real one
 * does it, and whatever a test wants it to do wrong.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type WebSocket, WebSocketServer } from "ws";
import type { AmcMessage, Notice } from "../../sdk/index.ts";

type Fields = Readonly<Record<string, unknown>>;
export type Handler = (request: IncomingMessage, response: ServerResponse, fields: Fields) => void;

export type StreamPeer = {
  readonly url: string;
  readonly port: number;
  /** Puts a page into the inbox, and on the stream. */
  pages(text: string, more?: Partial<AmcMessage>): AmcMessage;
  /** Into the inbox alone: as where its hint was lost. */
  waits(text: string): AmcMessage;
  notices(kind: Notice["Kind"], page: AmcMessage): Notice;
  /** Not confirmed yet. */
  waiting(): readonly string[];
  readonly calls: { readonly operation: string; readonly fields: Fields }[];
  /** What was said by calls and frames, each time: `READ <uniqueId>`, `REPLY <text>`. */
  readonly said: { readonly what: string; readonly clientId: string; readonly at: string; readonly by: string }[];
  /** Frames of the phone's, in order. */
  readonly frames: { readonly type: string; readonly data: Fields }[];
  streams(): number;
  /** Sends any text to the stream. */
  sends(text: string): void;
  frame(type: string, data: object): void;
  closes(code: number): void;
  /** Resets the connections of the stream. */
  cuts(): void;
  /** From now on each call is answered by this, or as usual again. */
  answers(handler: Handler | null): void;
  /** As usual. */
  readonly operates: Handler;
  /** Whether streams are taken, and phones' frames answered with a result. */
  takesStreams: boolean;
  givesResults: boolean;
  /** Its clock. */
  aheadMs: number;
  close(): Promise<void>;
};

const operationOf = ({ url = "" }: IncomingMessage) => /^\/ClientMessaging\/V2\/(\w+)$/.exec(url)?.[1] ?? "";

export async function openStreamPeer(): Promise<StreamPeer> {
  const inbox = new Map<string, AmcMessage | Notice>();
  const sentAs = new Map<string, number>();
  const calls: { operation: string; fields: Fields }[] = [];
  const said: { what: string; clientId: string; at: string; by: string }[] = [];
  const frames: { type: string; data: Fields }[] = [];
  let handler: Handler | null = null;
  let stream: { readonly socket: WebSocket; resumed: boolean } | null = null;
  let epoch = randomUUID() as string;
  let seq = 0;
  const date = () => new Date(Date.now() + peer.aheadMs).toISOString();

  const isPage = (one: AmcMessage | Notice): one is AmcMessage => !("NoticeId" in one);
  const confirm = (ids: readonly unknown[]) => ids.map((id) => inbox.delete(String(id)));

  function operate(operation: string, fields: Fields): object {
    if (operation === "Register") return { VendorId: randomUUID(), DeviceToken: `t-${randomUUID()}`, Settings: {} };
    if (operation === "GetMessages") {
      confirm((fields.confirm ?? []) as string[]);
      const all = [...inbox.values()];
      return {
        Messages: all.filter(isPage).slice(0, 100),
        More: all.filter(isPage).length > 100,
        Notices: all.filter((one) => !isPage(one)),
      };
    }
    if (operation === "SetStatus") {
      const statuses = fields.statuses as { uniqueId: string; status: string; clientId: string; at: string }[];
      for (const { status, uniqueId, clientId, at } of statuses)
        said.push({ what: `${status} ${uniqueId}`, clientId, at, by: "call" });
      return { Results: statuses.map(({ uniqueId }) => ({ UniqueId: uniqueId, Result: "recorded" })) };
    }
    if (operation === "Reply") hearReply(fields, "call");
    return { Settings: { ClientMessagingUrls: [], CoreVersion: "test" } };
  }

  function hearReply(fields: Fields, by: string): void {
    const { text, choice, clientId, at } = fields as Record<string, string>;
    said.push({ what: `REPLY ${text ?? choice}`, clientId: clientId!, at: at!, by });
  }

  const server = createServer(async (request, response) => {
    const operation = operationOf(request);
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk;
    const fields = (text === "" ? {} : JSON.parse(text)) as Fields;
    calls.push({ operation, fields });
    if (handler !== null) return handler(request, response, fields);
    operates(request, response, fields);
  });

  function operates(request: IncomingMessage, response: ServerResponse, fields: Fields): void {
    const operation = operationOf(request);
    const body = { ResponseType: operation, ResponseCode: 0, ResponseDescription: "Success" };
    response.writeHead(200, { "content-type": "application/json", date: new Date(date()).toUTCString() });
    response.end(JSON.stringify({ ...body, ...operate(operation, fields) }));
  }

  function tell(type: string, data: object, id: string | null = null): void {
    if (id !== null) sentAs.set(id, (seq += 1));
    stream?.socket.send(JSON.stringify({ type, id: randomUUID(), seq, at: date(), data }));
  }

  function put(id: string, one: AmcMessage | Notice): void {
    if (stream?.resumed !== true) return;
    if (isPage(one)) tell("message", one, id);
    else if (one.Kind === "ANSWERED") tell("answered", one, id);
    else tell("recalled", one, id);
  }

  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "tocsin.v2" });
  server.on("upgrade", (request, socket, head) => {
    if (!peer.takesStreams) return void socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (taken) => {
      stream?.socket.close(4409);
      const own = { socket: taken, resumed: false };
      stream = own;
      const fresh = randomUUID();
      taken.on("message", (data) => {
        const { type, id, data: fields } = JSON.parse(String(data)) as { type: string; id: string; data: Fields };
        frames.push({ type, data: fields });
        if (type === "resume" && stream === own) resume(own, fields, fresh);
        else if (type === "confirm") result(id, confirm([fields.uniqueId ?? fields.noticeId])[0]!);
        else if (type === "status") {
          const { status, uniqueId, clientId, at } = fields as Record<string, string>;
          said.push({ what: `${status} ${uniqueId}`, clientId: clientId!, at: at!, by: "stream" });
          result(id, true);
        } else if (type === "reply") {
          hearReply(fields, "stream");
          result(id, true);
        }
      });
      taken.on("close", () => {
        if (stream === own) stream = null;
      });
      tell("hello", { epoch: fresh, resumeToken: "", heartbeatSeconds: 1 });
    });
  });

  /** Anew, or where the phone left off: what it has not is numbered on. */
  function resume(own: { resumed: boolean }, has: Fields, fresh: string): void {
    own.resumed = true;
    const recovered = has.epoch === epoch;
    if (!recovered) {
      epoch = fresh;
      sentAs.clear();
    }
    seq = recovered ? Number(has.seq) : 0;
    tell("resumed", { epoch, recovered });
    for (const [id, one] of inbox) if ((sentAs.get(id) ?? seq + 1) > Number(recovered ? has.seq : 0)) put(id, one);
  }

  function result(to: string, known: boolean): void {
    if (peer.givesResults) tell("result", { to, Result: known ? "recorded" : "unknown" });
  }

  function waits(text: string, more: Partial<AmcMessage> = {}): AmcMessage {
    const page: AmcMessage = {
      ...{ UniqueId: randomUUID(), Date: date(), Text: text, Status: 0, SiteId: "", ConversationId: "" },
      ...{ CallbackNumber: "", Priority: 2, MessageType: "", Assets: [] },
      ...{ From: { Id: "1", Name: "Lab", ContactId: "" }, ...more },
    };
    inbox.set(page.UniqueId, page);
    return page;
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const peer: StreamPeer = {
    ...{ url: `http://127.0.0.1:${port}`, port, calls, said, frames, waits, operates },
    pages(text, more) {
      const page = waits(text, more);
      put(page.UniqueId, page);
      return page;
    },
    notices(kind, { UniqueId }) {
      const notice = { NoticeId: randomUUID(), UniqueId, Kind: kind, At: date() };
      inbox.set(notice.NoticeId, notice);
      put(notice.NoticeId, notice);
      return notice;
    },
    waiting: () => [...inbox.keys()],
    streams: () => sockets.clients.size,
    sends: (text) => stream?.socket.send(text),
    frame: (type, data) => tell(type, data),
    closes: (code) => stream?.socket.close(code),
    cuts() {
      for (const socket of sockets.clients) socket.terminate();
    },
    answers(next) {
      handler = next;
    },
    takesStreams: true,
    givesResults: true,
    aheadMs: 0,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets.clients) socket.terminate();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return peer;
}
