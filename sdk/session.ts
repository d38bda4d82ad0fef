/**
 * A phone that is switched on. Three loops, none of which waits for another: it listens by the stream; it looks for what waits by calls, often
 * while it has no stream and now and then while it has one; it says what its outbox holds. It goes on through every fault.
 *
 *   listen:  linked ── lost ──► back-off ──► linked        look:  asked ── bell, time ──► asked ── failed ──► back-off
 *
 *   on ── close() ──► closed       on ── 401, close 4401 ──► unregistered       on ── close 4409 ──► displaced: another has its place
 *
 * The stream is the faster way, a look is the truth: whatever the stream leaves in doubt (a frame missing, a page not taken) is looked for.
 */
import type { Calls, Identity } from "./calls.ts";
import { ServerRefused } from "./faults.ts";
import { type Inbox, idOf, isNotice, isPage, type Kept } from "./inbox.ts";
import { type Link, type OpenSocket, openLink, type ServerFrame } from "./link.ts";
import type { Outbox } from "./outbox.ts";
import type { ServerFrames, Settings } from "./schema.ts";
import { type SenderEvents, sendReports } from "./sender.ts";
import type { ServerTime } from "./server-time.ts";
import { fullJitter, makeBell, pause } from "./waiting.ts";

export type SessionEnd = "closed" | "unregistered" | "displaced";
/** `listening`: by the stream; `polling`: the server answers calls. */
export type SessionState = "listening" | "polling" | "offline";

export type SessionEvents = SenderEvents & {
  onState(state: SessionState, fault: unknown): void;
  /** What this device is set to has come by itself. */
  onSettings(settings: Settings): void;
  onFault(fault: unknown): void;
};

export type SessionPorts = {
  readonly calls: Calls;
  readonly inbox: Inbox;
  readonly outbox: Outbox;
  readonly time: ServerTime;
  readonly identity: Identity;
  readonly servers: () => readonly string[];
  /** Null: there is no stream to be had here. */
  readonly openSocket: OpenSocket | null;
  /** Between two looks while there is no stream. */
  readonly pollMs: () => number;
};

export type Session = {
  /** Looks at once: a push came, or the app is in front again. */
  wake(): void;
  /** Something was put into the outbox. */
  say(): void;
  /** Settings of this version are in force here. */
  has(version: number): void;
  close(): void;
  readonly ended: Promise<SessionEnd>;
};

const BACKOFF_FIRST_MS = 500;
const BACKOFF_LONGEST_MS = 10_000;
const STREAM_LONGEST_MS = 30_000;
const LISTENING_LOOK_MS = 5 * 60_000;
/** A stream that ends sooner counts as one more failure. */
const SETTLED_MS = 10_000;
/** With so much unsaid a phone fetches no more, and with so many frames not yet taken it gives its stream up. */
const UNSAID_MAX = 1_000;
const UNTAKEN_MAX = 1_000;
const CONFIRMS_AT_ONCE = 500;

