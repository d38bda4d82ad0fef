/**
 * What a person replied, as a host hears it: a newMessage the other way round. It has every field of the seed's, in its order, and
 * the page's conversationId, by which the host knows what it answers; those that say nothing of a reply are empty, or 0.
 */
import type { HostSystem } from "../../persistence/host-systems.ts";
import type { News } from "../../persistence/outbox.ts";
import { bytesFor, declarationFor } from "./markup.ts";
import { renderNewMessage } from "./new-message.ts";

export type Reply = News & { readonly kind: "reply" };

/** What a reply is among the messageTypes. */
export const REPLY_TYPE = "Reply";

export function renderReply(
  { origin, trackingId, systemId, at, reply }: Omit<Reply, "id" | "written" | "uniqueId">,
  { encoding, priorities }: Pick<HostSystem, "encoding" | "priorities">,
): Buffer {
  const own = Object.entries(priorities ?? {}).find(([, word]) => word === reply.priority)?.[0];
  const page = {
    origin,
    trackingId,
    systemId,
    fromId: reply.destination,
    fromName: reply.name,
    deviceId: reply.deviceId,
    conversationId: reply.conversationId,
    siteId: reply.siteId,
    messageType: REPLY_TYPE,
    // On the host system's own scale, where it has one.
    priority: own ?? reply.priority,
    sentAt: at,
    timeoutDeviceSeconds: 0,
    timeoutUserSeconds: 0,
    controls: CONTROLS,
    // Of one who did not say who he is the host system itself.
    destination: reply.toId.trim() === "" ? systemId : reply.toId,
    text: reply.text,
  };
  return bytesFor(renderNewMessage(page, declarationFor(encoding)), encoding);
}

const CONTROLS = {
  beepCode: "",
  messageVersion: "1",
  deviceType: "",
  deviceBrand: "",
  deviceOS: "",
  devicePort: "",
  deviceCarrier: "",
};
