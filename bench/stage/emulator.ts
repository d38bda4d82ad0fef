/** The push services, as `tocsin emulator` plays them: in a process of its own, so that its CPU is not the server's. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type EmulatorRecord, emulatorSettings } from "../../cli/emulator-settings.ts";
import type { Emulator } from "../../gateways/emulator/emulator.ts";
import { endsWithUs } from "./ends-with-us.ts";

export type EmulatorProcess = Pick<Emulator, "address" | "credentials"> & {
  readonly pid: number;
  /** What a server needs in its environment to send its pushes here. */
  readonly settings: Readonly<Record<string, string>>;
  close(): Promise<void>;
};

const START_MS = 15_000;
const ROOT = join(import.meta.dirname, "../..");

export async function openEmulatorProcess(dataDir: string): Promise<EmulatorProcess> {
  const args = ["cli/tocsin.ts", "emulator", "--json", "--port", "0", "--data-dir", dataDir];
  const child = endsWithUs(spawn(process.execPath, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] }));
  const ended = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  const timer = setTimeout(() => child.kill("SIGKILL"), START_MS);
  let first: string | null = null;
  for await (const line of createInterface({ input: child.stdout })) {
    first = line;
    break;
  }
  clearTimeout(timer);
  if (first === null) throw new Error("the emulator did not start");
  const record = JSON.parse(first) as EmulatorRecord;
  const { credentials, ...address } = record;
  return {
    pid: child.pid!,
    address,
    credentials,
    settings: emulatorSettings(record),
    async close() {
      child.kill("SIGTERM");
      const killer = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await ended;
      clearTimeout(killer);
    },
  };
}
