/**
 * One page for as long as something is due for it. The row is the truth and this its driver: it claims each step by a
 * write that matches the row's version, performs it, writes what came of it, and is gone. What is due says `due.ts`.
 *
 *              claimed with the insert
 *   (accepted) ───────────────────────┐
 *                                     ▼          every device asked
 *   (due) ─► claiming ──────────► asking ─────────────────────────► noting ─► done
 *      │        │ the version moved on    handed over: ENROUTE, PUSH           ▲
 *      │        ▼                         not handed over: WAIT                │
 *      │      done                        all listen by a stream ──────────────┘ (hinted; due again if none confirms)
 *      ├─► noting ─► done                 a deadline has passed: FAILED, EXPIRED; somebody has answered: its family is told
 *      └─► passing ─► done                a step of the rule: those it was passed on to have pages of their own
 *             ├─► passing | noting        it found nobody: the next step, or FAILED
 *             └─► asking                  it went to more of the recipient's devices
 *
 * A device that listens is not pushed to by a page's first wake-up: the node that has its stream is told. By the next wake-up, 3 s
 * later, it is pushed to like any other. A reminder is a wake-up like any other.
 */
import { type DeviceId, type NotificationId, rankOf, type UniqueId, unreachable } from "../domain.ts";
import { DEFAULT_PROFILES } from "../persistence/alert-profiles.ts";
import type { RuleStep } from "../persistence/escalation-rules.ts";
import type { PassedOn } from "../persistence/escalations.ts";
import { type Change, CLAIM_MS, type DueMessage, type Written } from "../persistence/messages.ts";
import type { Lane } from "../persistence/outbox.ts";
import type { WakeTarget } from "../persistence/page-devices.ts";
import { dueOf } from "./due.ts";

/** A device that can be pushed to. */
export type PushTarget = WakeTarget & { readonly notificationAddress: string };

/** What the actor knows of the row; times on the database's clock. */
export type Row = Omit<DueMessage, "readAt" | "place">;

/** Of a page that was made just now: its first wake-up is claimed with it, and its deadlines are for later. */
export function freshRow(
  made: Pick<Row, "uniqueId" | "subscriberId" | "priority" | "expiresAt" | "targets" | "synthetic">,
): Row {
  return {
    ...made,
    version: 2,
    status: "QUEUED",
    answer: null,
    replied: false,
    outcome: null,
    asksAnswer: false,
    wakeups: 1,
    reminders: 0,
    profile: DEFAULT_PROFILES[made.priority],
    deviceDeadline: null,
    userDeadline: null,
    step: 0,
    stepDeadline: null,
    rule: null,
    settledByFamily: false,
    untoldAnswer: false,
  };
}

export type State =
  | { readonly kind: "fresh"; readonly row: Row }
  | { readonly kind: "claiming"; readonly row: Row }
  | {
      readonly kind: "asking";
      readonly row: Row;
      readonly unanswered: ReadonlySet<DeviceId>;
      readonly handed: readonly NotificationId[];
      readonly reasons: readonly string[];
    }
  | { readonly kind: "passing"; readonly row: Row; readonly now: number }
  | { readonly kind: "noting" }
  | { readonly kind: "done" };

export type Message =
  /** `claimed`: the first wake-up was claimed with the insert. `now`: ms on the database's clock. */
  | { readonly kind: "drive"; readonly claimed: boolean; readonly now: number }
  | { readonly kind: "written"; readonly result: Written | null }
  | { readonly kind: "passed"; readonly result: PassedOn | null }
  | { readonly kind: "handed"; readonly deviceId: DeviceId; readonly notificationId: NotificationId }
  | { readonly kind: "not-handed"; readonly deviceId: DeviceId; readonly reason: string };

export type Effect =
  | { readonly kind: "write"; readonly change: Change }
  | { readonly kind: "pass-on"; readonly row: Row; readonly number: number; readonly step: RuleStep }
  | { readonly kind: "tell-family"; readonly row: Row }
  | { readonly kind: "ask"; readonly row: Row; readonly targets: readonly PushTarget[] }
  /** The nodes that have these devices' streams are to look. */
  | { readonly kind: "hint"; readonly devices: readonly DeviceId[] }
  | { readonly kind: "end" };

/** Between wake-ups that nothing has come of: the first pause, which doubles, and the longest. */
const WAKE_REPEAT_MS = 15_000;
const WAKE_REPEAT_MAX_MS = 300_000;
/** A page that went out by a stream and is not confirmed by then is pushed all the same. */
export const STREAM_CONFIRM_MS = 3_000;