export function openSession(ports: SessionPorts, events: SessionEvents): Session {
  const { calls, inbox, outbox, time } = ports;
  const over = new AbortController();
  const { signal } = over;
  const [looks, says] = [makeBell(), makeBell()];
  let position: { epoch: string | null; seq: number } = { epoch: null, seq: 0 };
  let link: Link | null = null;
  let state: SessionState | null = null;
  let answers: boolean | null = null;
  let reconnect: { readonly at: number; readonly urls: readonly string[] } | null = null;
  let end: SessionEnd = "closed";

  function finish(why: SessionEnd): void {
    if (signal.aborted) return;
    end = why;
    over.abort();
    link?.close();
  }

  function show(fault: unknown = null): void {
    const now = link !== null ? "listening" : answers === true ? "polling" : answers === false ? "offline" : null;
    if (now === null || now === state || signal.aborted) return;
    state = now;
    events.onState(now, fault);
  }

  /** Works until it is over; what fails is done again after a pause, at least as long as the server asks. `work`: whether anybody answered. */
  async function keepOn(work: () => Promise<boolean>, rest: () => Promise<void>): Promise<void> {
    const backoff = fullJitter(BACKOFF_FIRST_MS, BACKOFF_LONGEST_MS);
    while (!signal.aborted) {
      try {
        if (await work()) answers = true;
        show();
        backoff.reset();
        await rest();
      } catch (error) {
        if (signal.aborted) return;
        const refused = error instanceof ServerRefused ? error : null;
        if (refused?.unregistered) return finish("unregistered");
        answers = false;
        show(error);
        await pause(Math.max(refused?.retryAfterMs ?? 0, backoff.next()), signal);
      }
    }
  }

  async function look(): Promise<boolean> {
    if (outbox.size() >= UNSAID_MAX) return false;
    const taken = await inbox.fetch();
    if (!taken) again();
    return true;
  }

  async function say(): Promise<boolean> {
    if (outbox.size() === 0) return false;
    await sendReports({ calls, outbox, link: () => link, signal }, events);
    return true;
  }

  /** What was not taken is looked for again, in a while. */
  function again(): void {
    void pause(BACKOFF_LONGEST_MS / 2 + Math.random() * BACKOFF_LONGEST_MS, signal).then(looks.ring);
  }

  /** Where it goes wrong it is confirmed with the next look, or by the next stream. */
  async function confirm(kept: Kept, by: Link): Promise<void> {
    const result = await by.ask("confirm", kept).catch(() => null);
    if (result?.Result === "recorded" || result?.Result === "repeated" || result?.Result === "unknown")
      inbox.confirmed([idOf(kept)]);
  }

  async function listen(openSocket: OpenSocket): Promise<void> {
    const backoff = fullJitter(BACKOFF_FIRST_MS, STREAM_LONGEST_MS);
    let lost = false;
    for (let turn = 0; !signal.aborted; turn += 1) {
      const servers = [...(reconnect?.urls ?? []), ...attempt(ports.servers, [])];
      reconnect = null;
      const server = servers[turn % Math.max(servers.length, 1)];
      const began = Date.now();
      const { code, opened } = server === undefined ? { code: 0, opened: false } : await one(server, openSocket);
      if (code === 4401) return finish("unregistered");
      if (code === 4409) return finish("displaced");
      if (opened && Date.now() - began >= SETTLED_MS) backoff.reset();
      // It does not come back at once: from now on it is calls.
      if (lost && !opened) looks.ring();
      lost = opened;
      const hinted = reconnect as { readonly at: number } | null;
      if (hinted !== null) turn = -1;
      await pause(hinted === null ? backoff.next() : Math.max(hinted.at - Date.now(), 0), signal);
    }
  }

  /** One connection, from its opening to its end and to the last frame that came by it. */
  async function one(server: string, openSocket: OpenSocket): Promise<{ code: number; opened: boolean }> {
    const beganMs = Date.now();
    let untaken = 0;
    let stale = false;
    let last: Promise<void> = Promise.resolve();
    const opening = attempt(
      () =>
        openLink({
          server,
          openSocket,
          token: ports.identity.deviceToken,
          onOpen(own) {
            for (const kept of inbox.unconfirmed().slice(0, CONFIRMS_AT_ONCE)) void confirm(kept, own);
            own.send("resume", position);
          },
          onHello(hello, at, own) {
            time.heard(Date.parse(at ?? ""), beganMs);
            if (hello.epoch !== position.epoch && position.epoch === null) position = { epoch: hello.epoch, seq: 0 };
            link = own;
            show();
            says.ring();
          },
          onFrame(frame) {
            untaken += 1;
            if (untaken > UNTAKEN_MAX) return opening?.close();
            last = last
              .then(() => (stale ? undefined : take(frame, opening!, server)))
              .catch(events.onFault)
              .finally(() => {
                untaken -= 1;
              });
          },
        }),
      null,
    );
    if (opening === null) return { code: 0, opened: false };
    const ended = await opening.closed;
    if (link === opening) link = null;
    show();
    // What came and was not yet taken comes again, and may have another number then.
    stale = true;
    await last;
    return ended;
  }

  async function take(frame: ServerFrame, by: Link, server: string): Promise<void> {
    if (frame.type === "resumed") {
      const { epoch, recovered } = frame.data as ServerFrames["resumed"];
      position = { epoch, seq: recovered && epoch === position.epoch ? position.seq : 0 };
    } else if (frame.type === "reconnect") {
      const { afterMs, urls } = frame.data as ServerFrames["reconnect"];
      const safe = (Array.isArray(urls) ? urls : []).filter(
        (url) => !server.startsWith("https:") || /^https:/.test(url),
      );
      const ms = Math.min(Math.max(Number(afterMs) || 0, 0), STREAM_LONGEST_MS);
      reconnect = { at: Date.now() + ms, urls: safe };
      void pause(ms, signal).then(by.close);
    } else {
      const taken = await keep(frame, by);
      if (!taken) again();
    }
    if (frame.type === "reconnect" || frame.type === "resumed" || frame.seq === null) return;
    // One that is missing is found by a look.
    if (frame.seq > position.seq + 1) looks.ring();
    if (frame.seq > position.seq) position = { ...position, seq: frame.seq };
  }

  /** False: what came was not taken. */
  async function keep({ type, data }: ServerFrame, by: Link): Promise<boolean> {
    const value: unknown = type === "answered" ? { ...data, Kind: "ANSWERED" } : data;
    if (type === "message" && isPage(value)) {
      if (!(await inbox.take(value))) return false;
      void confirm({ uniqueId: value.UniqueId }, by);
    } else if ((type === "recalled" || type === "answered") && isNotice(value)) {
      if (!(await inbox.notice(value))) return false;
      void confirm({ noticeId: value.NoticeId }, by);
    } else if (type === "settings") {
      events.onSettings(data as unknown as Settings);
    } else return type !== "message" && type !== "recalled" && type !== "answered";
    return true;
  }

  const ended = Promise.all([
    keepOn(look, () => looks.wait(link === null ? ports.pollMs() : LISTENING_LOOK_MS, signal)),
    keepOn(say, () => (outbox.size() > 0 ? Promise.resolve() : says.wait(LISTENING_LOOK_MS, signal))),
    ports.openSocket === null ? null : listen(ports.openSocket),
  ]).then(() => end);

  return {
    wake: looks.ring,
    say: says.ring,
    has: (version) => link?.send("confirm", { version }),
    close: () => finish("closed"),
    ended,
  };
}

function attempt<T>(work: () => T, otherwise: T): T {
  try {
    return work();
  } catch {
    return otherwise;
  }
}
