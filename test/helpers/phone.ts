/** A clinician's phone for tests, in the words of the domain; the protocol is the command line's own. */
import { randomUUID } from "node:crypto";
import { callsOf, freshAddress, type RegisterRequest, type Registration, register } from "../../cli/phone-client.ts";
import { openPhone } from "../../cli/phone-session.ts";
import type { Answer, Receipt } from "../../domain.ts";
import type { AmcMessage, Notice } from "../../sdk/index.ts";
import { eventually, WITHIN_MS } from "./eventually.ts";

export type Phone = {
  readonly registration: Registration;
  /** Asks once for what waits; confirms nothing but what is given. */
  fetches(confirm?: readonly string[]): Promise<readonly AmcMessage[]>;
  confirms(uniqueIds: readonly string[]): Promise<void>;
  reads(page: AmcMessage): Promise<void>;
  answers(page: AmcMessage, answer: Answer): Promise<void>;
  /** Replies a text of its own or a choice; whether that was new to the server. The same clientId is the same reply. */
  replies(
    uniqueId: string,
    words: { readonly text: string } | { readonly choice: string },
    more?: { readonly clientId?: string; readonly at?: string },
  ): Promise<boolean>;
  reports(uniqueId: string, ...receipts: Receipt[]): Promise<void>;
  /** Takes another notification address, by default a fresh one; returns it. */
  changesAddress(notificationAddress?: string): Promise<string>;
  unregisters(): Promise<void>;
  /**
   * Switches it on: from now it wakes at pushes (null: there is no emulator, it looks every 5 s), fetches, keeps and confirms
   * what it got. Ended by `switchesOff`, which every test that calls this must call.
   */
  wakesOnPush(emulatorUrl: string | null): void;
  /** Switches it on so that it listens by the stream, and no push wakes it. */
  listens(): void;
  /** Waits until a page with exactly this text is on the phone; within `WITHIN_MS` unless said otherwise. */
  expectsPage(text: string, limits?: { readonly within: number }): Promise<AmcMessage>;
  /** What it got while it was on, each page once. */
  pages(): readonly AmcMessage[];
  /** Waits until it has heard, while it was on, this of a page it may show. */
  hears(kind: string, uniqueId: string): Promise<Notice>;
  /** What it heard while it was on, each once. */
  notices(): readonly Notice[];
  /** Pushes that woke it. */
  wakeUps(): number;
  switchesOff(): Promise<void>;
};

export type PhonePlace = { readonly url: string; readonly ca?: string | Buffer };

/** @throws ServerRefused where the server refuses the registration. */
export async function registerPhone({
  url,
  ca,
  ...request
}: PhonePlace & Omit<RegisterRequest, "gatewayType"> & Partial<Pick<RegisterRequest, "gatewayType">>): Promise<Phone> {
  const server = { url, ca };
  return phoneOf({ url, ...(ca ? { ca } : {}) }, await register(server, { gatewayType: "GCM", ...request }));
}

/** The same phone at another place, or with a token of one's own making. */
export function phoneOf(server: PhonePlace, registration: Registration): Phone {
  const { call } = callsOf(() => server, registration);
  const pages: AmcMessage[] = [];
  const notices: Notice[] = [];
  let current = registration;
  let wakeUps = 0;
  let on: { again(): void; off(): Promise<void> } | null = null;

  function switchOn(emulatorUrl: string | null, stream = false): void {
    const power = new AbortController();
    const session = openPhone(
      { registration: current, server: () => server, emulatorUrl: () => emulatorUrl, signal: power.signal, stream },
      {
        onPage: (page) => void pages.push(page),
        onNotice: (notice) => void notices.push(notice),
        onWakeUp: () => void wakeUps++,
      },
    );
    on = {
      again: () => switchOn(emulatorUrl, stream),
      async off() {
        power.abort();
        await session.ended;
      },
    };
  }

  const report = async (uniqueId: string, ...receipts: Receipt[]) => {
    await call("SetStatus", { statuses: receipts.map((status) => ({ uniqueId, status, ...fresh() })) });
  };
  const fetches = async (confirm: readonly string[] = []) =>
    (await call("GetMessages", { v: 3, ...(confirm.length > 0 ? { confirm } : {}) })).Messages;
  return {
    registration,
    fetches,
    async confirms(uniqueIds) {
      await fetches(uniqueIds);
    },
    reads: (page) => report(page.UniqueId, "READ"),
    answers: (page, answer) => report(page.UniqueId, answer),
    replies: async (uniqueId, words, more) =>
      (await call("Reply", { uniqueId, ...fresh(), ...words, ...more })).Result === "recorded",
    reports: report,
    async changesAddress(notificationAddress = freshAddress(registration.gatewayType)) {
      await call("UpdateNotificationAddress", { notificationAddress, gatewayType: registration.gatewayType });
      current = { ...registration, notificationAddress };
      if (on !== null) {
        await on.off();
        on.again();
      }
      return notificationAddress;
    },
    unregisters: async () => void (await call("Unregister", {})),
    wakesOnPush: (emulatorUrl) => switchOn(emulatorUrl),
    listens: () => switchOn(null, true),
    expectsPage: (text, { within } = { within: WITHIN_MS }) =>
      eventually(
        `the page is on phone ${registration.vendorId}`,
        () => pages.find((page) => page.Text === text),
        within,
      ),
    pages: () => pages,
    hears: (kind, uniqueId) =>
      eventually(`phone ${registration.vendorId} hears ${kind} of its page`, () =>
        notices.find((notice) => notice.Kind === kind && notice.UniqueId === uniqueId),
      ),
    notices: () => notices,
    wakeUps: () => wakeUps,
    async switchesOff() {
      await on?.off();
      on = null;
    },
  };
}

/** What comes with everything a phone says: its own time, and its own id of it. */
function fresh() {
  return { at: new Date().toISOString(), clientId: randomUUID() };
}
