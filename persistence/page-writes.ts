/**
 * All that is written of pages, many at once in a statement: one batch for each kind of change. What a page of high priority waits for
 * goes in lanes of its own.
 */
import type { DeviceId, UniqueId } from "../domain.ts";
import { acceptPages, type PageToAccept, type Verdict } from "./acceptance.ts";
import { type Batch, EASY_PACE_MS, makeBatch, PACE_MS } from "./batch.ts";
import { type Database, urgently } from "./database.ts";
import { MEMBERS_MAX, type PassedOn, type StepToTake, takeSteps } from "./escalations.ts";
import { tellFamilies } from "./family-answers.ts";
import { type Change, changeMessages, type Written } from "./messages.ts";
import { type ReceiptEntry, type ReceiptResult, recordReceipts } from "./receipts.ts";
import { type ReplyEntry, type ReplyResult, recordReplies } from "./replies.ts";
import { recordSends, type StreamSend, type StreamSent } from "./stream-sends.ts";

type UrgentChange = { readonly change: Change; readonly urgent: boolean };
type AnsweredPage = { readonly uniqueId: UniqueId; readonly urgent: boolean };

export type PageWrites = {
  readonly accepting: Batch<PageToAccept, Verdict>;
  readonly changing: Batch<UrgentChange, Written | null>;
  readonly passing: Batch<StepToTake, PassedOn | null>;
  /** Those who had it with others, of whom one has answered for all. */
  readonly telling: Batch<AnsweredPage, readonly DeviceId[]>;
  readonly receiving: Batch<ReceiptEntry, ReceiptResult>;
  readonly sending: Batch<StreamSend, StreamSent>;
  readonly replying: Batch<ReplyEntry, ReplyResult>;
  /** Entries that wait or are written. */
  depths(): {
    readonly accept: number;
    readonly change: number;
    readonly step: number;
    readonly receipt: number;
    readonly send: number;
  };
  /** How long the oldest of those has waited that somebody waits for, ms. */
  waitedMs(): number;
};

/** A phone says several things of a page within a moment (DELIVERED, READ), each in a statement of its own, and waits for none of them. */
const SAID_PACE_MS = 2 * PACE_MS;
const ENTRIES_MAX = 250;
const WAITING_MAX = 10_000;
/** Of text in one statement: what is longer takes the more of its deadline, and is held three times over while it flies. */
const CHARACTERS_MAX = 1_000_000;
/** People who may get a page of their own in one statement: with 2,500 it takes 2 s, with 5,000 longer than it may, and would be tried for ever. */
const PEOPLE_MAX = 4 * MEMBERS_MAX;
/** Families told at once that one of them has answered: as many rows as they have members, up to 2,000, and a notice for each of their phones. */
const FAMILIES_MAX = 8;

export function openPageWrites(database: Database, node: string): PageWrites {
  const limits = { entriesMax: ENTRIES_MAX, waitingMax: WAITING_MAX };
  const accepting = makeBatch<PageToAccept, Verdict>({
    ...limits,
    key: (page) => page.uniqueId,
    urgent: (page) => page.priority === "high",
    paceMs: PACE_MS,
    length: { of: (page) => page.text.length, max: CHARACTERS_MAX },
    write: (pages, urgent) => acceptPages(urgently(database, urgent), node, pages),
  });
  const changing = makeBatch<UrgentChange, Written | null>({
    ...limits,
    key: ({ change }) => change.uniqueId,
    urgent: ({ urgent }) => urgent,
    paceMs: PACE_MS,
    write: (entries, urgent) =>
      changeMessages(
        urgently(database, urgent),
        node,
        entries.map(({ change }) => change),
      ),
  });
  const passing = makeBatch<StepToTake, PassedOn | null>({
    ...limits,
    entriesMax: 50,
    key: (step) => step.uniqueId,
    urgent: ({ urgent }) => urgent,
    paceMs: PACE_MS,
    length: { of: ({ step }) => (step.kind === "GROUP" ? MEMBERS_MAX : 1), max: PEOPLE_MAX },
    write: (steps, urgent) => takeSteps(urgently(database, urgent), node, steps),
  });
  const telling = makeBatch<AnsweredPage, readonly DeviceId[]>({
    ...limits,
    entriesMax: FAMILIES_MAX,
    key: ({ uniqueId }) => uniqueId,
    urgent: ({ urgent }) => urgent,
    write: (entries, urgent) =>
      tellFamilies(
        urgently(database, urgent),
        node,
        entries.map(({ uniqueId }) => uniqueId),
      ),
  });
  const receiving = makeBatch<ReceiptEntry, ReceiptResult>({
    ...limits,
    key: (entry) => entry.uniqueId,
    paceMs: SAID_PACE_MS,
    write: (entries) => recordReceipts(database, node, entries),
  });
  const sending = makeBatch<StreamSend, StreamSent>({
    ...limits,
    key: (send) => send.uniqueId,
    paceMs: EASY_PACE_MS,
    write: (sends) => recordSends(database, node, sends),
  });
  const replying = makeBatch<ReplyEntry, ReplyResult>({
    ...limits,
    key: (entry) => entry.uniqueId,
    paceMs: SAID_PACE_MS,
    length: { of: ({ text, choice }) => (text ?? choice ?? "").length, max: CHARACTERS_MAX },
    write: (entries) => recordReplies(database, node, entries),
  });

  return {
    ...{ accepting, changing, passing, telling, receiving, sending, replying },
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
