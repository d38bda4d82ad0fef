/**
 * A phone's side of client messaging (CONTRACT: Client messaging; seed, step 3.4): registers a device, fetches its pages, and
 * reports what became of them. One call, one request: what to do when one fails is the caller's.
 */
import { randomBytes, randomUUID } from "node:crypto";
import type { GatewayType, Receipt } from "../domain.ts";
import { type JsonAnswer, requestJson } from "../gateways/json-request.ts";

/** What a phone keeps between its runs. `deviceToken` is a secret. */
export type Registration = {
  readonly destination: string;
  readonly vendorId: string;
  readonly deviceToken: string;
  readonly notificationAddress: string;
  readonly gatewayType: GatewayType;
  readonly confirms: boolean;
};

/** As in the seed; what `v: 3` adds is optional. Dates as the server writes them. */
export type AmcMessage = {
  readonly UniqueId: string;
  readonly Date: string;
  readonly Text: string;
  readonly Status: number;
  readonly SiteId: string;
  readonly ConversationId: string;
  readonly CallbackNumber: string | null;
  readonly Priority: string | number;
  readonly MessageType: string;
  readonly From: { readonly Id: string; readonly Name: string; readonly ContactId: string | null };
  readonly ResponseChoices?: readonly string[];
  readonly ReceivedAt?: string;
  readonly Late?: boolean;
  readonly ExpiresAt?: string;
};

/** What the phone is to know of a page it may show: RECALLED, EXPIRED, or ANSWERED by another phone of its person. */
export type Notice = {
  readonly NoticeId: string;
  readonly UniqueId: string;
  readonly Kind: string;
  readonly Answer?: string;
  readonly At: string;
};

export type PhoneServer = { readonly url: string; readonly ca?: string | Buffer | undefined };

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

/** The server answered, and not with success. HTTP 401: the registration is not valid (any more). */
export class PhoneRefused extends Error {
  readonly httpStatus: number;
  /** `ResponseCode`; null where the answer was no answer of client messaging. */
  readonly responseCode: number | null;
  /** Milliseconds the server asks to wait. */
  readonly retryAfterMs: number | null;
  constructor(operation: string, { status, headers, body }: JsonAnswer) {
    const { ResponseCode, ResponseDescription } = (body ?? {}) as {
      ResponseCode?: unknown;
      ResponseDescription?: unknown;
    };
    const description = typeof ResponseDescription === "string" ? `: ${ResponseDescription}` : "";
    super(`${operation} was refused (HTTP ${status}${description})`);
    this.name = "PhoneRefused";
    this.httpStatus = status;
    this.responseCode = typeof ResponseCode === "number" ? ResponseCode : null;
    const seconds = Number(headers["retry-after"]);
    this.retryAfterMs = Number.isFinite(seconds) && headers["retry-after"] !== undefined ? seconds * 1_000 : null;
  }
}

/** @throws PhoneRefused, or the connection's own error. */
async function call(server: PhoneServer, token: string | null, operation: string, body: object): Promise<object> {
  const answer = await requestJson({
    method: "POST",
    url: `${server.url.replace(/\/$/, "")}/ClientMessaging/V2/${operation}`,
    bearer: token,
    body,
    ca: server.ca,
  });
  const fields = answer.body as { ResponseCode?: unknown } | null;
  if (answer.status !== 200 || fields === null || fields.ResponseCode !== 0) throw new PhoneRefused(operation, answer);
  return fields;
}

export async function register(server: PhoneServer, request: RegisterRequest): Promise<Registration> {
  const { siteId, destination, registrationCode, gatewayType, confirms = true } = request;
  const notificationAddress = request.notificationAddress ?? freshAddress(gatewayType);
  const apple = gatewayType === "APNS";
  const answer = (await call(server, null, "Register", {
    siteId,
    destination,
    registrationCode,
    deviceType: apple ? "IOS" : "ANDROID",
    deviceOS: apple ? "iOS 26.1" : "Android 16",
    clientVersion: "0.1.0",
    notificationAddress,
    gatewayType,
    confirms,
  })) as { VendorId: string; DeviceToken: string };
  const { VendorId: vendorId, DeviceToken: deviceToken } = answer;
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
export function phoneClient(
  server: () => PhoneServer,
  { vendorId, deviceToken, gatewayType }: Registration,
): PhoneClient {
  const ask = (operation: string, fields: object) => call(server(), deviceToken, operation, { vendorId, ...fields });
  return {
    async getMessages(confirm = []) {
      const answer = (await ask("GetMessages", { v: 3, ...(confirm.length > 0 ? { confirm } : {}) })) as {
        Messages?: readonly AmcMessage[];
        More?: boolean;
        Notices?: readonly Notice[];
      };
      return { messages: answer.Messages ?? [], more: answer.More === true, notices: answer.Notices ?? [] };
    },
    async setStatus(statuses) {
      await ask("SetStatus", { statuses });
    },
    async reply(report) {
      const { Result } = (await ask("Reply", report)) as { Result?: string };
      return Result === "recorded";
    },
    async updateNotificationAddress(notificationAddress) {
      await ask("UpdateNotificationAddress", { notificationAddress, gatewayType });
    },
    async unregister() {
      await ask("Unregister", {});
    },
  };
}

export function replyReport(uniqueId: string, words: { text: string } | { choice: string }): ReplyReport {
  return { uniqueId, at: new Date().toISOString(), clientId: randomUUID(), ...words };
}

export function receiptReport(uniqueId: string, status: Receipt): ReceiptReport {
  return { uniqueId, status, at: new Date().toISOString(), clientId: randomUUID() };
}
