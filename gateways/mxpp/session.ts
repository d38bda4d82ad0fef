/**
 * One connection of a host system, from its bytes to accepted pages and their notifications.
 *
 *            first bytes, or half a second of staying
 *   connected ─────────────────────────────────────► open ──── fault ────► ending (answers under way are still written)
 *       │ gone before: a balancer's probe,             │ end, error, silence                   │
 *       ▼ no trace of it                               ▼                                       ▼
 *     closed                                         closed ◄──────────────────────────────────┘
 *
 * The socket is paused while as many pages as may be are on their way to the database, so that a host that sends faster
 * than they are written is slowed by TCP and by nothing else.
 */
import type { Socket } from "node:net";
import type { Paging } from "../../actors/paging.ts";
import { faultFields } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Verdict } from "../../persistence/acceptance.ts";
import { BatchFull } from "../../persistence/batch.ts";
import { BadData, DatabaseDown } from "../../persistence/database.ts";
import type { HostSystem } from "../../persistence/host-systems.ts";
import type { News } from "../../persistence/outbox.ts";
import { type Correlation, type MxppDocument, readDocument, refuseOversize } from "./document.ts";
import { type FramerEvent, makeFramer } from "./framing.ts";
import { type AddressTest, admit, knownFrom, type PeerFacts } from "./identity.ts";
import { type Link, type LinkPorts, makeLink } from "./link.ts";
import type { NewMessage } from "./new-message.ts";
import { renderNotification } from "./notification.ts";
import { pageToAccept } from "./page.ts";

export type SessionPorts = LinkPorts & {
  readonly paging: Pick<Paging, "accept">;
  /** `fresh`: as they are now, not as they were a moment ago. */
  readonly hosts: (fresh: boolean) => Promise<readonly HostSystem[]>;
  readonly addressAllowed: AddressTest;
  readonly messageKey: string;
  readonly refused: (refusal: {
    host: HostSystem | null;
    origin: string;
    trackingId: string;
    destination: string;
    reason: string;
  }) => void;
  readonly meter: Meter;
};

export type Session = {
  /** Reads no more; resolves when what was read is answered, or after the deadline; then ends the connection. */
  close(deadlineMs: number): Promise<void>;
};

/** Pages of one connection on their way to the database. */
const FLYING_MAX = 256;
const FLYING_RESUME = 128;
/** A connection that says nothing is looked at only after this: balancers' probes are gone by then. */
const PROBE_MS = 500;
/** A document that has begun must go on within this. */
const DOCUMENT_STALL_MS = 60_000;
/** Answers the peer has not taken: past this nothing more is read from it. */
const ANSWERS_MAX_BYTES = 256 * 1024;
const ENDING_MS = 5_000;
const RETRY_MS = 100;
const DATABASE_WAIT_MS = 5_000;

