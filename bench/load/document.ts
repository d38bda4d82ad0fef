/** The pages of a load as the bytes that are sent: every element of the seed's newMessage, about 110 characters of text. */

import type { Priority } from "../../domain.ts";
import { renderNewMessage } from "../../gateways/mxpp/new-message.ts";

export type BenchPage = {
  readonly origin: string;
  readonly trackingId: string;
  readonly destination: string;
  readonly priority: Priority;
  readonly text: string;
};

export function benchPage(page: Omit<BenchPage, "text">): BenchPage {
  return {
    ...page,
    text: `Bed 12, ward 7B: potassium 6.8 mmol/l, verified twice. Call the laboratory at once. Ref ${page.trackingId}`,
  };
}

/** By which a phone's page is known: of trackingIds phones are told nothing. */
export function trackingIdIn(text: string): string {
  return text.slice(text.lastIndexOf(" ") + 1);
}

/** No alert: nobody is asked for an answer, so the page's way ends at DELIVERED. */
export function documentOf(page: BenchPage): Buffer {
  return Buffer.from(
    renderNewMessage({
      ...page,
      systemId: page.origin,
      deviceId: "",
      conversationId: "4711",
      siteId: "1",
      fromId: "-17",
      fromName: "Laboratory",
      messageType: "Message",
      sentAt: Date.UTC(2026, 0, 1, 12),
      timeoutDeviceSeconds: 0,
      timeoutUserSeconds: 0,
      controls: {
        beepCode: "1",
        messageVersion: "1",
        deviceType: "",
        deviceBrand: "",
        deviceOS: "",
        devicePort: "",
        deviceCarrier: "",
      },
      outputGateway: "AMC",
    }),
  );
}
