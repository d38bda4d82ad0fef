/**
 * Machines that vanish: no reset and no good-bye, and whatever is sent to them is lost, acknowledgements and TCP's own
 * questions too. A filter on the peer's socket throws away every packet before its TCP sees it; that takes no privileges,
 * and only what Debian always has.
 */
import { spawnSync } from "node:child_process";
import type { Socket } from "node:net";
import { eventually } from "./eventually.ts";
import { connectionsAt } from "./process-facts.ts";

/** SO_ATTACH_FILTER of asm-generic/socket.h, with the one instruction "return 0": of every packet keep nothing. */
const SWALLOW = `
  my $filter = pack "SCCL", 0x06, 0, 0, 0;
  setsockopt STDIN, 1, 26, pack("S x![P] P", 1, $filter) or die "$!\\n";`;

/**
 * From now nothing reaches this plain TCP socket. What it has sent arrives first: of bytes for which the peer had no room yet, its
 * kernel would never learn that there is some. Whoever destroys the socket afterwards lets its good-bye out.
 */
export async function vanishes(socket: Socket): Promise<void> {
  await eventually(
    "the peer's kernel has all it was sent",
    () => socket.writableLength === 0 && connectionsAt(socket.localPort!).every(({ owed }) => owed === 0),
  );
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const { status, stderr, error } = spawnSync("perl", ["-e", SWALLOW], {
    stdio: [fd, "ignore", "pipe"],
    encoding: "utf8",
    timeout: 10_000,
  });
  if (status !== 0) throw new Error(`the socket does not vanish: ${error?.message ?? stderr.trim()}`);
}