export function openSession(socket: Socket, peer: PeerFacts, ports: SessionPorts): Session {
  const { log, meter } = ports;
  const framer = makeFramer();
  const flying = new Set<Promise<void>>();
  let link: Promise<Link> | null = null;
  let host: HostSystem | null = null;
  let ending = false;
  let gone = false;

  socket.setNoDelay(true);
  // Linux: the first probe after 15 s of silence, then one a second, ten in all.
  socket.setKeepAlive(true, 15_000);

  const settle = setTimeout(() => void greet(), PROBE_MS);
  socket.setTimeout(DOCUMENT_STALL_MS, () => {
    if (framer.pending() > 0) fault("stalled");
  });
  let begun: number | null = null;
  socket.on("data", (chunk: Buffer) => {
    if (ending) return;
    const events = framer.push(chunk);
    for (const event of events) receive(event);
    // A peer that sends a byte now and then never falls silent, and must not hold a document open for ever either.
    if (framer.pending() === 0) begun = null;
    else if (events.length > 0 || begun === null) begun = ports.clock.monotonic();
    else if (ports.clock.monotonic() - begun > DOCUMENT_STALL_MS) fault("stalled");
  });
  socket.on("drain", () => {
    resumeIfRoom();
    link?.then((made) => made.drained()).catch(() => {});
  });
  socket.on("end", () => void finish(ENDING_MS));
  socket.on("error", () => {});
  socket.on("close", () => {
    gone = true;
    ending = true;
    clearTimeout(settle);
    void link?.then((made) => made.close()).catch(() => {});
  });

  /** A host that only connects and listens gets what waits for it. */
  async function greet(): Promise<void> {
    if (gone || link !== null) return;
    const known = knownFrom(await ports.hosts(false).catch(() => []), peer, ports.addressAllowed);
    if (known !== null && !gone) await attach(known).catch(() => {});
  }

  function receive(event: FramerEvent): void {
    if (ending) return;
    switch (event.kind) {
      case "document":
        track(handle(readDocument(event.xml)));
        break;
      case "oversize":
        track(handle(refuseOversize(event.head)));
        break;
      case "fault":
        fault(event.code);
        break;
    }
  }

  function track(work: Promise<void>): void {
    const settled = work
      .catch((error) => log.error({ peer: peer.address, ...faultFields(error) }, "a page could not be handled"))
      .finally(() => {
        flying.delete(settled);
        resumeIfRoom();
      });
    flying.add(settled);
    if (flying.size >= FLYING_MAX) hold();
  }

  function hold(): void {
    if (socket.isPaused()) return;
    meter.count("back_pressure", { queue: "mxpp_connection" });
    socket.pause();
  }

  function resumeIfRoom(): void {
    if (gone || ending || !socket.isPaused()) return;
    if (flying.size <= FLYING_RESUME && socket.writableLength < ANSWERS_MAX_BYTES) socket.resume();
  }

  function fault(code: string): void {
    meter.count("xml_faults", { gateway: "mxpp", class: code });
    log.warn(
      { peer: peer.address, host: host?.name ?? null, class: code },
      "host connection ended for a fault in what it sent",
    );
    void finish(ENDING_MS);
  }

  async function handle(document: MxppDocument): Promise<void> {
    switch (document.kind) {
      case "newMessage":
        for (const name of document.ignored)
          meter.count("ignored_parts", { gateway: "mxpp", part: name === "#text" ? "text" : "element" });
        return page(document.page);
      case "refused": {
        const admission = admit(await ports.hosts(false).catch(() => []), peer, document.origin, ports.addressAllowed);
        if (admission.kind === "host") host ??= admission.host;
        for (const refusal of [document, ...document.others]) await refuse(refusal, document.reason, "document");
        return;
      }
      case "unanswerable":
        meter.count("xml_faults", { gateway: "mxpp", class: "unanswerable" });
        log.warn(
          { peer: peer.address, host: host?.name ?? null, reason: document.reason },
          "document without a page to answer",
        );
    }
  }

  async function page(message: NewMessage): Promise<void> {
    let admission = admit(await untilUp(() => ports.hosts(false)), peer, message.origin, ports.addressAllowed);
    // It may have been made, or changed, this very second.
    if (admission.kind === "refused")
      admission = admit(await untilUp(() => ports.hosts(true)), peer, message.origin, ports.addressAllowed);
    if (admission.kind === "refused") return refuse(message, admission.reason, "origin");
    const { host: sender } = admission;
    const { id: linkId } = await untilUp(() => attach(sender));
    if (message.outputGateway !== null && message.outputGateway !== "")
      meter.count("ignored_parts", { gateway: "mxpp", part: "outputGateway" });
    const made = pageToAccept(message, sender, linkId, ports.messageKey);
    if (made.kind === "refused") return refuse(message, made.reason, "priority");
    let unsure = false;
    let verdict: Verdict;
    try {
      verdict = await untilUp(
        () => ports.paging.accept(made.page),
        (error) => {
          if (error instanceof DatabaseDown && error.unknown) unsure = true;
        },
      );
    } catch (error) {
      if (!(error instanceof BadData)) throw error;
      return refuse(message, "the page holds what cannot be stored", "document");
    }
    meter.count("pages", { host: sender.name, verdict: verdict.kind });
    if (verdict.kind === "refused") return refuse(message, verdict.reason, verdict.reason);
    // Written by our own first try, whose answer was lost: the outbox tells of it.
    if (verdict.kind === "accepted" || (unsure && verdict.linkId === linkId)) return;
    answer(message, "ACCEPTED", null);
    answer(message, verdict.status, verdict.reason);
  }

  /** Tries again while the database is away or full, for as long as the connection lasts. */
  async function untilUp<T>(attempt: () => Promise<T>, failed: (error: unknown) => void = () => {}): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        failed(error);
        if (gone || !(error instanceof DatabaseDown || error instanceof BatchFull)) throw error;
        hold();
        if (error instanceof DatabaseDown) await ports.database.untilUp(DATABASE_WAIT_MS).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async function refuse(to: Correlation, reason: string, kind: string): Promise<void> {
    meter.count("refusals", { host: host?.name ?? "", reason: kind });
    log.warn({ peer: peer.address, host: host?.name ?? null, reason }, "page refused");
    ports.refused({ host, origin: to.origin, trackingId: to.trackingId, destination: to.destination, reason });
    answer(to, "FAILED", reason);
  }

  function answer(to: Correlation, status: News["status"], reason: string | null): void {
    write([{ ...to, source: to.destination, at: ports.clock.wall(), status, reason }]);
    if (socket.writableLength >= ANSWERS_MAX_BYTES) hold();
  }

  function write(
    news: readonly Pick<News, "origin" | "source" | "trackingId" | "systemId" | "at" | "status" | "reason">[],
  ): boolean {
    if (!socket.writable) return false;
    socket.cork();
    for (const item of news) {
      socket.write(
        renderNotification({ ...item, reason: host?.strict === true ? null : item.reason }, host?.encoding ?? "utf-8"),
      );
      meter.count("host_notifications", { host: host?.name ?? "", status: item.status });
    }
    process.nextTick(() => socket.uncork());
    return !socket.writableNeedDrain;
  }

  /** The link of this connection, made at the first need of it. */
  function attach(sender: HostSystem): Promise<Link> {
    host = sender;
    if (link !== null) return link;
    const made = makeLink(sender.id, socket, write, ports);
    link = made;
    made.then(
      (opened) => {
        if (gone) void opened.close();
      },
      () => {
        link = null;
      },
    );
    return made;
  }

  async function finish(deadlineMs: number): Promise<void> {
    if (ending && gone) return;
    ending = true;
    socket.pause();
    const deadline = new Promise((resolve) => setTimeout(resolve, deadlineMs).unref());
    await Promise.race([Promise.allSettled(flying), deadline]);
    const made = await link?.catch(() => null);
    made?.drained();
    // What has just been accepted is told before the connection goes, as far as the peer takes it at once.
    if (made) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    socket.end();
    setTimeout(() => socket.destroy(), 1_000).unref();
  }

  return { close: finish };
}
