/** The push services this node sends to: the real ones by the operator's credentials, or the built-in emulator by its own. */
import type { Clock, GatewayType } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Emulator, openEmulator } from "../emulator/emulator.ts";
import { openApns } from "./apns.ts";
import { openFcm } from "./fcm.ts";
import type { PushProvider } from "./provider.ts";

export type ProvidersSlice = {
  readonly dataDir: string;
  readonly emulator: { readonly bind: string; readonly port: number };
  readonly push: {
    readonly mode: "emulator" | "services";
    readonly fcm: { readonly serviceAccountFile: string; readonly url: string | null } | null;
    readonly apns: {
      readonly keyFile: string;
      readonly keyId: string;
      readonly teamId: string;
      readonly topic: string;
      readonly url: string | null;
    } | null;
    readonly caFile: string | null;
  };
};

export type Providers = {
  readonly providers: ReadonlyMap<GatewayType, PushProvider>;
  readonly emulator: Emulator | null;
  close(): Promise<void>;
};

/** Providers are closed by their workers; `close` ends the emulator. */
export async function openProviders(
  slice: ProvidersSlice,
  ports: { readonly log: Log; readonly clock: Clock; readonly openEmulator: typeof openEmulator },
): Promise<Providers> {
  const providers = new Map<GatewayType, PushProvider>();
  if (slice.push.mode === "emulator") {
    const emulator = await ports.openEmulator({ ...slice.emulator, dataDir: slice.dataDir }, ports);
    const { address, credentials } = emulator;
    const { caFile, serviceAccountFile } = credentials;
    providers.set("GCM", openFcm({ serviceAccountFile, url: address.fcmUrl, caFile }, ports));
    const apns = {
      keyFile: credentials.apnsKeyFile,
      keyId: credentials.apnsKeyId,
      teamId: credentials.apnsTeamId,
      topic: credentials.apnsTopic,
    };
    providers.set("APNS", openApns({ ...apns, url: address.apnsUrl, caFile, silent: false }, ports));
    return { providers, emulator, close: () => emulator.close() };
  }
  const { fcm, apns, caFile } = slice.push;
  if (fcm !== null) providers.set("GCM", openFcm({ ...fcm, caFile }, ports));
  if (apns !== null) providers.set("APNS", openApns({ ...apns, caFile, silent: false }, ports));
  return { providers, emulator: null, close: async () => {} };
}
