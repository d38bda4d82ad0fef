/**
 * All streams of this node (CONTRACT, Client messaging: Stream): opens them, wakes them by hints, looks at all of them together since
 * hints may be lost, asks whether they are there, and sends them elsewhere when the node is to go.
 *
 *   upgraded ─► the device's row names this node and this stream ─► hello ─► resume ─► live (stream.ts) ─► closed ─► the row is cleared
 *                  └─ another stream of the device ─► it looks, finds another's name in its row, and closes (4409)
 */
import { randomUUID } from "node:crypto";
import { WebSocketServer } from "ws";
import type { Paging } from "../../actors/paging.ts";
import type { Bus } from "../../cluster/bus.ts";
import type { Membership } from "../../cluster/membership.ts";
import { superviseLoop } from "../../cluster/supervision.ts";
import type { Clock, DeviceId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import { isPassing } from "../../persistence/batch.ts";
import { type Database, urgently } from "../../persistence/database.ts";
import { closeStreamsOf, newsOfStreams } from "../../persistence/streams.ts";
import { connectionsMax } from "../connections.ts";
import type { Upgrade } from "../upgrades.ts";
import type { Listener } from "./caller.ts";
import { openDepartures } from "./departures.ts";
import { CLOSE, FRAME_MAX, readFrame } from "./frames.ts";
import { type Desk, hearSaid } from "./said.ts";
import type { SettingsSlice } from "./settings-answer.ts";
import { openSettingsReach } from "./settings-reach.ts";
import { openSlowStreams } from "./slow-streams.ts";
import { Stream, type StreamPorts } from "./stream.ts";
import { openStreamRows } from "./stream-rows.ts";
import { openWheel } from "./wheel.ts";

export type Streams = {
  /** No more are opened: what is left of the port is for calls, and for those who look whether the node is there. */
  full(): boolean;
  open(listener: Listener, upgrade: Upgrade, desk: Desk): void;
  /** Who may call as this device has changed: its stream, on whichever node, looks whether it still may. */
  changed(device: DeviceId): void;
  /** So many of them, as a part of all, are to come again elsewhere. */
  part(part: number): void;
  /** How many are open. */
  count(): number;
  close(deadlineMs: number): Promise<void>;
};

const SUBPROTOCOL = "tocsin.v2";
/** Of the connections a port may hold. */
export const PORT_PART = 0.85;
const RESUME_MS = 250;
/** Asked whether it is there so often, a random part earlier; by the next time it must have said something. */
const HEARTBEAT_SECONDS = 25;
const JITTER_SECONDS = 5;
/** For the peer's own good-bye. */
const GOOD_BYE_SECONDS = 5;
/** A phone that owes so long a wait has said far more than any does. */
const OWED_MS = 9_000;
const ROUND_MS = 1_000;
/** Between two looks at all of them, where hints of other nodes come; else each round. */
const LOOK_MS = 10_000;
const AT_ONCE = 1_000;
/** Behind a look that failed. */
const AGAIN_MS = 1_000;
/** Those that have just come are not sent on. */
const SETTLED_MS = 4_000;
/** Codes that are counted by their number; a peer may name any. */
const COUNTED = new Set<number>([1000, 1001, 1005, 1006, 1007, 1009, ...Object.values(CLOSE)]);

export function openStreams(
  slice: SettingsSlice,
  ports: {
    readonly premise: Database;
    readonly bus: Bus;
    readonly membership: Pick<Membership, "boot" | "staying" | "nodes">;
    readonly paging: Pick<Paging, "record" | "reply" | "sent">;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
): Streams {
  const { premise, bus, membership, paging, log, meter, clock } = ports;
  const { boot } = membership;
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: FRAME_MAX,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });
  const streamsMax = Math.floor(connectionsMax("http") * PORT_PART);
  const all = new Set<Stream>();
  /** Those whose device's row names them, as far as is known. */
  const byDevice = new Map<DeviceId, Stream>();
  let closing = false;
  let lookedAt = Number.NEGATIVE_INFINITY;
  /** Since when this node has its shards and streams go elsewhere; null: it stays. */
  let leavingSince: number | null = null;

  const rows = openStreamRows({ premise, boot, log });
  const slow = openSlowStreams({ monotonic: clock.monotonic, ended: (stream) => end(stream, CLOSE.tooSlow) });
  const departures = openDepartures({ urls: slice.urls, end });
  const settings = openSettingsReach(slice, { premise, bus, log, clock });
  const wheel = openWheel<Stream>((stream) => {
    if (stream.phase === "closed") {
      stream.socket.terminate();
      return null;
    }
    if (stream.asked) {
      end(stream, CLOSE.silent);
      return GOOD_BYE_SECONDS;
    }
    stream.asked = true;
    stream.write("ping", {});
    return HEARTBEAT_SECONDS - Math.random() * JITTER_SECONDS;
  });

  const saidPorts = { record: paging.record, reply: paging.reply, confirmNotice: rows.confirmNotice, log };
  const streamPorts: StreamPorts = {
    boot,
    look: rows.look,
    notices: (stream) => rows.notices(stream.device.id),
    // What is not written down is sent again to a phone that comes again, and its host hears DELIVERED without ENROUTE.
    sent: (send) => void paging.sent(send).catch(nothing),
    noticeSent: rows.noticeSent,
    async reclaim(stream) {
      const { kind } = await rows.claim(stream, false);
      if (kind !== "held") end(stream, kind === "displaced" ? CLOSE.displaced : CLOSE.unauthorized);
      return kind === "held";
    },
    held(stream, by) {
      if (stream.heldSince === null) meter.count("back_pressure", { queue: "stream" });
      slow.held(stream, by);
    },
    swollen: slow.swollen,
    failed(stream, error) {
      if (!isPassing(error)) log.error(faultFields(error), "a look for a stream failed");
      // While the database is away, the look at all of them waits for it.
      if (premise.isUp()) setTimeout(() => stream.wake(), AGAIN_MS);
    },
    unsentMax: slow.unsentMax,
    counted: (type) => meter.count("stream_frames", { type }),
    shown: ({ acceptedAt, priority }) =>
      meter.observe("page_stream", (clock.wall() - acceptedAt.getTime()) / 1_000, { priority }),
    wall: clock.wall,
  };

  function open({ device, tokenHash }: Listener, { request, socket, head, spoke }: Upgrade, desk: Desk): void {
    server.handleUpgrade(request, socket, head, (webSocket) => {
      const { id, subscriberId, settings } = device;
      const who = {
        device: { id, subscriberId, settings },
        tokenHash,
        epoch: randomUUID(),
        openedAt: clock.monotonic(),
      };
      const stream = new Stream(webSocket, who, streamPorts);
      all.add(stream);
      webSocket.on("message", (data: Buffer, binary) => {
        spoke();
        hear(stream, data, binary, desk);
      });
      webSocket.on("ping", () => charge(stream, desk));
      webSocket.on("pong", () => charge(stream, desk));
      // Its good-bye is on its way already.
      webSocket.on("error", () => end(stream, null, 1006));
      webSocket.on("close", (code) => {
        end(stream, null, code);
        wheel.remove(stream);
        all.delete(stream);
      });
      wheel.set(stream, HEARTBEAT_SECONDS - Math.random() * JITTER_SECONDS);
      if (closing) return end(stream, CLOSE.restart);
      begin(stream).catch((error: unknown) => {
        if (!isPassing(error)) log.error(faultFields(error), "a stream could not be opened");
        end(stream, CLOSE.unavailable);
        // It may have been written all the same, and nobody else would clear it for as long as this node lives.
        rows.release(stream);
      });
    });
  }

  async function begin(stream: Stream): Promise<void> {
    const { id } = stream.device;
    const claimed = await rows.claim(stream, true);
    if (claimed.kind !== "held") return end(stream, CLOSE.unauthorized);
    // Gone meanwhile: nobody else will clear its row.
    if (stream.phase === "closed") return rows.release(stream);
    const displaced = byDevice.get(id);
    if (displaced !== undefined) end(displaced, CLOSE.displaced);
    byDevice.set(id, stream);
    stream.before = claimed.before;
    // Before it listens itself: the one it displaces is on another node.
    if (claimed.elsewhere) bus.publish(id);
    stream.unsubscribe = bus.subscribe(id, true, () => stream.wake());
    stream.phase = "greeting";
    const { epoch } = stream;
    stream.write("hello", { epoch, resumeToken: epoch, heartbeatSeconds: HEARTBEAT_SECONDS });
    if (stream.resume !== null) return greet(stream);
    setTimeout(() => void greet(stream), RESUME_MS);
  }

  /** Never rejects. */
  async function greet(stream: Stream): Promise<void> {
    if (stream.phase !== "greeting") return;
    stream.phase = "resuming";
    const { resume, before } = stream;
    // What cannot be asked now is taken for what the phone does not have.
    const had = resume === null ? null : await rows.had(stream, resume).catch(() => null);
    const recovered = had !== null && before !== null && resume?.epoch?.toLowerCase() === before;
    stream.start(had ?? { pages: [], notices: [] }, recovered);
    // Unless it ended meanwhile.
    if (byDevice.get(stream.device.id) === stream) settings.add(stream);
  }

  function hear(stream: Stream, data: Buffer, binary: boolean, desk: Desk): void {
    if (!charge(stream, desk)) return;
    const frame = binary ? "bad" : readFrame(data.toString());
    if (frame === "bad") {
      end(stream, CLOSE.badFrame);
      return;
    }
    switch (frame?.type) {
      case "resume":
        // One that comes later than it is waited for finds everything sent anew.
        if (stream.phase !== "opening" && stream.phase !== "greeting") return;
        stream.resume = frame.data;
        void greet(stream);
        break;
      case "ping":
        stream.write("pong", {});
        break;
      case "confirm":
      case "status":
      case "reply":
        void hearSaid(stream, frame, desk, saidPorts);
        break;
    }
  }

  /** It said something; whether that is to be heard. What is too much waits in its socket. */
  function charge(stream: Stream, desk: Desk): boolean {
    if (stream.phase === "closed") return false;
    stream.asked = false;
    const waitMs = desk.charge(stream);
    if (waitMs >= OWED_MS) {
      end(stream, CLOSE.tooSlow);
      stream.socket.pause();
      return false;
    }
    if (waitMs > 0 && !stream.socket.isPaused) {
      stream.socket.pause();
      setTimeout(() => stream.phase !== "closed" && stream.socket.resume(), waitMs);
    }
    return true;
  }

  /** @param code null: it has been closed from there, by `theirs` */
  function end(stream: Stream, code: number | null, theirs = 1006): void {
    if (stream.phase === "closed") return;
    const counted = code ?? (COUNTED.has(theirs) ? theirs : "other");
    meter.count("stream_closes", { code: String(counted) });
    stream.close(code);
    leave(stream);
    wheel.set(stream, GOOD_BYE_SECONDS);
  }

  /** Its end is known; its connection may last a while yet. */
  function leave(stream: Stream): void {
    stream.unsubscribe?.();
    stream.unsubscribe = null;
    slow.remove(stream);
    settings.remove(stream);
    if (byDevice.get(stream.device.id) !== stream) return;
    byDevice.delete(stream.device.id);
    if (!stream.lost) rows.release(stream);
  }

  async function round(): Promise<void> {
    const now = clock.monotonic();
    // Those that come back although they were told stay: there is nobody else for them, or it was somebody who did not know better.
    const leaves = membership.staying() !== true && membership.nodes().some(({ state }) => state === "LIVE");
    if (leaves && leavingSince === null) departures.leave(byDevice.values());
    leavingSince = leaves ? (leavingSince ?? now) : null;
    if (!premise.isUp()) return;
    await rows.releaseRest();
    if (now - lookedAt < (bus.hears() ? LOOK_MS : ROUND_MS)) return;
    lookedAt = now;
    const streams = [...byDevice.values()];
    for (let first = 0; first < streams.length; first += AT_ONCE) {
      const some = streams.slice(first, first + AT_ONCE);
      const places = some.map(({ device, epoch, underWay, notices }) => ({
        ...{ deviceId: device.id, subscriberId: device.subscriberId, boot, epoch },
        ...{ underWay: [...underWay], notices },
      }));
      for (const { n, own, news, settled } of await newsOfStreams(urgently(premise), places)) {
        some[n - 1]!.confirmed(settled);
        if (!own || news) some[n - 1]!.wake();
      }
    }
  }
  const loop = superviseLoop("streams", () => ROUND_MS, round, { log, clock });

  return {
    full: () => all.size >= streamsMax,
    open,
    changed: bus.publish,
    part(part) {
      const settledBefore = clock.monotonic() - SETTLED_MS;
      const some = [...byDevice.values()].filter(({ openedAt }) => openedAt < settledBefore && Math.random() < part);
      if (some.length === 0) return;
      meter.count("parted_connections", { kind: "stream" }, some.length);
      departures.leave(some);
    },
    count: () => all.size,
    async close(deadlineMs) {
      closing = true;
      departures.leave(all);
      const until = clock.monotonic() + deadlineMs;
      const gone = async (by: number) => {
        while (all.size > 0 && clock.monotonic() < by) await new Promise((wake) => setTimeout(wake, 50));
      };
      await gone(until - deadlineMs / 3);
      departures.finish();
      await gone(until);
      for (const stream of all) stream.socket.terminate();
      slow.close();
      wheel.close();
      await Promise.all([loop.close(), settings.close()]);
      await closeStreamsOf(premise, [boot]).catch(nothing);
    },
  };
}

function nothing(): void {}
