/**
 * A TCP relay whose flow can stop without a word, as a firewall that forgot the connection does. Unlike `proxy.ts`, it never
 * ends a connection that has lost bytes: whoever holds one must find out alone.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export async function openRelay(target: number) {
  let frozen = false;
  const sockets = new Set<Socket>();
  const forgotten = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => frozen || forgotten.has(far) || to.write(bytes));
      from.on("error", () => {});
      from.on("close", () => {
        to.destroy();
        for (const socket of [from, to]) {
          sockets.delete(socket);
          forgotten.delete(socket);
        }
      });
    }
    fars.add(far);
    far.on("close", () => fars.delete(far));
  });
  const fars = new Set<Socket>();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `https://127.0.0.1:${port}`,
    freeze: (yes: boolean) => {
      frozen = yes;
    },
    /** For good: the connections that the target sees come from these ports. */
    forgets(ports: readonly number[]): void {
      for (const far of fars) if (ports.includes(far.localPort!)) forgotten.add(far);
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
