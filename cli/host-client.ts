/** What a host system sends: a page as bytes. The same codecs as the server's, so a page may hold anything XML can. */
import { randomBytes } from "node:crypto";
import { type Draft, renderNewMessage } from "../gateways/mxpp/new-message.ts";

export const HOST_ENCODINGS = ["utf-8", "utf-16"] as const;
export type HostEncoding = (typeof HOST_ENCODINGS)[number];

/** `utf-16`: little-endian with its byte-order mark, and declared so. */
export function encodePage(page: Draft, encoding: HostEncoding = "utf-8"): Buffer {
  const xml = renderNewMessage(page);
  if (encoding === "utf-8") return Buffer.from(xml, "utf8");
  return Buffer.from(`\uFEFF${xml.replace('encoding="UTF-8"', 'encoding="UTF-16"')}`, "utf16le");
}

/** 64 bits of chance: a host's trackingIds need only differ from each other. */
export function freshTrackingId(): string {
  return randomBytes(8).toString("hex");
}
