/**
 * The way in to the actors, for every protocol: accepts pages, drives what is due, records what phones say. Owns the
 * message and device actors; what is written goes by batches (persistence/page-writes.ts).
 *
 *   accept ─► one statement ─► message actor ─► device actors ─► hosted side
 *   sweep ───────── due ─────────┘                                (gateways/core2core)
 *   receipt, reply ─► one statement ─► hint to the host's link, and to the streams of phones that are to stop ringing
 */

import type { ActorSystem, Parent } from "../cluster/actor-system.ts";
import type { Bus } from "../cluster/bus.ts";
import { heapBytes } from "../cluster/heap.ts";
import type { Membership } from "../cluster/membership.ts";
import { openLeaves } from "../cluster/routing.ts";
import {
  type Clock,
  type DeviceId,
  type Priority,
  type Shard,
  type StatusText,
  shardOf,
  type UniqueId,
  unreachable,
} from "../domain.ts";
import type { Log } from "../log.ts";
import type { Meter } from "../meter.ts";
import type { PageToAccept, Verdict } from "../persistence/acceptance.ts";
import type { Database } from "../persistence/database.ts";
import { DISPATCHES_LANE } from "../persistence/dispatches.ts";
import type { PassedOn, StepToTake } from "../persistence/escalations.ts";
import { CLAIM_MS, type DueMessage } from "../persistence/messages.ts";
import { openPageWrites, type PageWrites } from "../persistence/page-writes.ts";
import { RECALL_REASON, type Recall, type Recalled, recallPage } from "../persistence/recalls.ts";
import type { ReceiptEntry, ReceiptResult } from "../persistence/receipts.ts";
import { faultOf, type ReplyEntry, type ReplyResult } from "../persistence/replies.ts";
import { returnPages } from "../persistence/returned-pages.ts";
import type { StreamSend } from "../persistence/stream-sends.ts";
import { type Message as DeviceMessage, deviceBehaviour, type HostedPort } from "./device.ts";
import { freshRow, type Message as MessageMessage, messageBehaviour, type PushTarget, type Row } from "./message.ts";

export type Paging = {
  /** Rejects with DatabaseDown or BatchFull; then the page may be brought again, and will be found if it was written. */
  accept(page: PageToAccept): Promise<Verdict>;
  record(entry: ReceiptEntry): Promise<ReceiptResult>;
  /** Pages whose answer a phone gave up unread are in its inbox again; see persistence/returned-pages.ts. */
  takeBack(device: DeviceId, pages: readonly UniqueId[]): Promise<readonly UniqueId[]>;
  /** Withdraws a page and all it was passed on as; see persistence/recalls.ts. */
  recall(recall: Recall): Promise<Recalled | null>;
  reply(entry: ReplyEntry): Promise<ReplyResult>;
  /** A page has gone out by a device's stream. */
  sent(send: StreamSend): Promise<void>;
  /** Whether it was taken. */
  drive(due: DueMessage): boolean;
  /** How many more messages may be driven now. */
  room(): number;
  reap(): void;
  depths: PageWrites["depths"];
  waitedMs: PageWrites["waitedMs"];
};

export type PagingSlice = {
  readonly node: string;
  /** Where phones fetch from. */
  readonly urls: () => readonly string[];
  readonly coreVersion: string;
};

/** An actor with what it holds takes up to 8 KiB, and all of them no more than a quarter of the heap this process was given. */
const LEAVES_MAX = Math.min(20_000, Math.floor(heapBytes() / 4 / (2 * 8 * 1024)));
const MESSAGES_MAX = LEAVES_MAX;
const DEVICES_MAX = LEAVES_MAX;
const WAKES_WAITING_MAX = 2_000;
const TURN_MS = 15_000;
/** Nobody answers a message actor any more once its row has come due again twice over; a device's may take longer. */
const MESSAGE_LIFE_MS = 2 * CLAIM_MS;
const DEVICE_LIFE_MS = 30_000;
/** How long the accepting node may act on the claim that came with the insert (3 s on the database's clock). */
const FIRST_CLAIM_MS = 2_500;

