/** What the operating system says of a process: what it holds and how much. Linux. */
import { readdirSync, readFileSync } from "node:fs";

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

export function residentMiB(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return Number(kilobytes) / 1024;
}

/** A connection at a port of this machine that a process still holds. */
export type HeldConnection = {
  /** The peer's. */
  readonly address: string;
  readonly port: number;
  /** Bytes its kernel has and the peer's has not acknowledged. */
  readonly owed: number;
};

/** Of a listener on IPv4. What the kernel brings to its end by itself, and what nobody has accepted, belongs to no process. */
export function connectionsAt(port: number): HeldConnection[] {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync("/proc/net/tcp", "latin1")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, at, , state, , , , , , inode]) => at?.endsWith(local) && state !== LISTEN && inode !== "0")
    .map(([, , remote, , queues]) => {
      const [address, remotePort] = remote!.split(":");
      return {
        address: Array.from(Buffer.from(address!, "hex")).reverse().join("."),
        port: Number.parseInt(remotePort!, 16),
        owed: Number.parseInt(queues!.split(":")[0]!, 16),
      };
    });
}

const LISTEN = "0A";

/** One value of a node's metrics, of the series whose line begins with this. */
export function metric(text: string, series: string): number {
  const line = text.split("\n").find((one) => one.startsWith(series));
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ") + 1));
}
