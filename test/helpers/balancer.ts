/** A TCP balancer that gives each node its share of new connections by turns, and knows which connection is where. */
import { connect, createServer, type Socket } from "node:net";

export type Balancer = {
  readonly port: number;
  /** From now on new connections go to these ports, to each so many in a round. */
  shares(ports: readonly number[], inARound: readonly number[]): void;
  /** Open connections to each port, in the order of `shares`. */
  held(): number[];
  /** Connections taken since the start. */
  taken(): number;
  /** Resets all connections. */
  drops(): void;
  close(): Promise<void>;
};

export async function openBalancer(): Promise<Balancer> {
  let ports: readonly number[] = [];
  let round: number[] = [];
  let place = 0;
  let taken = 0;
  const open = new Map<Socket, number>();
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    if (round.length === 0) return void client.resetAndDestroy();
    const port = round[place++ % round.length]!;
    taken += 1;
    open.set(client, port);
    const upstream = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    client.pipe(upstream).pipe(client);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on("error", () => {});
      one.on("close", () => {
        open.delete(client);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as { port: number }).port,
    shares(to, inARound) {
      ports = to;
      place = 0;
      // One of each after the other, as a balancer with weights does.
      round = Array.from({ length: Math.max(...inARound) }, (_, n) => to.filter((_port, i) => inARound[i]! > n)).flat();
    },
    held: () => ports.map((port) => [...open.values()].filter((other) => other === port).length),
    taken: () => taken,
    drops() {
      for (const client of open.keys()) client.resetAndDestroy();
    },
    close() {
      for (const client of open.keys()) client.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
