/**
 * How many connections one listener may hold: a part of the files this process may open, so that no port's callers take
 * what the other ports, the databases and the push services need. Most of them are phones'. And fewer where the heap is small: a
 * host's takes 10 KiB of it that lies idle, several times that at work, and beside it a chunk of 64 KiB that waits for its turn.
 */
import { readFileSync } from "node:fs";
import { heapBytes } from "../cluster/heap.ts";

const MOST = 20_000;
/** Two ports are for hosts; what is left of the files, a fifth, is for what this process calls itself. */
const FILES_PART = { http: 0.6, mxpp: 0.1 } as const;
const CONNECTION_BYTES = 128 * 1024;

export function connectionsMax(
  port: keyof typeof FILES_PART,
  heap: number = heapBytes(),
  files: number = filesMax(),
): number {
  return Math.min(MOST, Math.floor(files * FILES_PART[port]), Math.floor(heap / CONNECTION_BYTES));
}

/** Node has raised the soft limit to the hard one by now; elsewhere than on Linux none is known. */
function filesMax(): number {
  try {
    const limit = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
