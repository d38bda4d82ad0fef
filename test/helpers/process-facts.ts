/** What the operating system says of a process: what it holds and how much. Linux. */
import { readdirSync } from "node:fs";

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** One value of a node's metrics, of the series whose line begins with this. */
export function metric(text: string, series: string): number {
  const line = text.split("\n").find((one) => one.startsWith(series));
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ") + 1));
}
