/** FCM's look at a message (HTTP v1 `Message`): the first fault found, named by its field. */
import { isRecord } from "./body.ts";

export type MessageFault = { readonly code: "INVALID_ARGUMENT"; readonly message: string; readonly field: string };

const MAX_PAYLOAD_BYTES = 4096;
const MAX_TTL_S = 28 * 86_400;
const TARGETS = ["token", "fid", "topic", "condition"] as const;
const FIELDS = new Set<string>([
  ...TARGETS,
  "name",
  "data",
  "notification",
  "android",
  "webpush",
  "apns",
  "fcm_options",
]);
const RESERVED_KEY = /^(from|message_type|google.*|gcm.*)$/;

export function wrongMessage(message: Readonly<Record<string, unknown>>): MessageFault | null {
  const wrong = (field: string, text: string): MessageFault => ({ code: "INVALID_ARGUMENT", message: text, field });
  const strange = Object.keys(message).find((name) => !FIELDS.has(name));
  if (strange !== undefined) return wrong(`message.${strange}`, "Unknown name.");
  const targets = TARGETS.filter((name) => message[name] !== undefined);
  const [target] = targets;
  if (target === undefined || targets.length > 1) return wrong("message", "Exactly one target is required.");
  const named = message[target];
  if (typeof named !== "string" || named === "") return wrong(`message.${target}`, "The target is not valid.");
  const { data = {}, android = {} } = message;
  if (!isRecord(data) || Object.values(data).some((value) => typeof value !== "string")) {
    return wrong("message.data", "Keys and values of data are strings.");
  }
  const reserved = Object.keys(data).find((key) => RESERVED_KEY.test(key));
  if (reserved !== undefined) return wrong(`message.data.${reserved}`, "Invalid data payload key.");
  if (!isRecord(android)) return wrong("message.android", "Not an object.");
  const { priority = "NORMAL", ttl = "0s" } = android;
  if (typeof priority !== "string" || !/^(normal|high)$/i.test(priority)) {
    return wrong("message.android.priority", "Invalid priority.");
  }
  const seconds = typeof ttl === "string" ? /^(\d{1,10})(\.\d{1,9})?s$/.exec(ttl)?.[1] : undefined;
  if (seconds === undefined || Number(seconds) > MAX_TTL_S)
    return wrong("message.android.ttl", "Invalid time to live.");
  const bytes = Buffer.byteLength(JSON.stringify({ data, notification: message.notification }));
  return bytes > MAX_PAYLOAD_BYTES ? wrong("message", "Message is too big.") : null;
}