export function openPaging(
  slice: PagingSlice,
  ports: {
    readonly database: Database;
    readonly system: ActorSystem;
    readonly branch: (shard: Shard) => Parent;
    readonly membership: Membership;
    readonly bus: Bus;
    readonly hosted: HostedPort;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
): Paging {
  const { database, bus, clock, log, meter, membership } = ports;
  const { node } = slice;
  const messages = openLeaves<MessageMessage>(
    { kind: "message", residentMax: MESSAGES_MAX, mailboxMax: 64, turnMs: TURN_MS, lifeMs: MESSAGE_LIFE_MS },
    ports,
  );
  const devices = openLeaves<DeviceMessage>(
    {
      kind: "device",
      residentMax: DEVICES_MAX,
      mailboxMax: WAKES_WAITING_MAX,
      turnMs: TURN_MS,
      lifeMs: DEVICE_LIFE_MS,
    },
    ports,
  );

  const { accepting, changing, passing, telling, receiving, sending, replying, ...writes } = openPageWrites(
    database,
    node,
  );

  type Counted = { readonly priority: Priority; readonly synthetic: boolean };
  function reached(status: StatusText, page: Counted, ageSeconds: number, detail: string | null): void {
    if (page.synthetic) return;
    meter.count("statuses", { status, reason: status === "FAILED" ? (detail ?? "") : "" });
    meter.observe("page_status", ageSeconds, { status, priority: page.priority });
  }

  function start(row: Row, claimed: boolean, now: number, mayAct: () => boolean): boolean {
    const shard = shardOf(row.subscriberId);
    const urgent = row.priority === "high";
    const address = messages.start(row.uniqueId, shard, (self) =>
      messageBehaviour(row, {
        mayAct,
        write: async (change) => {
          const written = await changing.submit({ change, urgent });
          if (written === null) meter.count("stale_changes", { kind: "message" });
          else if (change.tell !== null) reached(change.tell, row, written.ageSeconds, change.detail);
          return written;
        },
        passOn: (passed, number, step) =>
          passOn(passed, { uniqueId: passed.uniqueId, version: passed.version, number, step, urgent }),
        tellFamily: async ({ uniqueId }) => {
          for (const device of await telling.submit({ uniqueId, urgent })) bus.publish(device);
        },
        hint: (devices) => devices.forEach(bus.publish),
        announce: bus.publish,
        ask: (asking, target) => wake(asking, target, shard, self()),
        end: (id) => messages.end(id, self()),
      }),
    );
    return address?.tell({ kind: "drive", claimed, now }) === "queued";
  }

  async function passOn(row: Row, step: StepToTake): Promise<PassedOn | null> {
    const asked = clock.monotonic();
    const result = await passing.submit(step);
    if (result === null) meter.count("stale_changes", { kind: "message" });
    else if (!row.synthetic) meter.count("escalations", { kind: step.step.kind, result: result.kind });
    if (result?.kind !== "passed") return result;
    if (step.step.kind === "GATEWAY") bus.publish(DISPATCHES_LANE);
    for (const child of result.children) {
      bus.publish(child.lane);
      const seconds = (clock.monotonic() - asked) / 1_000;
      for (const status of ["ACCEPTED", "QUEUED"] as const) reached(status, child, seconds, null);
      start(freshRow(child), true, 0, () => clock.monotonic() < asked + FIRST_CLAIM_MS);
    }
    return result;
  }

  function wake(row: Row, target: PushTarget, shard: Shard, replyTo: ReturnType<typeof messages.get> & object): void {
    const id = target.deviceId;
    const device =
      devices.get(id) ??
      devices.start(id, shard, (self) =>
        deviceBehaviour({
          hosted: ports.hosted,
          urls: slice.urls(),
          coreVersion: slice.coreVersion,
          flushLater: () => self().tell({ kind: "flush" }),
          end: () => {
            if (self().waiting() === 0) devices.end(id, self());
          },
        }),
      );
    const { uniqueId, wakeups: wakeup, priority, expiresAt } = row;
    const withdrawn = row.outcome === "RECALLED";
    const asked = { uniqueId, wakeup, priority, expiresAt, withdrawn, target, replyTo };
    const told = device?.tell({ kind: "wake", wake: asked });
    if (told !== "queued") replyTo.tell({ kind: "not-handed", deviceId: id, reason: "too much is waiting to be sent" });
  }

  /** What went out to this device, and is not written yet, goes in the receipt's statement; by itself where that wrote nothing of it. */
  async function recordWithSend(entry: ReceiptEntry): Promise<ReceiptResult> {
    const send = sending.withdraw(entry.uniqueId, ({ deviceId }) => deviceId === entry.deviceId);
    if (send === null) return receiving.submit(entry);
    let written = false;
    try {
      const result = await receiving.submit({ ...entry, sent: send.entry });
      written = result.kind !== "unknown";
      return result;
    } finally {
      send.settle(written ? null : sending.submit(send.entry));
    }
  }

  return {
    async accept(page) {
      const asked = clock.monotonic();
      const verdict = await accepting.submit(page);
      switch (verdict.kind) {
        case "accepted": {
          bus.publish(page.linkId ?? page.hostSystemId);
          const seconds = (clock.monotonic() - asked) / 1_000;
          reached("ACCEPTED", page, seconds, null);
          reached("QUEUED", page, seconds, null);
          const { subscriberId, expiresAt, targets } = verdict;
          const { uniqueId, priority, synthetic } = page;
          const row = freshRow({ uniqueId, subscriberId, priority, expiresAt, targets, synthetic });
          start(row, true, 0, () => clock.monotonic() < asked + FIRST_CLAIM_MS);
          if (verdict.trackingIdReused)
            log.warn({ uniqueId: page.uniqueId }, "other content came under a trackingId used before");
          break;
        }
        case "repeated":
          if (verdict.unanswered !== undefined) throw verdict.unanswered;
          bus.publish(page.linkId ?? page.hostSystemId);
          meter.count("duplicates", { kind: "page" });
          break;
        case "refused":
          break;
        default:
          unreachable(verdict);
      }
      return verdict;
    },

    async record(entry) {
      const result = await recordWithSend(entry);
      if (result.kind === "recorded") {
        bus.publish(result.lane);
        for (const device of result.noticed) bus.publish(device);
        if (result.enroute) reached("ENROUTE", result, result.ageSeconds, null);
        reached(entry.receipt, result, result.ageSeconds, null);
      }
      if (result.kind === "repeated") meter.count("duplicates", { kind: "receipt" });
      return result;
    },

    takeBack: (device, pages) => returnPages(database, node, device, pages),

    async recall(recall) {
      const recalled = await recallPage(database, node, recall);
      for (const page of recalled?.pages ?? []) {
        if (page.news === null) continue;
        bus.publish(page.news);
        reached("FAILED", page, page.ageSeconds, RECALL_REASON);
      }
      for (const device of recalled?.devices ?? []) bus.publish(device);
      return recalled;
    },

    async reply(entry) {
      const fault = faultOf(entry);
      if (fault !== null) return { kind: "refused", reason: fault };
      const result = await replying.submit(entry);
      if (result.kind === "recorded") {
        bus.publish(result.lane);
        for (const device of result.noticed) bus.publish(device);
        if (result.read) reached("READ", result, result.ageSeconds, null);
      }
      if (result.kind === "repeated") meter.count("duplicates", { kind: "reply" });
      return result;
    },

    async sent(send) {
      const result = await sending.submit(send);
      if (result === null) return;
      bus.publish(result.lane);
      reached("ENROUTE", result, result.ageSeconds, null);
    },

    drive(due) {
      const shard = shardOf(due.subscriberId);
      return start(due, false, due.readAt, () => membership.drives(shard));
    },

    room: () => messages.room(),
    reap() {
      const reaped = messages.reap() + devices.reap();
      if (reaped > 0) log.warn({ reaped }, "actors that nobody answered were ended; their rows come due again");
    },
    depths: writes.depths,
    waitedMs: writes.waitedMs,
  };
}
