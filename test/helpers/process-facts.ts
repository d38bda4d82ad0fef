/** What the operating system says of a process: what it holds and how much. Linux. */
import { readdirSync } from "node:fs";

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Connections at this port of this machine that somebody has not let go of yet. */
export function connectionsAt(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // TIME_WAIT and LISTEN are nobody's connections.
  const others = ["06", "0A"];
  return readFileSync("/proc/net/tcp", "latin1")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, address, , state]) => address?.endsWith(local) && !others.includes(state!)).length;
}

/** One value of a node's metrics, of the series whose line begins with this. */
export function metric(text: string, series: string): number {
  const line = text.split("\n").find((one) => one.startsWith(series));
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ") + 1));
}
