/**
 * What the kernel knows of a TCP connection that Node does not tell: whether the peer has acknowledged all that was
 * written, and whether it has stopped answering. From Linux's /proc/net/tcp; read at most once for all who ask together.
 */
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { isIPv4 } from "node:net";

export type Peer = {
  /** Bytes written that the peer's kernel has not acknowledged. */
  readonly unacknowledged: number;
  /** The peer owes us an answer: bytes are being sent again, or window probes go unanswered. */
  readonly silent: boolean;
};

export type Peers = {
  /** null: the connection is not in the table (it has ended), or the system has no such table. */
  look(socket: Socket): Promise<Peer | null>;
};

const TABLES = ["/proc/net/tcp", "/proc/net/tcp6"];
/** Answers are at most this old. */
const FRESH_MS = 20;

export function openPeers(): Peers {
  let reading: Promise<ReadonlyMap<string, Peer>> | null = null;

  async function read(): Promise<ReadonlyMap<string, Peer>> {
    const table = new Map<string, Peer>();
    for (const path of TABLES) {
      const text = await readFile(path, "latin1").catch(() => "");
      for (const line of text.split("\n").slice(1)) {
        // sl local remote state tx:rx timer:when retransmits uid probes …
        const [, local, remote, , queues, , retransmits, , probes] = line.trim().split(/\s+/);
        if (local === undefined || remote === undefined || queues === undefined) continue;
        table.set(`${local.split(":")[1]} ${remote}`, {
          unacknowledged: Number.parseInt(queues.split(":")[0]!, 16),
          silent: Number.parseInt(retransmits ?? "0", 16) > 0 || Number(probes) > 0,
        });
      }
    }
    return table;
  }

  return {
    async look(socket) {
      const { localPort, remotePort, remoteAddress } = socket;
      if (localPort === undefined || remotePort === undefined || remoteAddress === undefined) return null;
      if (reading === null) {
        reading = new Promise((resolve) => {
          setTimeout(() => {
            reading = null;
            resolve(read());
          }, FRESH_MS);
        });
      }
      const table = await reading;
      return table.get(`${hexPort(localPort)} ${hexAddress(remoteAddress)}:${hexPort(remotePort)}`) ?? null;
    },
  };
}

function hexPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}

/** As the kernel prints it: 32-bit words in the host's byte order, which is little-endian on all we run on. */
export function hexAddress(address: string): string {
  const bytes = isIPv4(address) ? address.split(".").map(Number) : ipv6Bytes(address);
  let hex = "";
  for (let word = 0; word < bytes.length; word += 4) {
    for (let byte = 3; byte >= 0; byte -= 1) hex += bytes[word + byte]!.toString(16).toUpperCase().padStart(2, "0");
  }
  return hex;
}

function ipv6Bytes(address: string): number[] {
  const plain = address.split("%")[0]!;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(plain);
  const tail = dotted === null ? [] : dotted[2]!.split(".").map(Number);
  const groups = (dotted === null ? plain : dotted[1]!.replace(/([^:]):$/, "$1")).split("::");
  const head = bytesOf(groups[0] ?? "");
  const rest = groups.length > 1 ? bytesOf(groups[1] ?? "") : [];
  const missing = 16 - head.length - rest.length - tail.length;
  return [...head, ...new Array<number>(Math.max(0, missing)).fill(0), ...rest, ...tail];
}

function bytesOf(groups: string): number[] {
  return groups
    .split(":")
    .filter((group) => group !== "")
    .flatMap((group) => {
      const value = Number.parseInt(group, 16);
      return [value >> 8, value & 0xff];
    });
}
