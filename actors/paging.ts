/**
 * The way in to the actors, for every protocol: accepts pages, drives what is due, records what phones say. Owns the
 * batches through which all changes of messages go, and the message and device actors.
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
import { acceptPages, type PageToAccept, type Verdict } from "../persistence/acceptance.ts";
import { makeBatch } from "../persistence/batch.ts";
import { type Database, urgently } from "../persistence/database.ts";
import { DISPATCHES_LANE } from "../persistence/dispatches.ts";
import { MEMBERS_MAX, type PassedOn, type StepToTake, takeSteps } from "../persistence/escalations.ts";
import { tellFamilies } from "../persistence/family-answers.ts";
import { type Change, CLAIM_MS, changeMessages, type DueMessage, type Written } from "../persistence/messages.ts";
import { RECALL_REASON, type Recall, type Recalled, recallPage } from "../persistence/recalls.ts";
import { type ReceiptEntry, type ReceiptResult, recordReceipts } from "../persistence/receipts.ts";
import { faultOf, type ReplyEntry, type ReplyResult, recordReplies } from "../persistence/replies.ts";
import { recordSends, type StreamSend, type StreamSent } from "../persistence/stream-sends.ts";
import { type Message as DeviceMessage, deviceBehaviour, type HostedPort } from "./device.ts";
import { freshRow, type Message as MessageMessage, messageBehaviour, type PushTarget, type Row } from "./message.ts";

export type Paging = {
  /** Rejects with DatabaseDown or BatchFull; then the page may be brought again, and will be found if it was written. */
  accept(page: PageToAccept): Promise<Verdict>;
  record(entry: ReceiptEntry): Promise<ReceiptResult>;
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
  depths(): {
    readonly accept: number;
    readonly change: number;
    readonly step: number;
    readonly receipt: number;
    readonly send: number;
  };
  /** How long the oldest of those has waited, ms. */
  waitedMs(): number;
};

export type PagingSlice = {
  readonly node: string;
  /** Where phones fetch from. */
  readonly urls: () => readonly string[];
  readonly coreVersion: string;
};

const ENTRIES_MAX = 250;
const WAITING_MAX = 10_000;
/** Of text in one statement: what is longer takes the more of its deadline, and is held three times over while it flies. */
const CHARACTERS_MAX = 1_000_000;
/** People who may get a page of their own in one statement: with 2,500 it takes 2 s, with 5,000 longer than it may, and would be tried for ever. */
const PEOPLE_MAX = 4 * MEMBERS_MAX;
/** Families told at once that one of them has answered: as many rows as they have members, up to 2,000, and a notice for each of their phones. */
const FAMILIES_MAX = 8;
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

  const limits = { entriesMax: ENTRIES_MAX, waitingMax: WAITING_MAX };
  const accepting = makeBatch<PageToAccept, Verdict>({
    ...limits,
    key: (page) => page.uniqueId,
    urgent: (page) => page.priority === "high",
    length: { of: (page) => page.text.length, max: CHARACTERS_MAX },
    write: (pages) => acceptPages(database, node, pages),
  });
  type UrgentChange = { readonly change: Change; readonly urgent: boolean };
  const changing = makeBatch<UrgentChange, Written | null>({
    ...limits,
    key: ({ change }) => change.uniqueId,
    urgent: ({ urgent }) => urgent,
    write: (entries) =>
      changeMessages(
        entries[0]!.urgent ? urgently(database) : database,
        node,
        entries.map(({ change }) => change),
      ),
  });
  const passing = makeBatch<StepToTake, PassedOn | null>({
    ...limits,
    entriesMax: 50,
    key: (step) => step.uniqueId,
    urgent: ({ urgent }) => urgent,
    length: { of: ({ step }) => (step.kind === "GROUP" ? MEMBERS_MAX : 1), max: PEOPLE_MAX },
    write: (steps) => takeSteps(database, node, steps),
  });
  const telling = makeBatch<{ readonly uniqueId: UniqueId; readonly urgent: boolean }, readonly DeviceId[]>({
    ...limits,
    entriesMax: FAMILIES_MAX,
    key: ({ uniqueId }) => uniqueId,
    urgent: ({ urgent }) => urgent,
    write: (entries) =>
      tellFamilies(
        entries[0]!.urgent ? urgently(database) : database,
        node,
        entries.map(({ uniqueId }) => uniqueId),
      ),
  });
  const receiving = makeBatch<ReceiptEntry, ReceiptResult>({
    ...limits,
    key: (entry) => entry.uniqueId,
    write: (entries) => recordReceipts(database, node, entries),
  });
  const sending = makeBatch<StreamSend, StreamSent>({
    ...limits,
    key: (send) => send.uniqueId,
    write: (sends) => recordSends(database, node, sends),
  });

  const replying = makeBatch<ReplyEntry, ReplyResult>({
    ...limits,
    key: (entry) => entry.uniqueId,
    length: { of: ({ text, choice }) => (text ?? choice ?? "").length, max: CHARACTERS_MAX },
    write: (entries) => recordReplies(database, node, entries),
  });

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
      const result = await receiving.submit(entry);
      if (result.kind === "recorded") {
        bus.publish(result.lane);
        for (const device of result.noticed) bus.publish(device);
        reached(entry.receipt, result, result.ageSeconds, null);
      }
      if (result.kind === "repeated") meter.count("duplicates", { kind: "receipt" });
      return result;
    },

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
    depths: () => ({
      accept: accepting.depth(),
      change: changing.depth(),
      step: passing.depth() + telling.depth(),
      receipt: receiving.depth() + replying.depth(),
      send: sending.depth(),
    }),
    waitedMs: () =>
      Math.max(...[accepting, changing, passing, telling, receiving, replying].map((batch) => batch.waitedMs())),
  };
}
