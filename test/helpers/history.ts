/**
 * What hosts and phones saw of every page, and whether it may have been so. Sees nothing but what they see: no row, no log.
 *
 * A page that was ACCEPTED reaches its phone; a reply the server took reaches its host, behind READ; every status of a page is told, in order and once on a connection; what a broken
 * connection may bring again it brings from a rung on, in order; nothing reaches a phone that no host sent, and no page has
 * two ids there.
 */
import { rises } from "../../cli/told-order.ts";
import type { StatusText } from "../../domain.ts";

export type PageHistory = {
  readonly trackingId: string;
  readonly text: string;
  readonly phone: number;
  /** When it was first sent and first ACCEPTED, by `performance.now`. */
  readonly sentAt: number;
  acceptedAt: number | null;
  /** Connections on which the page was sent, by their number. More than one: no ACCEPTED had come by then. */
  readonly sentOn: number[];
  readonly heard: { readonly connection: number; readonly status: StatusText; readonly reason: string | null }[];
  /** UniqueIds under which its text was shown, by phone. */
  readonly shown: { readonly phone: number; readonly uniqueId: string }[];
  /** Whether the server has taken its phone's reply, how often its host heard that, and whether READ had come by the first time. */
  replied: boolean;
  repliesHeard: number;
  repliedUnread: boolean;
};

export type History = {
  readonly pages: ReadonlyMap<string, PageHistory>;
  sent(trackingId: string, text: string, phone: number, connection: number): void;
  heard(trackingId: string, connection: number, status: StatusText, reason: string | null): void;
  shown(text: string, uniqueId: string, phone: number): void;
  replied(uniqueId: string): void;
  heardReply(trackingId: string): void;
  /** Pages a host heard ACCEPTED of that no phone has shown, or whose READ, or whose phone's reply, the host has not heard. */
  unfinished(): readonly PageHistory[];
  accepted(): number;
  /** What was told or shown out of order or twice, as sentences; may be asked while work is under way. */
  disorders(): readonly string[];
  /** Everything that may not have been so, once all is done, as sentences. Empty when all is well. */
  faults(): readonly string[];
};

export function openHistory(): History {
  const pages = new Map<string, PageHistory>();
  const byText = new Map<string, PageHistory>();
  const strays: string[] = [];

  const accepted = (page: PageHistory) => page.heard.some(({ status }) => status === "ACCEPTED");
  const read = (page: PageHistory) => page.heard.some(({ status }) => status === "READ");
  const done = (page: PageHistory) => page.shown.length > 0 && read(page) && (!page.replied || page.repliesHeard > 0);
  const byId = new Map<string, PageHistory>();

  return {
    pages,
    sent(trackingId, text, phone, connection) {
      const known = pages.get(trackingId);
      if (known !== undefined) return void known.sentOn.push(connection);
      const sentAt = performance.now();
      const replies = { replied: false, repliesHeard: 0, repliedUnread: false };
      const page = {
        trackingId,
        text,
        phone,
        sentAt,
        acceptedAt: null,
        sentOn: [connection],
        heard: [],
        shown: [],
        ...replies,
      };
      pages.set(trackingId, page);
      byText.set(text, page);
    },
    heard(trackingId, connection, status, reason) {
      const page = pages.get(trackingId);
      if (page === undefined) return void strays.push(`a host heard ${status} of ${trackingId}, which it never sent`);
      if (status === "ACCEPTED") page.acceptedAt ??= performance.now();
      page.heard.push({ connection, status, reason });
    },
    shown(text, uniqueId, phone) {
      const page = byText.get(text);
      if (page === undefined) return void strays.push(`phone ${phone} showed a page no host sent`);
      page.shown.push({ phone, uniqueId });
      byId.set(uniqueId, page);
    },
    replied(uniqueId) {
      byId.get(uniqueId)!.replied = true;
    },
    heardReply(trackingId) {
      const page = pages.get(trackingId);
      if (page === undefined) return void strays.push(`a host heard a reply to ${trackingId}, which it never sent`);
      if (page.repliesHeard === 0) page.repliedUnread = !read(page);
      page.repliesHeard += 1;
    },
    unfinished: () => [...pages.values()].filter((page) => accepted(page) && !done(page)),
    accepted: () => [...pages.values()].filter(accepted).length,
    disorders: () => [...strays, ...[...pages.values()].flatMap(disordersOf)],
    faults() {
      const faults = [...strays];
      for (const page of pages.values()) {
        if (accepted(page) && page.shown.length === 0) faults.push(`${page.trackingId} was ACCEPTED and never shown`);
        if (page.shown.length > 0 && !accepted(page)) faults.push(`${page.trackingId} was shown and never ACCEPTED`);
        if (page.replied && page.repliesHeard === 0) faults.push(`the reply to ${page.trackingId} was never told`);
        const failed = page.heard.find(({ status }) => status === "FAILED");
        if (failed !== undefined) faults.push(`${page.trackingId} FAILED: ${failed.reason}`);
        // The answer to a repeat takes the place of what was not told before it.
        if (accepted(page) && page.sentOn.length === 1 && !page.heard.some(({ status }) => status === "QUEUED"))
          faults.push(`${page.trackingId} was never told QUEUED`);
        faults.push(...disordersOf(page));
      }
      return faults;
    },
  };
}

function disordersOf(page: PageHistory): string[] {
  const faults: string[] = [];
  if (page.shown.some(({ phone }) => phone !== page.phone))
    faults.push(`${page.trackingId} was shown on another's phone`);
  if (page.shown.length > 1)
    faults.push(
      `${page.trackingId} was shown ${page.shown.length} times (${new Set(page.shown.map(({ uniqueId }) => uniqueId)).size} ids)`,
    );

  if (page.repliedUnread) faults.push(`the reply to ${page.trackingId} was told before its READ`);
  const connections = new Map<number, StatusText[]>();
  for (const { connection, status } of page.heard)
    connections.set(connection, [...(connections.get(connection) ?? []), status]);
  for (const [connection, statuses] of connections) {
    if (!rises(statuses, page.sentOn.length - 1))
      faults.push(`${page.trackingId} on connection ${connection} was told ${statuses.join(", ")}`);
  }
  return faults;
}
