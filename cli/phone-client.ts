/** A phone's registration and single calls, by the client for TypeScript (sdk/): what to do when one fails is the caller's. */
import { randomBytes } from "node:crypto";
import type { GatewayType } from "../domain.ts";
import { type Calls, openCalls, openServerTime, type Registration as SdkRegistration } from "../sdk/index.ts";
import { fetchFrom, type PhoneServer } from "./phone-transport.ts";

/** What a phone keeps between its runs. `deviceToken` is a secret. */
export type Registration = SdkRegistration & { readonly destination: string; readonly gatewayType: GatewayType };

export type RegisterRequest = {
  readonly siteId: string;
  readonly destination: string;
  readonly registrationCode: string;
  readonly gatewayType: GatewayType;
  readonly confirms?: boolean;
  /** By default a fresh one of the gateway's form. */
  readonly notificationAddress?: string;
};

/** @throws ServerRefused, Unreachable */
export async function register(server: PhoneServer, request: RegisterRequest): Promise<Registration> {
  const { siteId, destination, registrationCode, gatewayType, confirms = true } = request;
  const notificationAddress = request.notificationAddress ?? freshAddress(gatewayType);
  const apple = gatewayType === "APNS";
  const { VendorId: vendorId, DeviceToken: deviceToken } = await callsOf(() => server, null).call("Register", {
    siteId,
    destination,
    registrationCode,
    deviceType: apple ? "IOS" : "ANDROID",
    deviceOS: apple ? "iOS 26.1" : "Android 16",
    clientVersion: "0.1.0",
    notificationAddress,
    gatewayType,
    confirms,
  });
  return { destination, vendorId, deviceToken, notificationAddress, gatewayType, confirms };
}

/** A device token of APNs is 32 bytes in hexadecimal; FCM's are longer, and opaque. */
export function freshAddress(gatewayType: GatewayType): string {
  if (gatewayType === "APNS") return randomBytes(32).toString("hex");
  return `${randomBytes(16).toString("base64url")}:APA91b${randomBytes(96).toString("base64url")}`;
}

/** @param server asked before every call: a server that starts again may listen elsewhere. */
export function callsOf(server: () => PhoneServer, identity: Registration | null): Calls {
  return openCalls({
    fetch: fetchFrom(server),
    servers: () => [server().url],
    identity: () => identity,
    time: openServerTime(),
  });
}
