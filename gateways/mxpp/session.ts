/**
 * One connection of a host system, from its bytes to accepted pages and their notifications.
 *
 *            first page, or a second of staying
 *   connected ─────────────────────────────────────► open ──── fault ────► ending (answers under way are still written)
 *       │ gone before: a balancer's probe,             │ end, error, silence                   │
 *       ▼ no trace of it                               ▼                                       ▼
 *     closed                                         closed ◄──────────────────────────────────┘
 *
 * The socket is paused while as many pages as may be have been read and are not through, so that a host that sends faster
 * than they are written is slowed by TCP and by nothing else. The first page's origin says whose the connection is.
 */
import type { Socket } from "node:net";
import type { Paging } from "../../actors/paging.ts";
import type { UniqueId } from "../../domain.ts";
import { faultFields, type LogFields } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Verdict } from "../../persistence/acceptance.ts";
import { isPassing } from "../../persistence/batch.ts";
import { BadData, DatabaseDown } from "../../persistence/database.ts";
import type { HostSystem } from "../../persistence/host-systems.ts";
import type { News } from "../../persistence/outbox.ts";
import type { Refusal } from "../../persistence/refusals.ts";
import type { Budget } from "../budget.ts";
import type { Turns } from "../turns.ts";
import type { Peers } from "../unacknowledged.ts";
import type { Beginnings } from "./beginnings.ts";
import { type Correlation, type MxppDocument, readDocument, refuseOversize } from "./document.ts";
import { makeEnding } from "./ending.ts";
import { type FramerEvent, makeFramer } from "./framing.ts";
import { type AddressTest, admit, knownFrom, type PeerFacts } from "./identity.ts";
import { makeIntake } from "./intake.ts";
import type { KnownHosts } from "./known-hosts.ts";
import { type Link, type LinkPorts, makeLink } from "./link.ts";
import type { NewMessage } from "./new-message.ts";
import { makeOutlet, type Wrote } from "./outlet.ts";
import { pageToAccept } from "./page.ts";
import type { Places } from "./places.ts";
import { untilUp as retrying } from "./retry.ts";
import type { Shares } from "./shares.ts";
import { watchPeer } from "./watch.ts";

export type SessionPorts = LinkPorts & {
  readonly paging: Pick<Paging, "accept">;
  readonly hosts: KnownHosts;
  readonly addressAllowed: AddressTest;
  readonly messageKey: string;
  readonly refused: (
    refusal: Omit<Refusal, "hostSystemId"> & { readonly host: HostSystem | null; readonly address: string },
  ) => void;
  /** Of the event loop: who sends pages, and those whose documents say nothing. */
  readonly turns: { readonly usual: Turns; readonly slow: Turns };
  /** What a host system, or who is none yet by its address, has on its way over all connections. */
  readonly shares: Shares;
  /** Of pages that are not urgent, on their way to the database. */
  readonly places: Places;
  readonly beginnings: Beginnings;
  readonly meter: Meter;
  readonly peers: Peers;
  readonly budget: Budget;
  /** What a peer did wrong, for the log; of one address only so much of it is written. */
  readonly note: (address: string, fields: LogFields, event: string) => void;
};

export type Session = {
  /** Reads no more, and ends the connection when what was read is answered, or after the deadline; resolves when it is closed, at most 1 s later, and its end written. */
  close(deadlineMs: number): Promise<void>;
};

/**
 * Documents of one connection that are read and not yet through; their bytes are bounded by `budget`. More than have a place on
 * their way to the database: what is urgent may be behind a thousand others.
 */
const [FLYING_MAX, FLYING_RESUME] = [2_048, 1_024];
/** A document that has begun must end within this, not counting the time it was not read. */
const DOCUMENT_STALL_MS = 60_000;
/** Documents without a page, or of an unknown origin, after which the peer is read slowly. */
const STRANGE_MAX = 16;
/** Pages of which it is remembered that their ACCEPTED has not been written yet. */
const UNTOLD_MAX = 4_096;
/** Refusals the peer has not taken: past this nothing more is read from it. Statuses wait in the database. */
const ANSWERS_MAX_BYTES = 256 * 1024;
const ENDING_MS = 5_000;

