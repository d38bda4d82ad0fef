/** A clinician's phone for tests, in the words of the domain; the protocol is the command line's own. */
import {
  freshAddress,
  phoneClient,
  type RegisterRequest,
  type Registration,
  receiptReport,
  register,
  replyReport,
} from "../../cli/phone-client.ts";
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
  const client = phoneClient(() => server, registration);
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
    await client.setStatus(receipts.map((receipt) => receiptReport(uniqueId, receipt)));
  };
  return {
    registration,
    fetches: async (confirm) => (await client.getMessages(confirm)).messages,
    async confirms(uniqueIds) {
      await client.getMessages(uniqueIds);
    },
    reads: (page) => report(page.UniqueId, "READ"),
    answers: (page, answer) => report(page.UniqueId, answer),
    replies: (uniqueId, words, more) => client.reply({ ...replyReport(uniqueId, words), ...more }),
    reports: report,
    async changesAddress(notificationAddress = freshAddress(registration.gatewayType)) {
      await client.updateNotificationAddress(notificationAddress);
      current = { ...registration, notificationAddress };
      if (on !== null) {
        await on.off();
        on.again();
      }
      return notificationAddress;
    },
    unregisters: () => client.unregister(),
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
