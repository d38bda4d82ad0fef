/** A page as a phone gets it: AmcMessage of seed 3.4, and what newer clients ask for besides (`v: 3`). Pure. */
import { PRIORITIES, rankOf } from "../../domain.ts";
import type { WaitingPage } from "../../persistence/inbox.ts";

export type AmcMessage = {
  readonly UniqueId: string;
  /** When the host sent it, ISO 8601 UTC. */
  readonly Date: string;
  readonly Text: string;
  /** 0 unread, 1 read, 2 answered. */
  readonly Status: 0 | 1 | 2;
  readonly SiteId: string;
  readonly ConversationId: string;
  readonly CallbackNumber: string;
  /** 1 high, 2 medium, 3 low. */
  readonly Priority: number;
  readonly MessageType: string;
  readonly Assets: readonly [];
  readonly From: { readonly Id: string; readonly Name: string; readonly ContactId: string };
  readonly ResponseChoices?: readonly string[];
  readonly ReceivedAt?: string;
  /** The host was told that it failed before it was fetched. */
  readonly Late?: boolean;
  readonly ExpiresAt?: string;
};

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
    ResponseChoices: page.responseChoices,
    ReceivedAt: page.acceptedAt.toISOString(),
    Late: page.outcome !== null,
    ExpiresAt: page.expiresAt.toISOString(),
  };
}
