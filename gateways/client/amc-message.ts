/** A page as a phone gets it, from its row. Pure. */
import { PRIORITIES, rankOf } from "../../domain.ts";
import type { WaitingPage } from "../../persistence/inbox.ts";
import type { AmcMessage } from "./answer-bodies.ts";

export function amcMessage(page: WaitingPage, version: number): AmcMessage {
  const seed: AmcMessage = {
    UniqueId: page.uniqueId,
    Date: page.sentAt.toISOString(),
    Text: page.text,
    Status: page.answer !== null ? 2 : page.status >= rankOf("READ") ? 1 : 0,
    SiteId: page.hostSiteId,
    ConversationId: page.conversationId,
    // MXPP has no field for it; the seed's answer does.
    CallbackNumber: "",
    Priority: PRIORITIES.indexOf(page.priority) + 1,
    MessageType: page.messageType,
    Assets: [],
    From: { Id: page.fromId, Name: page.fromName, ContactId: "" },
  };
  if (version < 3) return seed;
  return {
    ...seed,
    ResponseChoices: [...page.responseChoices],
    ReceivedAt: page.acceptedAt.toISOString(),
    Late: page.outcome !== null,
    ExpiresAt: page.expiresAt.toISOString(),
  };
}
