/**
 * A proxy between a node and its Postgres that knows statements: at the first sight of each it loses the server, before the statement has
 * reached it, or when it was carried out and nobody has heard so; and lets it come back.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type When = "before" | "after";
export type StatementProxy = {
  readonly port: number;
  /** The statements at which the server was lost. */
  readonly lostAt: readonly string[];
  /** No more losses. */
  rests(): void;
  close(): Promise<void>;
};

/** How long nobody reaches the server. */
const AWAY_MS = 100;
const CANCEL = 80877102;
const TLS = 80877103;

/** @param whose the application whose statements are looked at, by its name at the server */
export async function openStatementProxy(
  target: number,
  { whose, when }: { readonly whose: string; readonly when: When },
): Promise<StatementProxy> {
  const seen = new Set<string>();
  const lostAt: string[] = [];
  const sockets = new Set<Socket>();
  let away = false;
  let resting = false;

  function loses(): void {
    away = true;
    for (const socket of sockets) socket.resetAndDestroy();
    setTimeout(() => {
      away = false;
    }, AWAY_MS);
  }

  const server = createServer({ noDelay: true }, (client) => {
    if (away) return void client.resetAndDestroy();
    const upstream = connect({ port: target, host: "127.0.0.1", noDelay: true });
    const prepared = new Map<string, string>();
    let looks = false;
    let begun = false;
    /** Answers that the client waits for. */
    let waits = 0;
    let doomed = false;

    /** false: this message is the one at which the server is lost, and stays here. */
    function passes(type: string, body: Buffer): boolean {
      if (type === "P") {
        const [name, text] = body.toString("utf8").split("\0");
        prepared.set(name!, text!);
      }
      if (looks && !resting && !doomed && (type === "Q" || type === "B")) {
        const text = type === "Q" ? textAt(body, 0) : prepared.get(textAt(body, textAt(body, 0).length + 1));
        if (text !== undefined && !seen.has(text)) {
          seen.add(text);
          lostAt.push(text);
          if (when === "before") return false;
          doomed = true;
        }
      }
      if (type === "S" || type === "Q") waits += 1;
      return true;
    }

    const fromClient = cutter((type, message) => {
      if (type === null && !begun) {
        const code = message.readInt32BE(4);
        begun = code !== TLS && code !== CANCEL;
        looks = message.toString("utf8").includes(`\0application_name\0${whose}\0`);
        upstream.write(message);
      } else if (passes(type!, message.subarray(5))) upstream.write(message);
      else loses();
      return begun;
    });
    let greeted = 0;
    const fromServer = cutter((type, message) => {
      if (!doomed) client.write(message);
      // The first is of the connection itself.
      if (type === "Z" && greeted++ > 0) waits -= 1;
      if (doomed && waits === 0) loses();
      return true;
    }, true);
    for (const [from, to, take] of [
      [client, upstream, fromClient],
      [upstream, client, fromServer],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes: Buffer) => {
        if (!from.destroyed && !to.destroyed) take(bytes);
      });
      from.on("error", () => {});
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    lostAt,
    rests() {
      resting = true;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function textAt(body: Buffer, from: number): string {
  return body.toString("utf8", from, body.indexOf(0, from));
}

/**
 * Cuts a flow into the protocol's messages.
 * @param take answers whether what follows has types; what a connection begins with has none
 */
function cutter(take: (type: string | null, message: Buffer) => boolean, typed = false): (bytes: Buffer) => void {
  let held: Buffer = Buffer.alloc(0);
  let types = typed;
  return (bytes) => {
    held = Buffer.concat([held, bytes]);
    for (;;) {
      const at = types ? 1 : 0;
      if (held.length < at + 4) return;
      const length = at + held.readInt32BE(at);
      if (held.length < length) return;
      const message = held.subarray(0, length);
      held = held.subarray(length);
      types = take(types ? String.fromCharCode(message[0]!) : null, message);
    }
  };
}
