/** A TCP proxy between a node and what it depends on, to make the network between them fail in the ways networks do. */
import { connect, createServer, type Server, type Socket } from "node:net";

export type TcpProxy = {
  readonly port: number;
  /** Bytes in both directions arrive so much later. */
  delays(ms: number): void;
  /** Requests go through, answers do not come back; the connections stay open. */
  swallowsAnswers(): void;
  /** Nothing goes either way; the connections stay open. */
  blackholes(): void;
  /** Resets every connection. */
  cuts(): void;
  /** Refuses new connections and resets the open ones, until `heals`. */
  refuses(): void;
  heals(): void;
  connections(): number;
  close(): Promise<void>;
};

type Mode = "open" | "answers-swallowed" | "black-hole" | "refusing";

export async function openProxy(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let mode: Mode = "open";
  let delayMs = 0;

  function forward(from: Socket, to: Socket, answers: boolean): void {
    from.on("data", (chunk: Buffer) => {
      // What was swallowed is gone for good: a stream with a hole in it may not go on.
      if (mode === "black-hole" || (answers && mode === "answers-swallowed")) return void holed.add(from);
      if (holed.has(from)) return;
      if (delayMs === 0) return void to.write(chunk);
      setTimeout(() => {
        if (!to.destroyed) to.write(chunk);
      }, delayMs);
    });
  }
  const holed = new Set<Socket>();

  const server: Server = createServer({ noDelay: true }, (client) => {
    if (mode === "refusing") return void client.resetAndDestroy();
    const upstream = connect({ ...target, noDelay: true });
    const pair = [client, upstream] as const;
    pairs.add(pair);
    forward(client, upstream, false);
    forward(upstream, client, true);
    for (const [one, other] of [pair, [upstream, client] as const]) {
      one.on("error", () => {});
      one.on("close", () => {
        pairs.delete(pair);
        holed.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();

  function cuts(): void {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
  }

  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    delays(ms) {
      delayMs = ms;
    },
    swallowsAnswers() {
      mode = "answers-swallowed";
    },
    blackholes() {
      mode = "black-hole";
    },
    cuts,
    refuses() {
      mode = "refusing";
      cuts();
    },
    heals() {
      mode = "open";
      delayMs = 0;
      // Streams with holes cannot go on.
      for (const pair of pairs)
        if (pair.some((socket) => holed.has(socket))) for (const socket of pair) socket.resetAndDestroy();
    },
    connections: () => pairs.size,
    async close() {
      cuts();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The same URL through the proxy. */
export function through(proxy: TcpProxy, url: string): string {
  const proxied = new URL(url);
  proxied.hostname = "127.0.0.1";
  proxied.port = String(proxy.port);
  return proxied.href;
}
