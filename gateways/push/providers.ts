/**
 * The push services this node sends to: the real ones by the operator's credentials, or the built-in emulator by its own. The
 * libraries of those it does not send to are not loaded: each is a tenth of what a start reads.
 */
import type { Clock, GatewayType } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Emulator, openEmulator } from "../emulator/emulator.ts";
import type { ApnsSlice } from "./apns.ts";
import type { FcmSlice } from "./fcm.ts";
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
  ports: {
    readonly log: Log;
    readonly clock: Clock;
    readonly loadEmulator: () => Promise<{ readonly openEmulator: typeof openEmulator }>;
  },
): Promise<Providers> {
  const providers = new Map<GatewayType, PushProvider>();
  if (slice.push.mode === "emulator") {
    const { openEmulator } = await ports.loadEmulator();
    const emulator = await openEmulator({ ...slice.emulator, dataDir: slice.dataDir }, ports);
    const { address, credentials } = emulator;
    const { caFile, serviceAccountFile } = credentials;
    providers.set("GCM", await fcm({ serviceAccountFile, url: address.fcmUrl, caFile }, ports));
    const key = {
      keyFile: credentials.apnsKeyFile,
      keyId: credentials.apnsKeyId,
      teamId: credentials.apnsTeamId,
      topic: credentials.apnsTopic,
    };
    providers.set("APNS", await apns({ ...key, url: address.apnsUrl, caFile, silent: false }, ports));
    return { providers, emulator, close: () => emulator.close() };
  }
  const { push } = slice;
  const { caFile } = push;
  if (push.fcm !== null) providers.set("GCM", await fcm({ ...push.fcm, caFile }, ports));
  if (push.apns !== null) providers.set("APNS", await apns({ ...push.apns, caFile, silent: false }, ports));
  return { providers, emulator: null, close: async () => {} };
}

type Ports = { readonly log: Log; readonly clock: Clock };

async function fcm(slice: FcmSlice, ports: Ports): Promise<PushProvider> {
  const { openFcm } = await import("./fcm.ts");
  return openFcm(slice, ports);
}

async function apns(slice: ApnsSlice, ports: Ports): Promise<PushProvider> {
  const { openApns } = await import("./apns.ts");
  return openApns(slice, ports);
}
