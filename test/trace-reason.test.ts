/** The sentence that says where a page is and why, from every state it can be in. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { RECALL_REASON } from "../persistence/recalls.ts";
import { type TraceFacts, whyOf } from "../persistence/trace-reason.ts";

const NOW = Date.UTC(2026, 0, 2, 12);
const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const WAITING: TraceFacts = {
  now: NOW,
  status: "QUEUED",
  answer: null,
  outcome: null,
  outcomeReason: null,
  dueAt: NOW + 2 * SECOND,
  userDeadline: null,
  expiresAt: NOW + 71 * HOUR,
  since: { status: NOW - 12 * SECOND, answer: null, outcome: null },
  attempt: null,
  push: null,
  devices: { active: 1, reachable: 1, lastSeenAt: NOW - 2_460 * SECOND },
  host: { connected: true, waiting: [] },
};
const PUSHED: TraceFacts = {
  ...WAITING,
  status: "ENROUTE",
  attempt: { event: "ENROUTE", at: NOW - 5 * SECOND, detail: null },
  push: {
    gatewayType: "GCM",
    state: "SENT",
    attempts: 1,
    code: null,
    createdAt: NOW - 5 * SECOND,
    doneAt: NOW - 4 * SECOND,
  },
};
const RECALLED: TraceFacts = {
  ...PUSHED,
  outcome: "RECALLED",
  outcomeReason: RECALL_REASON,
  dueAt: null,
  since: { status: NOW, answer: null, outcome: NOW - SECOND },
};
const push = (change: Partial<NonNullable<TraceFacts["push"]>>): TraceFacts => ({
  ...PUSHED,
  push: { ...PUSHED.push!, ...change },
});

const SENTENCES: [string, TraceFacts, string][] = [
  ["before the first wake-up", WAITING, "Waiting for the first wake-up (at the latest in 2 s)."],
  [
    "no live address",
    { ...WAITING, devices: { active: 2, reachable: 0, lastSeenAt: null } },
    "Waiting: no phone of the recipient has a live notification address (2 phones registered).",
  ],
  [
    "no phone any more",
    { ...WAITING, devices: { active: 0, reachable: 0, lastSeenAt: null } },
    "Waiting: the recipient has no registered phone any more.",
  ],
  [
    "hosted side away",
    { ...WAITING, attempt: { event: "WAIT", at: NOW - SECOND, detail: "the hosted side is away" } },
    "Waiting: the hosted side is away, tried again in 2 s.",
  ],
  [
    "claimed, request not stored yet",
    { ...WAITING, attempt: { event: "WAKE", at: NOW - SECOND, detail: null } },
    "A wake-up was begun 1 s ago and is not yet with the hosted side.",
  ],
  [
    "written to the phone's stream",
    { ...PUSHED, push: null },
    "On its way since 5 s, not fetched yet (phone last seen 41 min ago).",
  ],
  [
    "accepted by FCM",
    PUSHED,
    "FCM accepted the wake-up 4 s ago, the phone has not fetched the page yet (last seen 41 min ago).",
  ],
  [
    "accepted by APNs, phone never seen",
    { ...push({ gatewayType: "APNS" }), devices: { active: 1, reachable: 1, lastSeenAt: null } },
    "APNs accepted the wake-up 4 s ago, the phone has not fetched the page yet (never seen since it was registered).",
  ],
  [
    "not sent yet",
    push({ state: "STORED", attempts: 0, doneAt: null }),
    "The wake-up is with the hosted side since 5 s and was not answered by FCM yet.",
  ],
  [
    "retried",
    push({ state: "STORED", attempts: 3, code: "UNAVAILABLE", doneAt: null }),
    "FCM has not taken the wake-up after 3 attempts (last answer UNAVAILABLE).",
  ],
  [
    "refused",
    push({ state: "REFUSED", code: "SENDER_ID_MISMATCH" }),
    "FCM refused the wake-up 4 s ago (SENDER_ID_MISMATCH).",
  ],
  [
    "dead address",
    push({ state: "DEAD", code: "UNREGISTERED" }),
    "FCM said 4 s ago that the phone's notification address is dead (UNREGISTERED); the phone must open its app.",
  ],
  [
    "wake-up expired",
    push({ state: "EXPIRED", code: "TTL" }),
    "The wake-up expired 4 s ago, before FCM took it (TTL).",
  ],
  ["delivered", { ...PUSHED, status: "DELIVERED" }, "On the phone and not opened yet, fetched 12 s ago."],
  [
    "delivered, answer wanted",
    { ...PUSHED, status: "DELIVERED", userDeadline: NOW + 200 * SECOND },
    "On the phone and not opened yet, fetched 12 s ago, no answer yet (asked for within 3 min).",
  ],
  ["read", { ...PUSHED, status: "READ" }, "Read 12 s ago."],
  [
    "read, answer overdue",
    { ...PUSHED, status: "READ", userDeadline: NOW - 3 * SECOND },
    "Read 12 s ago, no answer yet (was due 3 s ago).",
  ],
  [
    "read but not answered in time",
    { ...PUSHED, status: "READ", outcome: "FAILED", outcomeReason: "no answer" },
    "Read 12 s ago; the host was told FAILED (no answer).",
  ],
  [
    "answered",
    {
      ...PUSHED,
      status: "READ",
      answer: "ACKNOWLEDGED",
      since: { status: NOW - 30 * SECOND, answer: NOW - 9 * SECOND, outcome: null },
    },
    "Answered ACKNOWLEDGED 9 s ago.",
  ],
  [
    "answered late",
    {
      ...PUSHED,
      status: "READ",
      answer: "IGNORED",
      outcome: "FAILED",
      outcomeReason: "timeoutDevice passed",
      since: { status: NOW, answer: NOW - 9 * SECOND, outcome: NOW - HOUR },
    },
    "Answered IGNORED 9 s ago, after the host had been told FAILED (timeoutDevice passed).",
  ],
  [
    "failed",
    {
      ...PUSHED,
      outcome: "FAILED",
      outcomeReason: "no phone reached",
      dueAt: NOW + 71 * HOUR,
      since: { status: NOW, answer: null, outcome: NOW - 130 * SECOND },
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
      since: { status: NOW, answer: null, outcome: NOW - HOUR },
    },
    "Expired 60 min ago before any phone fetched it.",
  ],
  ["recalled", RECALLED, "Recalled by an operator 1 s ago; no phone has said that it fetched it."],
  [
    "recalled, and fetched",
    { ...RECALLED, status: "DELIVERED", since: { status: NOW - 5 * SECOND, answer: null, outcome: NOW - SECOND } },
    "Recalled by an operator 1 s ago; a phone fetched it 5 s ago.",
  ],
  [
    "recalled, and answered",
    {
      ...RECALLED,
      status: "READ",
      answer: "ACKNOWLEDGED",
      since: { status: NOW - 9 * SECOND, answer: NOW - 5 * SECOND, outcome: NOW - SECOND },
    },
    "Recalled by an operator 1 s ago; it was answered ACKNOWLEDGED 5 s ago.",
  ],
  [
    "recalled when its host had been told an outcome already",
    { ...RECALLED, status: "READ", outcomeReason: "no answer" },
    "Recalled by an operator 1 s ago; a phone opened it 0 s ago; the host had been told FAILED (no answer) before.",
  ],
  [
    "nobody drives it",
    { ...WAITING, dueAt: NOW - 45 * SECOND },
    "Waiting for the first wake-up (due 45 s ago); its next step is overdue by 45 s: no node drives it.",
  ],
  ["nothing is due", { ...WAITING, dueAt: null }, "Waiting for the first wake-up; nothing more is due for it."],
  [
    "host away",
    {
      ...PUSHED,
      status: "READ",
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
    { ...PUSHED, status: "READ", host: { connected: false, waiting: [{ status: "READ", at: NOW, taken: true }] } },
    "Read 12 s ago.",
  ],
  [
    "host slow",
    {
      ...PUSHED,
      status: "READ",
      host: { connected: true, waiting: [{ status: "READ", at: NOW - 60 * SECOND, taken: true }] },
    },
    "Read 12 s ago; the host system is connected but has not taken READ yet.",
  ],
  [
    "host just being told",
    {
      ...PUSHED,
      status: "READ",
      host: { connected: true, waiting: [{ status: "READ", at: NOW - 10 * SECOND, taken: true }] },
    },
    "Read 12 s ago.",
  ],
];
for (const [state, facts, sentence] of SENTENCES) {
  test(`a page's trace says why: ${state}`, () => {
    assert.is(whyOf(facts), sentence);
  });
}

test.run();
