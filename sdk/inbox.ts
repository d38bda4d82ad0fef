/**
 * What a phone has been given: each page is handed on once, kept, and confirmed only then; what has become of it later, likewise.
 *
 *   given ── handed on ──► kept ── confirmed ──► the server has it: never given again
 *              └── not taken ──► given again at the next look
 *
 * What was kept when the phone died is given again, known by its UniqueId, and confirmed.
 */
import type { Calls } from "./calls.ts";
import type { AmcMessage, Notice } from "./schema.ts";
import type { ClientStorage } from "./storage.ts";

/** `notice`: what has become of it behind this phone's back, if anything. */
export type KeptPage = { readonly page: AmcMessage; readonly notice: Notice | null };

/** A page by its `uniqueId`, a notice by its `noticeId`. */
export type Kept = { readonly uniqueId: string } | { readonly noticeId: string };

export type InboxEvents = {
  /** It counts as kept when this has resolved. */
  onPage(page: AmcMessage): void | Promise<void>;
  onNotice(notice: Notice): void | Promise<void>;
  /** The server has settings of this version. */
  onSettings(version: number): void;
  onFault(fault: unknown): void;
};

export type Inbox = {
  /** Asks for what waits, until nothing more does. False: some was not taken. @throws as `call` does */
  fetch(): Promise<boolean>;
  /** One after the other. False: it was not taken. */
  take(page: AmcMessage): Promise<boolean>;
  notice(notice: Notice): Promise<boolean>;
  /** What is kept, and not yet confirmed. */
  unconfirmed(): readonly Kept[];
  confirmed(ids: readonly string[]): void;
  pages(): readonly KeptPage[];
  page(uniqueId: string): KeptPage | null;
  /** 1 read, 2 answered. */
  marks(uniqueId: string, status: 1 | 2): Promise<void>;
};

const PREFIX = "page/";
/** A server that hands out the same for ever must not keep the phone busy for ever. */
const ROUNDS_MAX = 1_000;
const SAME_AGAIN_MS = 100;
const SEEN_MAX = 10_000;
const PAGES_MAX = 500;
/** As many as one call may name. */
const CONFIRMS_MAX = 500;

