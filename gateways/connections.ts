/**
 * How many connections one listener may hold: a quarter of the files this process may open, so that no port's callers take
 * what the other ports, the databases and the push services need.
 */
import { readFileSync } from "node:fs";

const MOST = 20_000;
const PART = 0.25;

export function connectionsMax(): number {
  return Math.min(MOST, Math.floor(filesMax() * PART));
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
