/**
 * One page for as long as something is due for it. The row is the truth and this its driver: it claims each step by a
 * write that matches the row's version, performs it, writes what came of it, and is gone.
 *
 *              claimed with the insert
 *   (accepted) ───────────────────────┐
 *                                     ▼          every device asked
 *   (due) ─► claiming ──────────► asking ─────────────────────────► noting ─► done
 *      │        │ the version moved on    handed over: ENROUTE, PUSH
 *      │        ▼                         not handed over: WAIT
 *      │      done
 *      └─► noting ─► done                 a deadline has passed: FAILED, EXPIRED
 *
 * What is due, in the order asked: expiry; before DELIVERED the device deadline (FAILED, told once) or another wake-up;
 * after it the user deadline (FAILED) or a reminder. A reminder is a wake-up like any other.
 */
import { type DeviceId, type NotificationId, rankOf, type UniqueId, unreachable } from "../domain.ts";
import { type Change, CLAIM_MS, type DueMessage, type Written } from "../persistence/messages.ts";
import type { Lane } from "../persistence/outbox.ts";
import type { WakeTarget } from "../persistence/page-devices.ts";

/** What the actor knows of the row; times on the database's clock. */
export type Row = Omit<DueMessage, "readAt" | "place">;

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
  | { readonly kind: "noting" }
  | { readonly kind: "done" };

export type Message =
  /** `claimed`: the first wake-up was claimed with the insert. `now`: ms on the database's clock. */
  | { readonly kind: "drive"; readonly claimed: boolean; readonly now: number }
  | { readonly kind: "written"; readonly result: Written | null }
  | { readonly kind: "handed"; readonly deviceId: DeviceId; readonly notificationId: NotificationId }
  | { readonly kind: "not-handed"; readonly deviceId: DeviceId; readonly reason: string };

export type Effect =
  | { readonly kind: "write"; readonly change: Change }
  | { readonly kind: "ask"; readonly row: Row; readonly targets: readonly WakeTarget[] }
  | { readonly kind: "end" };

/** Between two wake-ups that nothing has come of. */
export const WAKE_REPEAT_MS = 30_000;

export function step(state: State, message: Message): { state: State; effects: readonly Effect[] } {
  switch (message.kind) {
    case "drive":
      return state.kind === "fresh" ? drive(state.row, message) : stay(state);
    case "written":
      if (state.kind === "noting") return end();
      if (state.kind !== "claiming") return stay(state);
      if (message.result === null) return end();
      return ask({ ...state.row, version: message.result.version, wakeups: state.row.wakeups + 1 });
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
  const base = {
    uniqueId: row.uniqueId,
    version: row.version,
    transport: null,
    outcome: null,
    tell: null,
    wakes: false,
  };
  const delivered = rankOf(row.status) >= rankOf("DELIVERED");
  if (row.expiresAt <= now) {
    const unanswered = delivered && row.userDeadline !== null && row.answer === null;
    const detail = unanswered
      ? "delivered, but not answered before it expired"
      : delivered
        ? "no longer kept for fetching"
        : "expired before any device fetched it";
    const outcome = delivered && !unanswered ? null : ("EXPIRED" as const);
    const tell = outcome !== null && row.outcome === null ? ("FAILED" as const) : null;
    return note({ ...base, event: "EXPIRED", detail, outcome, tell, due: "never" });
  }
  if (!delivered) {
    // An outcome has been told: no more wake-ups, but the page stays fetchable until it expires.
    if (row.outcome !== null) return note({ ...base, event: "WAIT", detail: "kept until it expires", due: "expiry" });
    if (row.deviceDeadline !== null && row.deviceDeadline <= now) {
      const detail =
        row.status === "ENROUTE" ? "woken, but not fetched by any device in time" : "no device could be woken in time";
      return note({ ...base, event: "FAILED", detail, outcome: "FAILED", tell: "FAILED", due: "expiry" });
    }
  } else {
    if (row.answer !== null || row.userDeadline === null)
      return note({ ...base, event: "WAIT", detail: "nothing is due", due: "never" });
    if (row.userDeadline <= now) {
      const told = row.outcome === null ? ("FAILED" as const) : null;
      return note({
        ...base,
        event: "FAILED",
        detail: "delivered, but not answered in time",
        outcome: "FAILED",
        tell: told,
        due: "never",
      });
    }
  }
  const change: Change = { ...base, event: "WAKE", detail: null, wakes: true, due: CLAIM_MS };
  return { state: { kind: "claiming", row }, effects: [{ kind: "write", change }] };
}

function ask(row: Row): { state: State; effects: readonly Effect[] } {
  if (row.targets.length === 0) return conclude(row, [], ["no registered device has a live notification address"]);
  const unanswered = new Set(row.targets.map((target) => target.deviceId));
  return {
    state: { kind: "asking", row, unanswered, handed: [], reasons: [] },
    effects: [{ kind: "ask", row, targets: row.targets }],
  };
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
  const due = reasons.length === 0 ? WAKE_REPEAT_MS : retryMs(row.wakeups);
  if (rankOf(row.status) < rankOf("ENROUTE")) {
    return note({ ...base, event: "ENROUTE", detail, transport: "ENROUTE", tell: "ENROUTE", due });
  }
  return note({ ...base, event: "PUSH", detail, transport: null, tell: null, due });
}

/** 2 s after the first try that came to nothing, doubling up to the ordinary distance between wake-ups. */
function retryMs(wakeups: number): number {
  return Math.min(1_000 * 2 ** Math.min(wakeups, 10), WAKE_REPEAT_MS);
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
  /** The host has news waiting there. */
  readonly announce: (lane: Lane) => void;
  readonly ask: (row: Row, target: WakeTarget) => void;
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
