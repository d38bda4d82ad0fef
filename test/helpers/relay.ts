/**
 * A TCP relay whose flow can stop without a word, as a firewall that forgot the connection does. Unlike `proxy.ts`, it never
 * ends a connection that has lost bytes: whoever holds one must find out alone.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export async function openRelay(target: number) {
  let frozen = false;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => frozen || to.write(bytes));
      from.on("error", () => {});
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    freeze: (yes: boolean) => {
      frozen = yes;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