export async function openInbox(
  ports: {
    readonly calls: Calls;
    readonly storage: ClientStorage;
    confirms(): boolean;
    /** Of the settings this device has. */
    settingsVersion(): number | null;
  },
  events: InboxEvents,
): Promise<Inbox> {
  const { calls, storage, confirms } = ports;
  const pages = new Map<string, KeptPage>();
  const seen = new Set<string>();
  const unconfirmed = new Map<string, Kept>();
  let last: Promise<unknown> = Promise.resolve();

  const stored: KeptPage[] = [];
  for (const key of await storage.list(PREFIX).catch(failed([]))) {
    const kept = read(await storage.get(key).catch(failed(null)));
    if (kept !== null) stored.push(kept);
  }
  // A storage has them in any order, and the oldest are the first to go.
  for (const kept of stored.sort(byDate)) pages.set(kept.page.UniqueId, kept);
  for (const [id] of pages) seen.add(id);

  function failed<T>(otherwise: T): (fault: unknown) => T {
    return (fault) => {
      events.onFault(fault);
      return otherwise;
    };
  }

  function remember(id: string): void {
    seen.add(id);
    const [oldest] = seen;
    if (seen.size > SEEN_MAX && oldest !== undefined) seen.delete(oldest);
  }

  async function keep(kept: KeptPage): Promise<void> {
    const { UniqueId } = kept.page;
    pages.set(UniqueId, kept);
    await storage.set(PREFIX + UniqueId, JSON.stringify(kept)).catch(failed(undefined));
    const [oldest] = pages.keys();
    if (pages.size <= PAGES_MAX || oldest === undefined) return;
    pages.delete(oldest);
    await storage.delete(PREFIX + oldest).catch(failed(undefined));
  }

  /** Each waits for the one before, so that none is handed on twice and none overtakes. */
  function inTurn(kept: Kept, handOn: () => Promise<void>): Promise<boolean> {
    const id = idOf(kept);
    const turn = last.then(async () => {
      try {
        if (!seen.has(id)) await handOn();
      } catch (fault) {
        events.onFault(fault);
        return false;
      }
      remember(id);
      if (confirms() || "noticeId" in kept) unconfirmed.set(id, kept);
      return true;
    });
    last = turn;
    return turn;
  }

  const inbox: Inbox = {
    async fetch() {
      let taken = true;
      for (let round = 0; round < ROUNDS_MAX; round += 1) {
        const confirm = inbox.unconfirmed().slice(0, CONFIRMS_MAX).map(idOf);
        const settingsVersion = ports.settingsVersion();
        const answer = await calls.call("GetMessages", {
          v: 3,
          ...(confirm.length > 0 ? { confirm } : {}),
          ...(settingsVersion === null ? {} : { settingsVersion }),
        });
        inbox.confirmed(confirm);
        const before = seen.size;
        for (const page of list(answer.Messages)) if (isPage(page)) taken = (await inbox.take(page)) && taken;
        for (const notice of list(answer.Notices)) if (isNotice(notice)) taken = (await inbox.notice(notice)) && taken;
        if (typeof answer.SettingsVersion === "number") events.onSettings(answer.SettingsVersion);
        // What was not taken comes again, and would at once.
        if (unconfirmed.size === 0 && (answer.More !== true || !taken)) return taken;
        // A server counts a page as fetched by a phone that does not confirm a moment after its answer was taken.
        if (!confirms() && seen.size === before) await new Promise((resolve) => setTimeout(resolve, SAME_AGAIN_MS));
      }
      return taken;
    },
    take: (page) =>
      inTurn({ uniqueId: page.UniqueId }, async () => {
        await events.onPage(page);
        await keep({ page, notice: null });
      }),
    notice: (notice) =>
      inTurn({ noticeId: notice.NoticeId }, async () => {
        await events.onNotice(notice);
        const kept = pages.get(notice.UniqueId);
        if (kept !== undefined) await keep({ ...kept, notice });
      }),
    unconfirmed: () => [...unconfirmed.values()],
    confirmed(ids) {
      for (const id of ids) unconfirmed.delete(id);
    },
    pages: () => [...pages.values()].sort(byDate).reverse(),
    page: (uniqueId) => pages.get(uniqueId) ?? null,
    async marks(uniqueId, status) {
      const kept = pages.get(uniqueId);
      if (kept === undefined || kept.page.Status >= status) return;
      await keep({ ...kept, page: { ...kept.page, Status: status } });
    },
  };
  return inbox;
}

export function idOf(kept: Kept): string {
  return "uniqueId" in kept ? kept.uniqueId : kept.noticeId;
}

/** What is not of the form is for another version: it is not shown, and not confirmed either. */
export function isPage(value: unknown): value is AmcMessage {
  const { UniqueId, Text } = (value ?? {}) as Partial<AmcMessage>;
  return typeof UniqueId === "string" && UniqueId !== "" && typeof Text === "string";
}

export function isNotice(value: unknown): value is Notice {
  const { NoticeId, UniqueId, Kind } = (value ?? {}) as Partial<Notice>;
  return typeof NoticeId === "string" && typeof UniqueId === "string" && typeof Kind === "string";
}

function byDate(one: KeptPage, other: KeptPage): number {
  return one.page.Date < other.page.Date ? -1 : one.page.Date > other.page.Date ? 1 : 0;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function read(text: string | null): KeptPage | null {
  try {
    const kept = JSON.parse(text ?? "null") as KeptPage | null;
    return isPage(kept?.page) ? { page: kept.page, notice: kept.notice ?? null } : null;
  } catch {
    return null;
  }
}