export function openSession(socket: Socket, peer: PeerFacts, ports: SessionPorts): Session {
  const { log, meter, clock } = ports;
  const framer = makeFramer();
  const flying = new Set<Promise<void>>();
  const untold = new Set<UniqueId>();
  let link: Promise<Link> | null = null;
  let linked: Link | null = null;
  let strange = 0;
  let host: HostSystem | null = null;
  /** Nothing more is taken until there is room. */
  let held = false;
  /** No more bytes are taken; what they hold that came before is. */
  let ending = false;
  let faulty = false;
  let gone = false;

  const { end, answered } = makeEnding(socket, clock, {
    busy: () => intake.waiting() || flying.size > 0 || untold.size > 0,
    gone: () => gone,
    peers: ports.peers,
    stop: () => intake.stop(),
  });
  const outlet = makeOutlet(socket, { host: () => host, meter, paid: () => resumeIfRoom() });
  socket.setNoDelay(true);
  // Linux: the first probe after 15 s of silence, then one a second, ten in all.
  socket.setKeepAlive(true, 15_000);

  let begun: number | null = null;
  const sender = () => host?.id ?? peer.stranger;
  const share = ports.shares(sender, () => resumeIfRoom());
  const room = ports.budget.share(resumeIfRoom);
  const full = () => flying.size >= FLYING_MAX || share.full() || room.full();
  const intake = makeIntake(framer, {
    receive,
    full,
    beginning: ports.beginnings({ address: peer.stranger, host: () => host?.id ?? null, end: () => fault("crowded") }),
    line: () =>
      strange < STRANGE_MAX
        ? { turns: ports.turns.usual, peer: sender() }
        : { turns: ports.turns.slow, peer: peer.stranger },
    taken(documents) {
      if (framer.pending() === 0) begun = null;
      else if (documents > 0) begun = clock.monotonic();
      else begun ??= clock.monotonic();
      if (!intake.waiting()) {
        if (!held && !ending) socket.resume();
      } else if (full()) hold();
    },
  });
  socket.on("data", (chunk: Buffer) => {
    if (ending) return;
    intake.push(chunk);
    socket.pause();
  });
  socket.on("drain", () => linked?.drained());
  socket.on("end", () => void finish(ENDING_MS));
  const closed = Promise.withResolvers<void>();
  socket.on("close", () => {
    gone = true;
    ending = true;
    intake.stop();
    watch.stop();
    share.leave();
    room.leave();
    const unlinked = link?.then(async (made) => made.close(peer.direct && (await answered()))).catch(() => {});
    closed.resolve(unlinked);
  });

  const watch = watchPeer(socket, ports, {
    // A peer that sends a byte now and then must not hold a document open for ever; one that is not read is not to blame.
    second(now) {
      if (socket.isPaused()) begun = begun === null ? null : now;
      else if (begun !== null && now - begun > DOCUMENT_STALL_MS && !ending) fault("stalled");
      if (link === null && !ending) void greet();
    },
    written: outlet.handed,
    seen: (acknowledged, now) => linked?.tick(acknowledged, now),
    lost(how) {
      note({ how }, "host system vanished, or takes nothing it is told; its connection is ended");
      socket.destroy();
    },
  });

  /**
   * A host that only connects and listens gets what waits for it. Asked each second until it has its link: by the first one
   * balancers' probes are gone, and a database that was away is there again.
   */
  async function greet(): Promise<void> {
    if (gone || link !== null) return;
    const known = knownFrom(await ports.hosts(false).catch(() => []), peer, ports.addressAllowed);
    if (known !== null && !gone) await attach(known).catch(() => {});
  }

  function receive(event: FramerEvent): void {
    if (faulty || gone) return;
    switch (event.kind) {
      case "document":
        track(handle(readDocument(event.xml)), event.bytes);
        break;
      case "oversize":
        track(handle(refuseOversize(event.head)), event.head.length);
        break;
      case "fault":
        fault(event.code);
    }
  }

  function track(work: Promise<void>, bytes: number): void {
    const give = share.take(bytes);
    room.take(bytes);
    const settled = work
      .catch((error) => {
        // The connection went before the database came back: the host has heard nothing and brings the page again.
        if (gone && isPassing(error)) return;
        log.error({ peer: peer.address, ...faultFields(error) }, "a document could not be handled");
      })
      .finally(() => {
        flying.delete(settled);
        give();
        room.give(bytes);
        resumeIfRoom();
      });
    flying.add(settled);
  }

  function hold(): void {
    if (share.full()) share.wait();
    if (held) return;
    held = true;
    meter.count("back_pressure", { queue: "mxpp_connection" });
    socket.pause();
  }

  function resumeIfRoom(): void {
    if (gone || !held) return;
    if (flying.size > FLYING_RESUME || outlet.owed() >= ANSWERS_MAX_BYTES || room.full()) return;
    if (share.full()) return void share.wait();
    held = false;
    if (intake.waiting()) intake.goOn();
    else if (!ending) socket.resume();
  }

  function note(fields: LogFields, event: string): void {
    ports.note(peer.address, { host: host?.name ?? null, ...fields }, event);
  }

  function fault(code: string): void {
    meter.count("xml_faults", { gateway: "mxpp", class: code });
    note({ class: code }, "host connection ended for a fault in what it sent");
    faulty = true;
    intake.stop();
    void finish(ENDING_MS);
  }

  async function handle(document: MxppDocument): Promise<void> {
    switch (document.kind) {
      case "newMessage":
        for (const name of document.ignored)
          meter.count("ignored_parts", { gateway: "mxpp", part: name === "#text" ? "text" : "element" });
        return page(document.page).catch((error) => {
          if (gone || isPassing(error)) throw error;
          log.error({ peer: peer.address, ...faultFields(error) }, "a page could not be handled");
          return refuse(document.page, "the server failed at this page", "fault");
        });
      case "refused": {
        const admission = whose(await ports.hosts(false).catch(() => []), document.origin);
        if (admission.kind === "host") host ??= admission.host;
        for (const refusal of [document, ...document.others]) refuse(refusal, document.reason, "document");
        return;
      }
      case "unanswerable":
        strange += 1;
        meter.count("xml_faults", { gateway: "mxpp", class: "unanswerable" });
        note({ reason: document.reason }, "document without a page to answer");
    }
  }

  const whose = (hosts: readonly HostSystem[], origin: string) =>
    admit(hosts, peer, origin, ports.addressAllowed, host);

  async function page(message: NewMessage): Promise<void> {
    const arrivedAt = clock.monotonic();
    let admission = whose(await untilUp(() => ports.hosts(false)), message.origin);
    // It may have been made, or changed, this very second.
    if (admission.kind === "refused") admission = whose(await untilUp(() => ports.hosts(true)), message.origin);
    if (admission.kind === "refused") return refuse(message, admission.reason, "origin");
    const { host: sender } = admission;
    strange = 0;
    const { id: linkId } = await untilUp(() => attach(sender));
    if (message.outputGateway !== null && message.outputGateway !== "")
      meter.count("ignored_parts", { gateway: "mxpp", part: "outputGateway" });
    const made = pageToAccept(message, sender, linkId, ports.messageKey);
    if (made.kind === "refused") return refuse(message, made.reason, "priority");
    const { uniqueId } = made.page;
    if (untold.size < UNTOLD_MAX) untold.add(uniqueId);
    let retry = false;
    let verdict: Verdict;
    const give = made.page.priority === "high" ? null : await ports.places.take(sender.id);
    try {
      verdict = await untilUp(
        () => ports.paging.accept({ ...made.page, arrivedAt, retry }),
        (error) => {
          if (error instanceof DatabaseDown && error.unknown) retry = true;
        },
      );
    } catch (error) {
      untold.delete(uniqueId);
      if (!(error instanceof BadData)) throw error;
      return refuse(message, "the page holds what cannot be stored", "document");
    } finally {
      give?.();
    }
    if (!sender.synthetic) meter.count("pages", { host: sender.name, verdict: verdict.kind });
    // What was accepted, now or before, the outbox tells of.
    if (verdict.kind !== "refused") return;
    untold.delete(uniqueId);
    refuse(message, verdict.reason, verdict.reason);
  }

  const wanted = () => !gone;
  function untilUp<T>(attempt: () => Promise<T>, failed?: (error: unknown) => void): Promise<T> {
    return retrying(attempt, { database: ports.database, wanted, waits: hold, ...(failed && { failed }) });
  }

  function refuse(to: Correlation, reason: string, kind: string): void {
    if (kind === "origin") strange += 1;
    meter.count("refusals", { host: host?.name ?? "", reason: kind });
    note({ reason }, "page refused");
    const { origin, trackingId, destination } = to;
    ports.refused({ host, address: peer.address, origin, trackingId, destination, reason });
    outlet.answer({ ...to, source: destination, at: ports.clock.wall(), status: "FAILED", reason });
    if (outlet.owed() >= ANSWERS_MAX_BYTES) hold();
  }

  function tell(news: readonly News[]): Wrote {
    for (const { uniqueId } of news) untold.delete(uniqueId);
    return outlet.write(news);
  }

  /** The link of this connection, made at the first need of it. */
  function attach(sender: HostSystem): Promise<Link> {
    host = sender;
    if (link !== null) return link;
    const made = makeLink(sender.id, socket, tell, ports);
    link = made;
    made.then(
      (opened) => {
        linked = opened;
        if (gone) void opened.close(false);
      },
      () => {
        link = null;
      },
    );
    return made;
  }

  return { close: (deadlineMs) => finish(deadlineMs).then(() => closed.promise) };

  function finish(deadlineMs: number): Promise<void> {
    ending = true;
    // What it sends meanwhile is not taken. Its good-bye stands behind it.
    socket.resume();
    return end(deadlineMs);
  }
}