export function step(state: State, message: Message): { state: State; effects: readonly Effect[] } {
  switch (message.kind) {
    case "drive":
      return state.kind === "fresh" ? drive(state.row, message) : stay(state);
    case "written":
      if (state.kind === "noting") return end();
      if (state.kind !== "claiming") return stay(state);
      if (message.result === null) return end();
      return ask({ ...state.row, version: message.result.version, wakeups: state.row.wakeups + 1 });
    case "passed":
      return state.kind === "passing" ? passed(state, message.result) : stay(state);
    case "handed":
      if (state.kind !== "asking") return stay(state);
      return answered({ ...state, handed: [...state.handed, message.notificationId] }, message.deviceId);
    case "not-handed":
      if (state.kind !== "asking") return stay(state);
      return answered({ ...state, reasons: [...state.reasons, message.reason] }, message.deviceId);
    default:
      return unreachable(message);
  }
}

function drive(
  row: Row,
  { claimed, now }: { claimed: boolean; now: number },
): { state: State; effects: readonly Effect[] } {
  if (claimed) return ask(row);
  const { uniqueId, version } = row;
  const base = { uniqueId, version, transport: null, outcome: null, tell: null, wakes: false } as const;
  const due = dueOf(row, now);
  switch (due.kind) {
    case "expired": {
      const tell = due.outcome !== null && row.outcome === null ? "FAILED" : null;
      return note({ ...base, event: "EXPIRED", detail: due.detail, outcome: due.outcome, tell, due: "never" });
    }
    case "failed": {
      const until = due.kept ? "expiry" : "never";
      return note({ ...base, event: "FAILED", detail: due.detail, outcome: "FAILED", tell: "FAILED", due: until });
    }
    case "nothing":
      return note({ ...base, event: "WAIT", detail: due.detail, due: due.until });
    case "tell-family":
      return { state: { kind: "noting" }, effects: [{ kind: "tell-family", row }] };
    case "step":
      return {
        state: { kind: "passing", row, now },
        effects: [{ kind: "pass-on", row, number: due.number, step: due.step }],
      };
    case "wake": {
      const allListen = row.wakeups === 0 && row.targets.length > 0 && row.targets.every(({ streaming }) => streaming);
      const claimMs = allListen ? STREAM_CONFIRM_MS : CLAIM_MS;
      const change: Change = { ...base, event: "WAKE", detail: null, wakes: true, due: claimMs };
      return { state: { kind: "claiming", row }, effects: [{ kind: "write", change }] };
    }
    default:
      return unreachable(due);
  }
}

function passed(
  { row, now }: State & { kind: "passing" },
  result: PassedOn | null,
): { state: State; effects: readonly Effect[] } {
  if (result === null || result.kind === "passed") return end();
  const { version } = result;
  if (result.kind === "widened") return ask({ ...row, version, wakeups: row.wakeups + 1, targets: result.targets });
  return drive({ ...row, version, step: row.step + 1, stepDeadline: now }, { claimed: false, now });
}

function ask(row: Row): { state: State; effects: readonly Effect[] } {
  const listening = row.targets.filter(({ streaming }) => streaming).map(({ deviceId }) => deviceId);
  const hint: Effect[] = listening.length > 0 ? [{ kind: "hint", devices: listening }] : [];
  const targets = row.targets.filter(({ streaming }) => row.wakeups > 1 || !streaming).filter(hasAddress);
  if (targets.length === 0) {
    // What they have sent is noted where they are, and the claim runs out as soon as they must have confirmed it.
    if (row.wakeups === 1 && row.targets.some(({ streaming }) => streaming))
      return { state: { kind: "done" }, effects: [...hint, { kind: "end" }] };
    const { state, effects } = conclude(row, [], ["no registered device has a live notification address"]);
    return { state, effects: [...hint, ...effects] };
  }
  const unanswered = new Set(targets.map((target) => target.deviceId));
  return {
    state: { kind: "asking", row, unanswered, handed: [], reasons: [] },
    effects: [...hint, { kind: "ask", row, targets }],
  };
}

function hasAddress(target: WakeTarget): target is PushTarget {
  return target.notificationAddress !== null;
}

function answered(state: State & { kind: "asking" }, deviceId: DeviceId): { state: State; effects: readonly Effect[] } {
  const unanswered = new Set(state.unanswered);
  unanswered.delete(deviceId);
  if (unanswered.size > 0) return { state: { ...state, unanswered }, effects: [] };
  return conclude(state.row, state.handed, state.reasons);
}

