/** From a host's newMessage to a page that can be accepted: what the host system's own settings make of it. Pure. */
import { canonicalDestination, type LinkId } from "../../domain.ts";
import type { PageToAccept } from "../../persistence/acceptance.ts";
import type { HostSystem } from "../../persistence/host-systems.ts";
import { SYNTHETIC_ADDRESS, SYNTHETIC_EXPIRY_SECONDS } from "../../persistence/synthetic.ts";
import { digestOf } from "../../persistence/unique-id.ts";
import type { NewMessage } from "./new-message.ts";
import { canonicalPriority } from "./priority.ts";

/** Where the host says nothing (the seed's own values). */
const DEVICE_SECONDS = 120;
const USER_SECONDS = 300;
/** How long a page stays fetchable; the seed's time_to_live. */
export const EXPIRY_SECONDS = 259_200;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function pageToAccept(
  message: NewMessage,
  host: HostSystem,
  linkId: LinkId,
  messageKey: string,
):
  | { readonly kind: "page"; readonly page: Omit<PageToAccept, "arrivedAt" | "retry"> }
  | { readonly kind: "refused"; readonly reason: string } {
  const priority = canonicalPriority(message.priority, host.priorities);
  if (priority === null) return { kind: "refused", reason: "priority is not one of this host system's" };
  const identity = digestOf({ ...message, hostSystemId: host.id }, messageKey);
  return {
    kind: "page",
    page: {
      ...identity,
      hostSystemId: host.id,
      tenantId: host.tenantId,
      siteId: host.siteId,
      linkId,
      origin: message.origin,
      trackingId: message.trackingId,
      systemId: message.systemId,
      destination: message.destination,
      address: host.synthetic ? SYNTHETIC_ADDRESS : canonicalDestination(message.destination),
      deviceId: message.deviceId !== null && UUID.test(message.deviceId) ? message.deviceId : null,
      conversationId: message.conversationId,
      hostSiteId: message.siteId,
      fromId: message.fromId,
      fromName: message.fromName,
      messageType: message.messageType,
      priority,
      sentAt: message.sentAt,
      text: message.text,
      responseChoices: message.responseChoices,
      controls: message.controls,
      // 0 is how a host says that it sets no limit.
      timeoutDeviceSeconds:
        message.timeoutDeviceSeconds === 0 ? null : (message.timeoutDeviceSeconds ?? DEVICE_SECONDS),
      timeoutUserSeconds:
        asksForAnswer(message) && message.timeoutUserSeconds !== 0
          ? (message.timeoutUserSeconds ?? USER_SECONDS)
          : null,
      expirySeconds: host.synthetic ? SYNTHETIC_EXPIRY_SECONDS : EXPIRY_SECONDS,
      synthetic: host.synthetic,
    },
  };
}

/** Alerts ask for Accept or Decline, chats do not; a page with choices asks whatever its type. */
function asksForAnswer(message: NewMessage): boolean {
  return message.messageType.trim().toLowerCase() === "alert" || message.responseChoices.length > 0;
}
