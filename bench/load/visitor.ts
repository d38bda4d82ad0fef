/**
 * A phone's connection at the least cost: HTTP/1.1 over TLS written by hand, kept open, one request at a time. Many phones
 * use it after one another. Answers must say their length.
 */
import { connect } from "node:tls";

export type Visitor = {
  /** The answer's body; @throws Error on any status but 200, a broken connection, or after 20 s. */
  post(path: string, token: string, body: string): Promise<string>;
  close(): void;
};

type Place = { readonly port: number; readonly ca: string };
type Connection = Visitor & {
  /** The last answer said that no other comes by this connection. */
  over(): boolean;
};

const SILENCE_MS = 20_000;
const HEAD_END = "\r\n\r\n";

/** @param places where it goes in turn, from the first on: a node with much to do sends phones to another with its answer */
export async function openVisitor(places: readonly Place[]): Promise<Visitor> {
  let turn = 0;
  let connection = await dial(places[turn]!);
  return {
    async post(path, token, body) {
      if (connection.over()) {
        turn = (turn + 1) % places.length;
        connection = await dial(places[turn]!);
      }
      return connection.post(path, token, body);
    },
    close: () => connection.close(),
  };
}

function dial({ port, ca }: Place): Promise<Connection> {
  return new Promise((opened, refused) => {
    let over = false;
    let waiting: { resolve(body: string): void; reject(error: Error): void } | null = null;
    const socket = connect({ port, host: "127.0.0.1", ca, ALPNProtocols: ["http/1.1"], timeout: SILENCE_MS });
    socket.setNoDelay(true);
    const fail = (error: Error) => {
      refused(error);
      waiting?.reject(error);
      waiting = null;
    };
    socket.on("timeout", () => {
      if (waiting !== null) socket.destroy(new Error(`a phone's request was not answered within ${SILENCE_MS} ms`));
    });
    socket.on("error", fail);
    socket.on("close", () => fail(new Error("the server ended a phone's connection")));

    let chunks: Buffer[] = [];
    let length = 0;
    /** Bytes of the whole answer, once its head is there. */
    let wanted: {
      readonly total: number;
      readonly head: number;
      readonly status: number;
      readonly last: boolean;
    } | null = null;
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (wanted === null) {
        const whole = chunks.length === 1 ? chunk : Buffer.concat(chunks);
        chunks = [whole];
        wanted = headOf(whole);
        if (wanted === null) return;
      }
      if (length < wanted.total) return;
      const whole = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
      const body = whole.toString("utf8", wanted.head, wanted.total);
      const { status } = wanted;
      over = wanted.last;
      const asked = waiting;
      waiting = null;
      wanted = null;
      chunks = [];
      length = 0;
      if (status === 200) asked?.resolve(body);
      else asked?.reject(new Error(`a phone's request was answered ${status}`));
    });

    socket.on("secureConnect", () =>
      opened({
        post(path, token, body) {
          if (waiting !== null) return Promise.reject(new Error("this connection is busy"));
          return new Promise((resolve, reject) => {
            waiting = { resolve, reject };
            socket.write(
              `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n` +
                `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
            );
          });
        },
        over: () => over,
        close: () => void socket.destroy(),
      }),
    );

    function headOf(bytes: Buffer) {
      const end = bytes.indexOf(HEAD_END);
      if (end < 0) return null;
      const head = bytes.toString("latin1", 0, end);
      const size = /^content-length: *(\d+)/im.exec(head)?.[1];
      if (size === undefined) {
        socket.destroy(new Error("the server's answer does not say its length"));
        return null;
      }
      return {
        head: end + HEAD_END.length,
        total: end + HEAD_END.length + Number(size),
        status: Number(head.slice(9, 12)),
        last: /^connection: *close/im.test(head),
      };
    }
  });
}
