/**
 * Hints between rooms and between nodes: "look at your rows". A hint points at what is durable already, so a lost one costs a
 * second until the next look (gateways/mxpp/links.ts, gateways/client/streams.ts) and a repeated one a look. One whose only listener is not on this node
 * travels over Redis to all others, gathered for a moment. Nothing here waits for Redis.
 *
 *   publish ─► its listeners here ─ the only one there is was among them ─► done
 *                 └─ else: gathered (bounded, once each) ─► one message to all nodes ─► their listeners
 */
import { Redis } from "ioredis";
import type { BootId, DeviceId } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import type { SettingsLane } from "../persistence/device-groups.ts";
import type { Lane as HostLane } from "../persistence/outbox.ts";
import { redisOptions, revive } from "../persistence/redis-options.ts";

export type BusSlice = { readonly url: string; readonly prefix: string; readonly boot: BootId };

/**
 * Of a host: a link's own, or its host system's for rows no link has taken. Of a phone that listens by a stream: its device's, and
 * its group's, which is set otherwise now.
 */
export type Lane = HostLane | DeviceId | SettingsLane;

export type Bus = {
  /** There is news in this lane. */
  publish(lane: Lane): void;
  /** `only`: no other listens to this lane, here or on another node. Returns the end of the subscription. */
  subscribe(lane: Lane, only: boolean, listener: () => void): () => void;
  /** Whether hints of other nodes come, as far as is known. */
  hears(): boolean;
  close(): Promise<void>;
};

/** The number rises when what is said over it changes its form: nodes of two versions may share a Redis. */
const CHANNEL = "news:1";
const GATHER_MS = 2;
/** Hints that wait to be sent; past this they are dropped, and found a second later. */
const GATHERED_MAX = 5_000;
/** Lanes in one message. */
const AT_ONCE = 500;
/** Longest message that is read: so many lanes, a UUID each. */
const CHARACTERS_MAX = 50 * AT_ONCE;
const COMPLAIN_MS = 60_000;
/** A listener is only ever told: that its connection was forgotten on the way shows when it asks. */
const BEAT_MS = 3_000;
/** An answer that has not come by then never will: connected anew. */
const SILENT_MS = 4_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @param slice null: there is no other node */
export function openBus(slice: BusSlice | null, ports: { readonly log: Log }): Bus {
  const listeners = new Map<Lane, Map<() => void, boolean>>();
  const gathered = new Set<Lane>();
  const nodes = slice === null ? null : connect(slice, ports.log, hear);
  let timer: NodeJS.Timeout | null = null;

  /** Whether all have heard it that there are. */
  function hear(lane: Lane): boolean {
    let all = false;
    for (const [listener, only] of listeners.get(lane) ?? []) {
      all ||= only;
      listener();
    }
    return all;
  }

  function send(): void {
    timer = null;
    const lanes = [...gathered];
    gathered.clear();
    for (let first = 0; first < lanes.length; first += AT_ONCE) nodes?.tell(lanes.slice(first, first + AT_ONCE));
  }

  return {
    publish(lane) {
      if (hear(lane) || nodes === null || gathered.size >= GATHERED_MAX) return;
      gathered.add(lane);
      timer ??= setTimeout(send, GATHER_MS);
    },
    subscribe(lane, only, listener) {
      const heard = listeners.get(lane) ?? new Map();
      listeners.set(lane, heard.set(listener, only));
      return () => {
        heard.delete(listener);
        if (heard.size === 0 && listeners.get(lane) === heard) listeners.delete(lane);
      };
    },
    hears: () => nodes?.hears() ?? false,
    async close() {
      if (timer !== null) clearTimeout(timer);
      nodes?.close();
    },
  };
}

type Nodes = { tell(lanes: readonly Lane[]): void; hears(): boolean; close(): void };

function connect({ url, prefix, boot }: BusSlice, log: Log, hear: (lane: Lane) => void): Nodes {
  const options = { ...redisOptions(url), connectionName: `${prefix}:bus`, socketTimeout: SILENT_MS };
  const channel = `{${prefix}}:${CHANNEL}`;
  // What could not be sent at once is worth nothing later: no queue for it, and no second try.
  const teller = new Redis({ ...options, enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 2_000 });
  const listener = new Redis({ ...options, maxRetriesPerRequest: null, autoResubscribe: false });
  let complainedAt = Number.NEGATIVE_INFINITY;
  let closed = false;

  function complain(error: unknown): void {
    if (closed || performance.now() - complainedAt < COMPLAIN_MS) return;
    complainedAt = performance.now();
    log.warn(faultFields(error), "redis does not answer; hosts of other nodes hear of their pages a second later");
  }

  for (const connection of [teller, listener]) {
    connection.on("error", complain);
    revive(connection, () => closed);
  }
  listener.on("message", (_channel: string, text: string) => {
    for (const lane of readLanes(text, boot)) hear(lane);
  });
  listener.on("ready", () => listener.subscribe(channel).catch(complain));
  const beat = setInterval(() => {
    for (const connection of [teller, listener]) if (connection.status === "ready") connection.ping().catch(complain);
  }, BEAT_MS);

  return {
    tell: (lanes) => void teller.publish(channel, [boot, ...lanes].join(" ")).catch(complain),
    hears: () => listener.status === "ready",
    close() {
      closed = true;
      clearInterval(beat);
      teller.disconnect();
      listener.disconnect();
    },
  };
}

/** The lanes another node names; none where the message is this node's own, or no such message at all. */
export function readLanes(text: string, self: BootId): Lane[] {
  if (text.length > CHARACTERS_MAX) return [];
  const [from, ...lanes] = text.split(" ");
  return from === self || lanes.length > AT_ONCE || !lanes.every((lane) => UUID.test(lane)) ? [] : (lanes as Lane[]);
}
