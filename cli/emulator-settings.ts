/** The settings by which a server takes an emulator in another process for Apple and Google. */
import type { Emulator } from "../gateways/emulator/emulator.ts";

/** What `tocsin emulator --json` prints when it is open. */
export type EmulatorRecord = Emulator["address"] & Pick<Emulator, "credentials">;

export function emulatorSettings({
  fcmUrl,
  apnsUrl,
  credentials,
}: Omit<EmulatorRecord, "url">): Readonly<Record<string, string>> {
  return {
    TOCSIN_PUSH: "services",
    TOCSIN_PUSH_CA_FILE: credentials.caFile,
    TOCSIN_FCM_URL: fcmUrl,
    TOCSIN_FCM_SERVICE_ACCOUNT_FILE: credentials.serviceAccountFile,
    TOCSIN_APNS_URL: apnsUrl,
    TOCSIN_APNS_KEY_FILE: credentials.apnsKeyFile,
    TOCSIN_APNS_KEY_ID: credentials.apnsKeyId,
    TOCSIN_APNS_TEAM_ID: credentials.apnsTeamId,
    TOCSIN_APNS_TOPIC: credentials.apnsTopic,
  };
}
