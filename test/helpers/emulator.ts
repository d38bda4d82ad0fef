/** A push emulator on a temp folder of its own, with its record and its fault script as its HTTP interface gives them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../domain.ts";
import { type Emulator, openEmulator } from "../../gateways/emulator/emulator.ts";
import type { Fault } from "../../gateways/emulator/faults.ts";
import type { PushRecord } from "../../gateways/emulator/record.ts";
import { silentLog } from "../../log.ts";

type EmulatorOnItsFolder = Emulator & {
  readonly dataDir: string;
  pushes(query?: string): Promise<PushRecord[]>;
  faults(): Promise<Fault[]>;
  /** POST /faults, whatever the answer. */
  postsFault(fault: unknown, contentType?: string): Promise<Response>;
  /** Empties record and fault script. */
  forgets(): Promise<void>;
  /** Removes the folder too. */
  close(): Promise<void>;
};

/** On a folder that is the caller's, at any free port. */
export function openEmulatorOn(dataDir: string, clock = systemClock): Promise<Emulator> {
  return openEmulator({ bind: "127.0.0.1", port: 0, dataDir }, { log: silentLog, clock });
}

export async function startEmulator(): Promise<EmulatorOnItsFolder> {
  const dataDir = await mkdtemp(join(tmpdir(), "tocsin-emulator-"));
  const emulator = await openEmulatorOn(dataDir);
  const { url } = emulator.address;
  return {
    ...emulator,
    dataDir,
    pushes: (query = "") => itemsAt(`${url}/pushes${query}`),
    faults: () => itemsAt(`${url}/faults`),
    postsFault: (fault, contentType = "application/json") =>
      fetch(`${url}/faults`, {
        method: "POST",
        headers: { "content-type": contentType },
        body: JSON.stringify(fault),
      }),
    async forgets() {
      for (const path of ["/pushes", "/faults"]) await fetch(url + path, { method: "DELETE" });
    },
    async close() {
      await emulator.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function itemsAt<T>(url: string): Promise<T[]> {
  const answer = await fetch(url);
  return ((await answer.json()) as { items: T[] }).items;
}
