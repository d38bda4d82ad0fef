/** What a trace may find a page to be, as its sentences are made of it: for tests of these. */
import type { TraceFacts } from "../../persistence/trace-reason.ts";

export const NOW = Date.UTC(2026, 0, 2, 12);
export const SECOND = 1_000;
export const HOUR = 3_600 * SECOND;
export const SINCE = { status: NOW - 12 * SECOND, answer: null, reply: null, outcome: null, step: null };
export const DEVICES = { active: 1, reachable: 1, streaming: 0, lastSeenAt: NOW - 2_460 * SECOND };
export const NOBODY = { children: 0, fetched: 0, delivered: false, answered: false, answeredBy: [] };
export const WAITING: TraceFacts = {
  now: NOW,
  status: "QUEUED",
  delivered: false,
  answer: null,
  replied: false,
  outcome: null,
  outcomeReason: null,
  asksAnswer: false,
  dueAt: NOW + 2 * SECOND,
  deviceDeadline: NOW + 38 * SECOND,
  userDeadline: null,
  expiresAt: NOW + 71 * HOUR,
  step: 0,
  stepDeadline: null,
  reminders: 0,
  repeats: 3,
  skipped: false,
  rule: null,
  since: SINCE,
  attempt: null,
  push: null,
  devices: DEVICES,
  host: { connected: true, waiting: [] },
  parent: null,
  family: NOBODY,
  noticesOut: 0,
};
/** What follows a page that nobody fetches, where its site has no rule. */
export const THEN = " If nobody fetches it by 12:00:38 UTC (in 38 s), the host is told FAILED.";
export const PUSHED: TraceFacts = {
  ...WAITING,
  status: "ENROUTE",
  dueAt: NOW + 25 * SECOND,
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
export const AGAIN = `; woken again in 25 s.${THEN}`;
export const push = (change: Partial<NonNullable<TraceFacts["push"]>>): TraceFacts => ({
  ...PUSHED,
  push: { ...PUSHED.push!, ...change },
});
export const READ: TraceFacts = { ...PUSHED, status: "READ", delivered: true, dueAt: null };
/** An alert that was fetched and waits for its answer. */
export const ASKED: TraceFacts = {
  ...READ,
  asksAnswer: true,
  userDeadline: NOW + 200 * SECOND,
  dueAt: NOW + 60 * SECOND,
};
export const RULE: NonNullable<TraceFacts["rule"]> = {
  onIgnored: false,
  steps: [
    { kind: "GROUP", name: "ICU on call" },
    { kind: "SUBSCRIBER", name: "5550102" },
    { kind: "GATEWAY", name: "night mail" },
  ],
};
export const PASSED_ON: TraceFacts = {
  ...PUSHED,
  rule: RULE,
  step: 1,
  stepDeadline: NOW + 60 * SECOND,
  dueAt: NOW + 60 * SECOND,
  since: { ...SINCE, step: NOW - 9 * SECOND },
  family: { ...NOBODY, children: 3, fetched: 1, delivered: true },
  asksAnswer: true,
};
export const STREAMED: TraceFacts = {
  ...PUSHED,
  push: null,
  dueAt: NOW + 2 * SECOND,
  attempt: { event: "ENROUTE", at: NOW - SECOND, detail: "device stream epoch:1" },
  devices: { ...DEVICES, streaming: 1 },
};
