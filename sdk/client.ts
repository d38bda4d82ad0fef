/**
 * A clinician's phone as a library: registers, gets pages, says what became of them. Everything it has to remember goes through `storage`;
 * everything it needs of the platform (fetch, WebSocket) may be given, and is the platform's own where it is not.
 */
import { type Fetch, openCalls } from "./calls.ts";
import { type Device, openDevice, type Registration } from "./device.ts";
import { type ClientEvent, openEventStream } from "./event-stream.ts";
import { NotRegistered } from "./faults.ts";
import { type KeptPage, openInbox } from "./inbox.ts";
import type { OpenSocket } from "./link.ts";
import { openOutbox, type Receipt, type Said } from "./outbox.ts";
import { type LastWords, openLastWords, type SenderEvents } from "./sender.ts";
import { openServerTime } from "./server-time.ts";
import { openSession, type Session, type SessionEnd } from "./session.ts";
import { type ClientStorage, memoryStorage } from "./storage.ts";

export type ClientOptions = {
  /** Base URLs, tried in turn; a function is asked before every call. */
  readonly servers: readonly string[] | (() => readonly string[]);
  /** By default what is to be remembered is forgotten with the process. */
  readonly storage?: ClientStorage;
  /** Of a device that was registered elsewhere; by default what `storage` has. */
  readonly registration?: Registration;
  readonly fetch?: Fetch;
  /** Null: no stream, calls only. */
  readonly openSocket?: OpenSocket | null;
  /** Between two looks while there is no stream, in ms; 15 s by default. */
  readonly pollMs?: () => number;
  /** Of one call to one server, in ms; 10 s by default. */
  readonly deadlineMs?: number;
};

export type Client = {
  readonly device: Device;
  readonly messages: {
    /** What this phone was given and has kept, newest first. */
    list(): readonly KeptPage[];
    get(uniqueId: string): KeptPage | null;
    /** These resolve when it is in the outbox: it goes out as soon as it can. False: said before. @throws OutboxFull */
    markRead(uniqueId: string): Promise<boolean>;
    acknowledge(uniqueId: string): Promise<boolean>;
    ignore(uniqueId: string): Promise<boolean>;
    reply(uniqueId: string, said: { readonly text: string } | { readonly choice: string }): Promise<boolean>;
  };
  /** Switches the phone on; it goes on until `close`, or until another has its place or the server knows it no more. @throws NotRegistered */
  listen(onEvent: (event: ClientEvent) => void | Promise<void>): Session;
  /** The same as a loop: `for await (const event of client.stream())`; leaving it switches the phone off. Returns why it ended. */
  stream(): AsyncGenerator<ClientEvent, SessionEnd>;
  /** Looks at once: a push came, or the app is in front again. */
  wake(): void;
  /** How far this phone's clock is behind the server's, in ms. */
  skewMs(): number;
};

const POLL_MS = 15_000;

export async function openClient(options: ClientOptions): Promise<Client> {
  const { storage = memoryStorage(), servers: given, pollMs = () => POLL_MS, deadlineMs } = options;
  const servers = typeof given === "function" ? given : () => given;
  const time = openServerTime();
  const fetch: Fetch = options.fetch ?? ((url, request) => globalThis.fetch(url, request));
  let session: Session | null = null;
  /** Since another has its place. */
  let lastWords: LastWords | null = null;
  let onEvent: (event: ClientEvent) => void | Promise<void> = () => {};
  const calls = openCalls({ fetch, servers, time, deadlineMs, identity: () => device.registration() });
  const device = await openDevice({ calls, storage, given: options.registration ?? null, onFault });

  /** What a handler of anything but a page does wrong is its own affair. */
  function tell(event: ClientEvent): void {
    void (async () => onEvent(event))().catch(() => {});
  }
  function onFault(fault: unknown): void {
    tell({ type: "fault", fault });
  }
  /** Settings of another version than those this phone has are fetched, one fetch at a time. */
  let pulling = false;
  async function pull(version: number): Promise<void> {
    if (pulling || version === device.settingsVersion()) return;
    pulling = true;
    try {
      tell({ type: "settings", settings: await device.pullSettings() });
    } catch (fault) {
      onFault(fault);
    } finally {
      pulling = false;
    }
  }

  const outbox = await openOutbox(storage, onFault);
  const inbox = await openInbox(
    {
      calls,
      storage,
      confirms: () => device.registration()?.confirms ?? true,
      settingsVersion: device.settingsVersion,
    },
    {
      onPage: (page) => onEvent({ type: "page", page }),
      onNotice: (notice) => onEvent({ type: "notice", notice }),
      onSettings: (version) => void pull(version),
      onFault,
    },
  );

  async function say(said: Said): Promise<boolean> {
    const fresh = await outbox.add(said, time.now());
    session?.say();
    void lastWords?.say();
    if (said.kind === "status" && said.status !== "DELIVERED")
      await inbox.marks(said.uniqueId, said.status === "READ" ? 1 : 2);
    return fresh;
  }
  const status = (receipt: Receipt) => (uniqueId: string) => say({ kind: "status", uniqueId, status: receipt });

  const outcomes: SenderEvents = {
    onReported: (report, outcome) => tell({ type: "reported", report, outcome }),
    onRefused: (report, reason) => tell({ type: "refused", report, reason }),
  };

  function listen(handler: typeof onEvent): Session {
    const identity = device.registration();
    if (identity === null) throw new NotRegistered();
    session?.close();
    lastWords?.end();
    lastWords = null;
    onEvent = handler;
    // A device that does not confirm is told by calls what waits for it.
    const openSocket = identity.confirms ? socketOf(options) : null;
    const opened = openSession(
      { calls, inbox, outbox, time, identity, servers, openSocket, pollMs },
      {
        ...outcomes,
        onState: (state, fault) => tell({ type: "state", state, fault }),
        async onSettings(settings) {
          tell({ type: "settings", settings: await device.takeSettings(settings) });
          const version = device.settingsVersion();
          if (version !== null) session?.has(version);
        },
        onFault,
      },
    );
    session = opened;
    void opened.ended.then((end) => {
      if (session !== opened) return;
      session = null;
      if (end !== "displaced") return;
      lastWords = openLastWords({ calls, outbox }, outcomes);
      void lastWords.say();
    });
    return opened;
  }

  return {
    device,
    messages: {
      list: inbox.pages,
      get: inbox.page,
      markRead: status("READ"),
      acknowledge: status("ACKNOWLEDGED"),
      ignore: status("IGNORED"),
      reply: (uniqueId, said) => say({ kind: "reply", uniqueId, ...said }),
    },
    listen,
    stream: () => openEventStream(listen),
    wake: () => session?.wake(),
    skewMs: time.skewMs,
  };
}

function socketOf({ openSocket }: ClientOptions): OpenSocket | null {
  if (openSocket !== undefined) return openSocket;
  const { WebSocket } = globalThis;
  return typeof WebSocket === "function" ? (url, protocols) => new WebSocket(url, protocols) : null;
}
