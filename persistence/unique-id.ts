/**
 * The id of a message, derived from what makes it that message: host system and trackingId give the first 8 bytes,
 * destination, dateTime, text and choices the last 8. The same document again finds the same row by its primary key, and
 * all pages under one trackingId stand side by side in it. Keyed with the installation's own secret, so that an id in a log
 * or a push cannot be used to test a guess at the text.
 */
import { createHmac } from "node:crypto";
import type { HostSystemId, UniqueId } from "../domain.ts";

export type PageIdentity = {
  readonly hostSystemId: HostSystemId;
  readonly trackingId: string;
  readonly destination: string;
  /** messageControls/dateTime as the host wrote it. */
  readonly sentAtText: string;
  readonly text: string;
  readonly responseChoices: readonly string[];
};

export type PageDigest = {
  readonly uniqueId: UniqueId;
  /** Hex of the whole content digest; two pages are the same only if this agrees too. */
  readonly digest: string;
};

export function digestOf(page: PageIdentity, messageKey: string): PageDigest {
  const thread = hash(messageKey, [page.hostSystemId, page.trackingId]);
  const content = hash(messageKey, [page.destination, page.sentAtText, page.text, ...page.responseChoices]);
  return { uniqueId: `${prefix(thread)}${suffix(content)}` as UniqueId, digest: content.toString("hex") };
}

/** The first and last id a page of this host system and trackingId can have. */
export function idRange(
  hostSystemId: HostSystemId,
  trackingId: string,
  messageKey: string,
): { first: UniqueId; last: UniqueId } {
  const start = prefix(hash(messageKey, [hostSystemId, trackingId]));
  return { first: `${start}0000-000000000000` as UniqueId, last: `${start}ffff-ffffffffffff` as UniqueId };
}

function hash(key: string, parts: readonly string[]): Buffer {
  const hmac = createHmac("sha256", key);
  // Lengths first, so that no shifting of characters between fields gives the same bytes.
  for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part);
  return hmac.digest();
}

/** Version 8 (RFC 9562 section 5.8: the maker's own scheme) in the place a UUID states it. */
function prefix(thread: Buffer): string {
  const hex = thread.toString("hex", 0, 8);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-`;
}

function suffix(content: Buffer): string {
  const hex = content.toString("hex", 0, 8);
  const variant = ((Number.parseInt(hex[0]!, 16) & 0x3) | 0x8).toString(16);
  return `${variant}${hex.slice(1, 4)}-${hex.slice(4, 16)}`;
}
