/**
 * The test pages of one site, one at a time, and whether its paging works as far as they tell. Pure.
 *
 *   waiting ── due ──► out ── DELIVERED ──────────► waiting      delivered; late where it took more than 10 s
 *      ▲                └──── FAILED, or 60 s ────► waiting      lost
 *
 *   well ── a page is out for 10 s, or lost ──► broken (since that page was due) ── DELIVERED ──► well
 */
import { type StatusText, unreachable } from "../../domain.ts";

/** Times are monotonic ms. */
export type State = {
  readonly nextAt: number;
  readonly out: { readonly trackingId: string; readonly at: number } | null;
  /** The last word of the page that is out, or of the last one; null: nothing was heard. */
  readonly standing: StatusText | null;
  readonly brokenSince: number | null;
};

export type Event =
  | { readonly kind: "tick"; readonly now: number; readonly freshId: string }
  | { readonly kind: "told"; readonly now: number; readonly trackingId: string; readonly status: StatusText };

export type Outcome = "delivered" | "late" | "lost";
export type Effect =
  | { readonly kind: "reached"; readonly status: StatusText; readonly ms: number }
  | { readonly kind: "outcome"; readonly outcome: Outcome }
  | { readonly kind: "broken"; readonly standing: State["standing"] }
  | { readonly kind: "well"; readonly ms: number };

type Stepped = { readonly state: State; readonly effects: readonly Effect[] };

export const LATE_MS = 10_000;
/** Also how long the device may take by the page itself. */
export const LOST_MS = 60_000;

export function newSite(now: number): State {
  return { nextAt: now, out: null, standing: null, brokenSince: null };
}

export function step(state: State, event: Event, everyMs: number): Stepped {
  switch (event.kind) {
    case "tick":
      return tick(state, event, everyMs);
    case "told":
      return told(state, event);
    default:
      return unreachable(event);
  }
}

function tick(state: State, { now, freshId }: Extract<Event, { kind: "tick" }>, everyMs: number): Stepped {
  const { out } = state;
  if (out === null) {
    if (now < state.nextAt) return { state, effects: [] };
    // After a standstill the pages that were missed are not made up for.
    const nextAt = Math.max(state.nextAt + everyMs, now);
    return { state: { ...state, nextAt, out: { trackingId: freshId, at: now }, standing: null }, effects: [] };
  }
  if (now - out.at >= LOST_MS) return lost(state, out.at);
  return now - out.at >= LATE_MS ? broken(state, out.at) : { state, effects: [] };
}

function told(state: State, { now, trackingId, status }: Extract<Event, { kind: "told" }>): Stepped {
  const { out, brokenSince } = state;
  // What a page that was given up is told of later says nothing of now.
  if (out === null || out.trackingId !== trackingId) return { state, effects: [] };
  const ms = now - out.at;
  const reached: Effect = { kind: "reached", status, ms };
  const heard: State = { ...state, standing: status };
  if (status === "FAILED") {
    const after = lost(heard, out.at);
    return { state: after.state, effects: [reached, ...after.effects] };
  }
  if (status !== "DELIVERED") return { state: heard, effects: [reached] };
  const outcome: Effect = { kind: "outcome", outcome: ms > LATE_MS ? "late" : "delivered" };
  const well: Effect[] = brokenSince === null ? [] : [{ kind: "well", ms: now - brokenSince }];
  return { state: { ...heard, out: null, brokenSince: null }, effects: [reached, outcome, ...well] };
}

function lost(state: State, at: number): Stepped {
  const after = broken(state, at);
  return {
    state: { ...after.state, out: null },
    effects: [{ kind: "outcome", outcome: "lost" }, ...after.effects],
  };
}

function broken(state: State, at: number): Stepped {
  if (state.brokenSince !== null) return { state, effects: [] };
  return { state: { ...state, brokenSince: at }, effects: [{ kind: "broken", standing: state.standing }] };
}
