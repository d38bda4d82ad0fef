/**
 * The built-in push emulator: FCM with its token endpoint and APNs over TLS, as strict as the real ones and reached by the
 * real client libraries, and a page that shows what a phone's lock screen would.
 */
import type { Clock } from "../../domain.ts";
import type { Log } from "../../log.ts";
import { openApnsService } from "./apns.ts";
import { type ClientCredentials, openCredentials } from "./credentials.ts";
import { openFaultScript } from "./faults.ts";
import { openFcmService } from "./fcm.ts";
import { openRecorder } from "./record.ts";
import { openRecordService } from "./record-service.ts";
import { hostOf, type Service } from "./service.ts";

export type EmulatorSlice = {
  readonly bind: string;
  /** Of the lock screen and record; 0 is any free port. FCM's and APNs' sides choose their own. */
  readonly port: number;
  readonly dataDir: string;
};

export type Emulator = {
  readonly address: { readonly url: string; readonly fcmUrl: string; readonly apnsUrl: string };
  readonly credentials: ClientCredentials;
  close(): Promise<void>;
};

/** @throws when the port is taken or the data folder cannot be written. */
export async function openEmulator(
  slice: EmulatorSlice,
  ports: { readonly log: Log; readonly clock: Clock },
): Promise<Emulator> {
  const { bind } = slice;
  const credentials = await openCredentials(slice.dataDir, ports.clock.wall());
  const log = ports.log.child({ part: "emulator" });
  const inner = { log, clock: ports.clock, credentials, faults: openFaultScript(), record: openRecorder() };
  const opened: Service[] = [];
  const close = async () => {
    await Promise.all(opened.map((service) => service.close()));
  };
  const open = async (service: Promise<Service>): Promise<number> => {
    const { port } = opened[opened.push(await service) - 1]!;
    return port;
  };
  try {
    const host = hostOf(bind);
    const address = {
      url: `http://${host}:${await open(openRecordService(bind, slice.port, inner))}`,
      fcmUrl: `https://${host}:${await open(openFcmService(bind, inner))}`,
      apnsUrl: `https://${host}:${await open(openApnsService(bind, inner))}`,
    };
    return { address, credentials: credentials.client, close };
  } catch (fault) {
    await close();
    throw fault;
  }
}