function conclude(
  row: Row,
  handed: readonly NotificationId[],
  reasons: readonly string[],
): { state: State; effects: readonly Effect[] } {
  const base = { uniqueId: row.uniqueId, version: row.version, outcome: null, wakes: false } as const;
  if (handed.length === 0) {
    return note({
      ...base,
      event: "WAIT",
      detail: reasons[0] ?? "no device to ask",
      transport: null,
      tell: null,
      due: retryMs(row.wakeups),
    });
  }
  const detail = handed.join(" ");
  // One that nobody woke may be the one its owner carries.
  const recalled = row.outcome === "RECALLED";
  const due = reasons.length > 0 ? retryMs(row.wakeups) : recalled ? "never" : repeatMs(row);
  if (!recalled && rankOf(row.status) < rankOf("ENROUTE")) {
    return note({ ...base, event: "ENROUTE", detail, transport: "ENROUTE", tell: "ENROUTE", due });
  }
  return note({ ...base, event: "PUSH", detail, transport: null, tell: null, due });
}

/** 2 s after the first try that came to nothing, doubling up to the shortest distance between wake-ups. */
function retryMs(wakeups: number): number {
  return Math.min(1_000 * 2 ** Math.min(wakeups, 10), WAKE_REPEAT_MS);
}

/** Until it is looked at again, once all were woken. */
function repeatMs(row: Row): number {
  if (rankOf(row.status) >= rankOf("DELIVERED")) return row.profile.intervalSeconds * 1_000;
  if (row.wakeups === 1 && row.targets.some(({ streaming }) => streaming)) return STREAM_CONFIRM_MS;
  return Math.min(WAKE_REPEAT_MS * 2 ** Math.min(row.wakeups - 1, 10), WAKE_REPEAT_MAX_MS);
}

function note(change: Change): { state: State; effects: readonly Effect[] } {
  return { state: { kind: "noting" }, effects: [{ kind: "write", change }] };
}

function end(): { state: State; effects: readonly Effect[] } {
  return { state: { kind: "done" }, effects: [{ kind: "end" }] };
}

function stay(state: State): { state: State; effects: readonly Effect[] } {
  return { state, effects: [] };
}

export type MessagePorts = {
  /** Whether this node may act for the message at this instant; asked before every effect. */
  readonly mayAct: () => boolean;
  readonly write: (change: Change) => Promise<Written | null>;
  /** Takes the step; those it found are driven by whoever calls this. null: the version had moved on. */
  readonly passOn: (row: Row, number: number, step: RuleStep) => Promise<PassedOn | null>;
  /** All of its family are told that one of them has answered. */
  readonly tellFamily: (row: Row) => Promise<void>;
  readonly hint: (devices: readonly DeviceId[]) => void;
  /** The host has news waiting there. */
  readonly announce: (lane: Lane) => void;
  readonly ask: (row: Row, target: PushTarget) => void;
  readonly end: (id: UniqueId) => void;
};

/** Steps through one message and whatever its writes answer; effects that decide truth are awaited within the turn. */
export function messageBehaviour(row: Row, ports: MessagePorts): (message: Message) => Promise<void> {
  let state: State = { kind: "fresh", row };
  return async (message) => {
    const inbox: Message[] = [message];
    for (let next = inbox.shift(); next !== undefined; next = inbox.shift()) {
      const stepped = step(state, next);
      state = stepped.state;
      for (const effect of stepped.effects) {
        if (effect.kind !== "end" && !ports.mayAct()) {
          // The shard has gone to another node, which finds the row when it is due.
          state = { kind: "done" };
          ports.end(row.uniqueId);
          return;
        }
        switch (effect.kind) {
          case "write": {
            const result = await ports.write(effect.change);
            if (result?.news) ports.announce(result.news);
            inbox.push({ kind: "written", result });
            break;
          }
          case "pass-on":
            inbox.push({ kind: "passed", result: await ports.passOn(effect.row, effect.number, effect.step) });
            break;
          case "tell-family":
            await ports.tellFamily(effect.row);
            inbox.push({ kind: "written", result: null });
            break;
          case "hint":
            ports.hint(effect.devices);
            break;
          case "ask":
            for (const target of effect.targets) ports.ask(effect.row, target);
            break;
          case "end":
            ports.end(row.uniqueId);
            break;
          default:
            unreachable(effect);
        }
      }
    }
  };
}
