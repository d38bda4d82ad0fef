/** What Tocsin tells a host about a page (seed, steps 2.1, 2.3, 2.5 and 3.6), and how a host reads it. */
import { STATUS_TEXTS, type StatusText } from "../../domain.ts";
import type { NotificationEncoding } from "../../persistence/host-systems.ts";
import { readDateTime } from "./date-time.ts";
import { childrenOf, type Element } from "./elements.ts";
import { bytesFor, declarationFor, leaf } from "./markup.ts";
import { readTree } from "./tree.ts";

export type Notification = {
  /** The host system's name, as in its page's header. */
  readonly origin: string;
  /** The destination of the page. */
  readonly source: string;
  readonly trackingId: string;
  readonly systemId: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly status: StatusText;
  /** Written as `status/statusReason`; null leaves the element out, as strict hosts need it. */
  readonly reason: string | null;
};

/** One document, nothing before its declaration (or mark) and nothing after its root. */
export function renderNotification(notification: Notification, encoding: NotificationEncoding): Buffer {
  const { origin, source, trackingId, systemId, at, status, reason } = notification;
  // Four of these are written for each page, so the layout of `markup.ts` is spelled out here.
  const xml =
    `${declarationFor(encoding)}\n` +
    "<amcomMessage>\n    <header>\n" +
    `        ${leaf("origin", origin)}\n    </header>\n    <messageNotification>\n        <originator>\n` +
    `            ${leaf("source", source)}\n        </originator>\n        <conversationId>\n` +
    `            ${leaf("trackingId", trackingId)}\n            ${leaf("systemId", systemId)}\n        </conversationId>\n` +
    `        <status>\n            <dateTime>${new Date(at).toISOString()}</dateTime>\n` +
    `            <statusText>${status}</statusText>\n` +
    (reason === null ? "" : `            ${leaf("statusReason", reason)}\n`) +
    "        </status>\n    </messageNotification>\n</amcomMessage>";
  return bytesFor(xml, encoding);
}

/** A framed document as a notification; null where it is something else, or its status or date is not one. */
export function readNotification(xml: string): Notification | null {
  const root = readTree(xml);
  if (root?.name !== "amcomMessage") return null;
  const body = only(root, "messageNotification");
  const status = only(body, "status");
  const statusText = STATUS_TEXTS.find((text) => text === only(status, "statusText")?.text);
  const at = readDateTime(only(status, "dateTime")?.text ?? "");
  if (statusText === undefined || at === null) return null;
  const conversation = only(body, "conversationId");
  return {
    origin: only(only(root, "header"), "origin")?.text ?? "",
    source: only(only(body, "originator"), "source")?.text ?? "",
    trackingId: only(conversation, "trackingId")?.text ?? "",
    systemId: only(conversation, "systemId")?.text ?? "",
    at,
    status: statusText,
    reason: only(status, "statusReason")?.text ?? null,
  };
}

function only(element: Element | null, name: string): Element | null {
  const [first, ...more] = childrenOf(element, name);
  return first === undefined || more.length > 0 ? null : first;
}
