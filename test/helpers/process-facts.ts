/** What the operating system says of a process: what it holds and how much. Linux. */
import { readdirSync, readFileSync } from "node:fs";

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

export function residentBytes(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]);
  return pages * 4_096;
}

/** One value of a node's metrics, of the series whose line begins with this. */
export function metric(text: string, series: string): number {
  const line = text.split("\n").find((one) => one.startsWith(series));
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ") + 1));
}
