/** What a phone has: fetches until nothing more waits, hands each page and each notice on once, and confirms it only then. */
import { setTimeout as sleep } from "node:timers/promises";
import type { AmcMessage, Notice, PhoneClient } from "./phone-client.ts";

export type Inbox = {
  /**
   * Resolves when nothing waits any more; one at a time. Rejects as the client does: what was handed on stays, and is
   * confirmed by the next.
   */
  fetch(): Promise<void>;
};

/** A server that hands out the same for ever must not keep the phone busy for ever. */
const ROUNDS_MAX = 1_000;
const SAME_AGAIN_MS = 100;
const SEEN_MAX = 10_000;

/** @param confirms whether the device was registered so: DELIVERED is then what it confirms. */
export function makeInbox(
  client: PhoneClient,
  confirms: boolean,
  onPage: (page: AmcMessage) => void,
  onNotice: (notice: Notice) => void = () => {},
): Inbox {
  const seen = new Set<string>();
  const unconfirmed = new Set<string>();

  /** Whether it is new. */
  function see(id: string): boolean {
    if (seen.has(id)) return false;
    seen.add(id);
    const [oldest] = seen;
    if (seen.size > SEEN_MAX && oldest !== undefined) seen.delete(oldest);
    return true;
  }

  function take(page: AmcMessage): void {
    if (confirms) unconfirmed.add(page.UniqueId);
    if (see(page.UniqueId)) onPage(page);
  }

  function heed(notice: Notice): void {
    unconfirmed.add(notice.NoticeId);
    if (see(notice.NoticeId)) onNotice(notice);
  }

  return {
    async fetch() {
      for (let round = 0; round < ROUNDS_MAX; round++) {
        const confirming = [...unconfirmed];
        const { messages, more, notices } = await client.getMessages(confirming);
        for (const id of confirming) unconfirmed.delete(id);
        const before = seen.size;
        for (const page of messages) take(page);
        for (const notice of notices) heed(notice);
        if (unconfirmed.size === 0 && !more) return;
        // A server without `confirm` counts a page as fetched a moment after its answer was taken.
        if (!confirms && seen.size === before) await sleep(SAME_AGAIN_MS);
      }
    },
  };
}
