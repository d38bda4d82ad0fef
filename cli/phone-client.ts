/** A phone's registration and single calls, by the client for TypeScript (sdk/): what to do when one fails is the caller's. */
import { randomBytes, randomUUID } from "node:crypto";
import type { GatewayType, Receipt } from "../domain.ts";
import {
  type AmcMessage,
  type Notice,
  openCalls,
  openServerTime,
  type Registration as SdkRegistration,
} from "../sdk/index.ts";
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

export type ReceiptReport = {
  readonly uniqueId: string;
  readonly status: Receipt;
  /** ISO 8601. */
  readonly at: string;
  /** The phone's own id of this report: the same again is a repeat. */
  readonly clientId: string;
};

export type ReplyReport = {
  readonly uniqueId: string;
  readonly clientId: string;
  readonly at: string;
} & ({ readonly text: string } | { readonly choice: string });

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

export type PhoneClient = {
  /** Confirms what is in `confirm`, pages (DELIVERED for devices that confirm) and notices, and answers with what waits. */
  getMessages(confirm?: readonly string[]): Promise<{
    readonly messages: readonly AmcMessage[];
    readonly more: boolean;
    readonly notices: readonly Notice[];
  }>;
  setStatus(reports: readonly ReceiptReport[]): Promise<void>;
  /** Whether it was new to the server. */
  reply(report: ReplyReport): Promise<boolean>;
  updateNotificationAddress(notificationAddress: string): Promise<void>;
  unregister(): Promise<void>;
};

/** @param server asked before every call: a server that starts again may listen elsewhere. */
export function phoneClient(server: () => PhoneServer, registration: Registration): PhoneClient {
  const { call } = callsOf(server, registration);
  return {
    async getMessages(confirm = []) {
      const answer = await call("GetMessages", { v: 3, ...(confirm.length > 0 ? { confirm } : {}) });
      return { messages: answer.Messages, more: answer.More, notices: answer.Notices ?? [] };
    },
    async setStatus(statuses) {
      await call("SetStatus", { statuses });
    },
    async reply(report) {
      return (await call("Reply", report)).Result === "recorded";
    },
    async updateNotificationAddress(notificationAddress) {
      await call("UpdateNotificationAddress", { notificationAddress, gatewayType: registration.gatewayType });
    },
    async unregister() {
      await call("Unregister", {});
    },
  };
}

export function replyReport(uniqueId: string, words: { text: string } | { choice: string }): ReplyReport {
  return { uniqueId, at: new Date().toISOString(), clientId: randomUUID(), ...words };
}

function callsOf(server: () => PhoneServer, identity: Registration | null) {
  return openCalls({
    fetch: fetchFrom(server),
    servers: () => [server().url],
    identity: () => identity,
    time: openServerTime(),
  });
}

export function receiptReport(uniqueId: string, status: Receipt): ReceiptReport {
  return { uniqueId, status, at: new Date().toISOString(), clientId: randomUUID() };
}
