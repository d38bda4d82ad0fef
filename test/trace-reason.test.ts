/** The sentences that say where a page is, why, and what happens next, from every state it can be in. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { RECALL_REASON } from "../persistence/recalls.ts";
import { type TraceFacts, whyOf } from "../persistence/trace-reason.ts";
import {
  AGAIN,
  ASKED,
  DEVICES,
  HOUR,
  NOW,
  PUSHED,
  push,
  READ,
  RULE,
  SECOND,
  SINCE,
  STREAMED,
  THEN,
  WAITING,
} from "./helpers/trace-facts.ts";

const RECALLED: TraceFacts = {
  ...PUSHED,
  outcome: "RECALLED",
  outcomeReason: RECALL_REASON,
  dueAt: null,
  since: { ...SINCE, outcome: NOW - SECOND },
};

const SENTENCES: [string, TraceFacts, string][] = [
  ["before the first wake-up", WAITING, `Waiting for the first wake-up (at the latest in 2 s).${THEN}`],
  [
    "no live address",
    { ...WAITING, devices: { ...DEVICES, active: 2, reachable: 0 } },
    `Waiting: no phone of the recipient has a live notification address (2 phones registered).${THEN}`,
  ],
  [
    "no phone any more",
    { ...WAITING, devices: { ...DEVICES, active: 0, reachable: 0 } },
    `Waiting: the recipient has no registered phone any more.${THEN}`,
  ],
  [
    "hosted side away",
    { ...WAITING, attempt: { event: "WAIT", at: NOW - SECOND, detail: "the hosted side is away" } },
    `Waiting: the hosted side is away, tried again in 2 s.${THEN}`,
  ],
  [
    "claimed, request not stored yet",
    { ...WAITING, attempt: { event: "WAKE", at: NOW - SECOND, detail: null } },
    `A wake-up was begun 1 s ago and is not yet with the hosted side.${THEN}`,
  ],
  [
    "request stored, what came of it is not known any more",
    { ...PUSHED, push: null },
    `On its way since 5 s, not fetched yet (phone last seen 41 min ago)${AGAIN}`,
  ],
  [
    "on the phone's stream",
    STREAMED,
    `Sent 1 s ago over the phone's stream, which is open, and not confirmed yet; pushed as well in 2 s.${THEN}`,
  ],
  [
    "sent over a stream that has ended",
    { ...STREAMED, devices: DEVICES, attempt: { event: "STREAM", at: NOW - SECOND, detail: "device stream epoch:2" } },
    `Sent 1 s ago over the phone's stream, which has ended since, and not confirmed yet; pushed as well in 2 s.${THEN}`,
  ],
  [
    "accepted by FCM",
    PUSHED,
    `FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago)${AGAIN}`,
  ],
  [
    "accepted by APNs, phone never seen",
    { ...push({ gatewayType: "APNS" }), devices: { ...DEVICES, lastSeenAt: null } },
    `APNs accepted the wake-up 4 s ago, the phone has not fetched the page yet (never seen since it was registered)${AGAIN}`,
  ],
  [
    "not sent yet",
    push({ state: "STORED", attempts: 0, doneAt: null }),
    `The wake-up is with the hosted side since 5 s and was not answered by FCM yet${AGAIN}`,
  ],
  [
    "retried",
    push({ state: "STORED", attempts: 3, code: "UNAVAILABLE", doneAt: null }),
    `FCM has not taken the wake-up after 3 attempts (last answer UNAVAILABLE)${AGAIN}`,
  ],
  [
    "refused",
    push({ state: "REFUSED", code: "SENDER_ID_MISMATCH" }),
    `FCM refused the wake-up 4 s ago (SENDER_ID_MISMATCH)${AGAIN}`,
  ],
  [
    "dead address",
    push({ state: "DEAD", code: "UNREGISTERED" }),
    `FCM said 4 s ago that the phone's notification address is dead (UNREGISTERED); the phone must open its app${AGAIN}`,
  ],
  [
    "wake-up expired",
    push({ state: "EXPIRED", code: "TTL" }),
    `The wake-up expired 4 s ago, before FCM took it (TTL)${AGAIN}`,
  ],
  [
    "the deadline comes before the next wake-up",
    { ...PUSHED, deviceDeadline: NOW + 20 * SECOND },
    "FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago). If nobody fetches it by 12:00:20 UTC (in 20 s), the host is told FAILED.",
  ],
  [
    "the deadline has just passed",
    { ...PUSHED, deviceDeadline: NOW - SECOND, dueAt: NOW - SECOND, rule: RULE },
    "FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago). Now it goes to the group ICU on call, then to 5550102, then by the gateway night mail; then FAILED.",
  ],
  [
    "no timeoutDevice",
    { ...PUSHED, deviceDeadline: null },
    "FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago); woken again in 25 s. If nobody fetches it by 2026-01-05 11:00:00 UTC (in 2 days), it expires, and the host is told FAILED.",
  ],
  ["delivered", { ...READ, status: "DELIVERED" }, "On the phone and not opened yet, fetched 12 s ago."],
  ["delivered, another phone has yet to fetch it", { ...READ, dueAt: READ.expiresAt }, "Read 12 s ago."],
  [
    "delivered, answer wanted",
    { ...ASKED, status: "DELIVERED" },
    "On the phone and not opened yet, fetched 12 s ago, no answer yet; reminded in 60 s. If nobody answers by 12:03:20 UTC (in 3 min), the host is told FAILED.",
  ],
  [
    "reminded, a rule is to follow",
    { ...ASKED, reminders: 2, rule: { ...RULE, steps: RULE.steps.slice(1, 2) } },
    "Read 12 s ago, reminded 2 of 3 times, no answer yet; reminded in 60 s. If nobody answers by 12:03:20 UTC (in 3 min), it goes to 5550102; then FAILED.",
  ],
  [
    "reminded as often as is set",
    { ...ASKED, reminders: 3, dueAt: ASKED.userDeadline },
    "Read 12 s ago, reminded 3 of 3 times, no answer yet. If nobody answers by 12:03:20 UTC (in 3 min), the host is told FAILED.",
  ],
  [
    "read, answer overdue",
    { ...ASKED, userDeadline: NOW - 3 * SECOND, dueAt: NOW - 3 * SECOND },
    "Read 12 s ago, no answer yet (was due 3 s ago). Now the host is told FAILED.",
  ],
  ["read", READ, "Read 12 s ago."],
  [
    "read but not answered in time",
    { ...READ, asksAnswer: true, outcome: "FAILED", outcomeReason: "no answer" },
    "Read 12 s ago; the host was told FAILED (no answer).",
  ],
  [
    "answered",
    { ...ASKED, answer: "ACKNOWLEDGED", dueAt: null, since: { ...SINCE, answer: NOW - 9 * SECOND } },
    "Answered ACKNOWLEDGED 9 s ago.",
  ],
  [
    "answered late",
    {
      ...ASKED,
      answer: "IGNORED",
      outcome: "FAILED",
      outcomeReason: "timeoutDevice passed",
      since: { ...SINCE, answer: NOW - 9 * SECOND, outcome: NOW - HOUR },
    },
    "Answered IGNORED 9 s ago, after the host had been told FAILED (timeoutDevice passed).",
  ],
  [
    "replied to",
    { ...ASKED, replied: true, dueAt: null, since: { ...SINCE, reply: NOW - 7 * SECOND } },
    "Answered by a reply 7 s ago.",
  ],
  [
    "declined, which is final",
    { ...ASKED, answer: "IGNORED", rule: RULE, dueAt: null, since: { ...SINCE, answer: NOW - 9 * SECOND } },
    "Answered IGNORED 9 s ago.",
  ],
  [
    "declined, where such pages are passed on",
    {
      ...ASKED,
      answer: "IGNORED",
      rule: { onIgnored: true, steps: RULE.steps.slice(0, 1) },
      dueAt: NOW,
      since: { ...SINCE, answer: NOW - SECOND },
    },
    "Declined 1 s ago, and to be passed on. Now it goes to the group ICU on call; then FAILED.",
  ],
  [
    "failed",
    {
      ...PUSHED,
      outcome: "FAILED",
      outcomeReason: "no phone reached",
      dueAt: NOW + 71 * HOUR,
      since: { ...SINCE, outcome: NOW - 130 * SECOND },
    },
    "Failed 2 min ago: no phone reached; a phone can still fetch it for 2 days.",
  ],
  [
    "expired",
    {
      ...PUSHED,
      outcome: "EXPIRED",
      dueAt: null,
      expiresAt: NOW - HOUR,
      since: { ...SINCE, outcome: NOW - HOUR },
    },
    "Expired 60 min ago before any phone fetched it.",
  ],
  [
    "recalled, one phone is asleep",
    { ...RECALLED, noticesOut: 1 },
    "Recalled by an operator 1 s ago; no phone has said that it fetched it; 1 phone yet to hear that it is withdrawn.",
  ],
  ["recalled", RECALLED, "Recalled by an operator 1 s ago; no phone has said that it fetched it."],
  [
    "recalled, and fetched",
    { ...RECALLED, status: "DELIVERED", delivered: true },
    "Recalled by an operator 1 s ago; a phone fetched it 12 s ago.",
  ],
  [
    "recalled, and answered",
    {
      ...RECALLED,
      status: "READ",
      delivered: true,
      answer: "ACKNOWLEDGED",
      since: { ...RECALLED.since, answer: NOW - 5 * SECOND },
    },
    "Recalled by an operator 1 s ago; it was answered ACKNOWLEDGED 5 s ago.",
  ],
  [
    "recalled when its host had been told an outcome already",
    { ...RECALLED, status: "READ", delivered: true, outcomeReason: "no answer" },
    "Recalled by an operator 1 s ago; a phone opened it 12 s ago; the host had been told FAILED (no answer) before.",
  ],
  [
    "nobody drives it",
    { ...WAITING, dueAt: NOW - 45 * SECOND },
    `Waiting for the first wake-up (due 45 s ago); its next step is overdue by 45 s: no node drives it.${THEN}`,
  ],
  ["nothing is due", { ...WAITING, dueAt: null }, `Waiting for the first wake-up; nothing more is due for it.${THEN}`],
  [
    "host away",
    {
      ...READ,
      host: {
        connected: false,
        waiting: [
          { status: "DELIVERED", at: NOW, taken: true },
          { status: "READ", at: NOW, taken: false },
        ],
      },
    },
    "Read 12 s ago; the host system is not connected and has not taken READ yet.",
  ],
  [
    "host gone after it was told",
    { ...READ, host: { connected: false, waiting: [{ status: "READ", at: NOW, taken: true }] } },
    "Read 12 s ago.",
  ],
  [
    "host slow",
    { ...READ, host: { connected: true, waiting: [{ status: "READ", at: NOW - 60 * SECOND, taken: true }] } },
    "Read 12 s ago; the host system is connected but has not taken READ yet.",
  ],
  [
    "host just being told",
    { ...READ, host: { connected: true, waiting: [{ status: "READ", at: NOW - 10 * SECOND, taken: true }] } },
    "Read 12 s ago.",
  ],
];
for (const [state, facts, sentence] of SENTENCES) {
  test(`a page's trace says why, and what is next: ${state}`, () => {
    assert.is(whyOf(facts), sentence);
  });
}

test.run();
