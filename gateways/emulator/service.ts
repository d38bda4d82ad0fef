/** What the emulator's three servers share: their ports, and how one is bound. */
import type { AddressInfo, Server } from "node:net";
import type { Clock } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { EmulatorCredentials } from "./credentials.ts";
import type { FaultScript } from "./faults.ts";
import type { Recorder } from "./record.ts";

export type ServicePorts = {
  readonly log: Log;
  readonly clock: Clock;
  readonly credentials: EmulatorCredentials;
  readonly faults: FaultScript;
  readonly record: Recorder;
};

export type Service = { readonly port: number; close(): Promise<void> };

/** The port it got; 0 asks for any. @throws when the address is taken or not this machine's. */
export function listen(server: Server, bind: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, bind, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** How a client on this machine writes the address. */
export function hostOf(bind: string): string {
  if (bind === "0.0.0.0") return "127.0.0.1";
  if (bind === "::") return "[::1]";
  return bind.includes(":") ? `[${bind}]` : bind;
}
