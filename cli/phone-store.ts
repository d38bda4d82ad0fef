/** The registration a phone keeps in `<data dir>/phone-<destination>.json`, readable by its user alone: it holds the device's token. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Registration } from "./phone-client.ts";

/** `pid`: the phone that uses it, or used it last. */
export type Stored = { readonly pid: number; readonly registration: Registration };

export function readStored(dataDir: string, destination: string): Stored | null {
  try {
    const stored = JSON.parse(readFileSync(fileOf(dataDir, destination), "utf8")) as Partial<Stored>;
    return stored.registration?.deviceToken === undefined ? null : (stored as Stored);
  } catch {
    return null; // Missing or damaged: the phone registers again.
  }
}

export function store(dataDir: string, registration: Registration): void {
  const file = fileOf(dataDir, registration.destination);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, JSON.stringify({ pid: process.pid, registration }), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Where the device keeps its pages and what it has yet to report, for as long as it is registered. */
export function pagesFolder(dataDir: string, { vendorId }: Registration): string {
  return join(dataDir, `phone-${encodeURIComponent(vendorId)}`);
}

/** What a destination may hold must not become a path. */
function fileOf(dataDir: string, destination: string): string {
  return join(dataDir, `phone-${encodeURIComponent(destination)}.json`);
}
