/**
 * One link: one connection of a host system, and what is to be told over it. Reads its lane of the outbox in order,
 * writes as fast as the peer takes it, and forgets a row only when the peer must have it. Hints say that there is news; those that are
 * lost are made up for by a look at all of a node's links together (gateways/mxpp/links.ts), which asks how far this one has read.
 *
 *                 news                          page full
 *   resting ─────────────► looking ─► writing ──────────► looking …
 *      ▲                                 │ page not full, or the socket takes no more
 *      └─────────────────────────────────┘ (drained, or a tick where that was lost: looks again)
 *
 *   written ─► unconfirmed ── its bytes acknowledged, and 30 s old ──► forgotten
 *                          ── the link is ended by us, and the peer says its own good-bye: 5 s old ──► forgotten
 *                          ── the link closes ──► left to the next link
 */
import { type HostSystemId, type LinkId, unreachable } from "../domain.ts";
import { Conflict, DatabaseDown } from "../persistence/database.ts";
import type { LaneRead, News, NewsPage, NewsRow } from "../persistence/outbox.ts";

export type Message =
  /** Something may be waiting; `unclaimed`: perhaps in the host system's own lane. */
  | { readonly kind: "news"; readonly unclaimed: boolean }
  | { readonly kind: "drained" }
  /**
   * Once a second. `acknowledged`: bytes of the connection that the peer has. `writable`: the socket takes more.
   * `now`: monotonic ms. It makes up for "drained" where that found the mailbox full.
   */
  | { readonly kind: "tick"; readonly acknowledged: number; readonly writable: boolean; readonly now: number }
  | { readonly kind: "looked"; readonly page: NewsPage; readonly now: number }
  /** These rows' bytes end at byte `end` of the connection. */
  | { readonly kind: "wrote"; readonly news: readonly News[]; readonly end: number }
  | { readonly kind: "forgotten"; readonly rows: readonly NewsRow[] };

/** `end`: the peer has it once it has acknowledged so many bytes of the connection. */
type Unconfirmed = NewsRow & { readonly at: number; end: number };

/** One look at the lane; its pages share the first one's snapshot. */
type Look = { readonly snapshot: string; readonly oldestRunning: string; readonly afterId: string };

export type State = {
  readonly cursor: string;
  readonly look: Look | null;
  /** The socket takes no more until it has drained. */
  readonly full: boolean;
  /** News came while looking. */
  readonly again: boolean;
  /**
   * Written, oldest first; what a broken connection may have swallowed. Changed in place: half a minute of a busy host is
   * too much to copy at every step.
   */
  readonly unconfirmed: Map<string, Unconfirmed>;
};

/** Which status or reply it is. Not its number alone: after a failover another primary may give that to another's. */
function keyOf({ id, uniqueId, status, replyId }: NewsRow): string {
  return `${id} ${replyId ?? uniqueId} ${status}`;
}

type Forget = { readonly kind: "forget"; readonly rows: readonly NewsRow[] };
export type Effect =
  | { readonly kind: "claim" }
  | { readonly kind: "look"; readonly cursor: string; readonly afterId: string; readonly snapshot: string | null }
  | { readonly kind: "write"; readonly news: readonly News[] }
  | Forget;

export const PAGE_ROWS = 200;
/** A row stays at least this long after it was written to a connection (CONTRACT, MXPP). */
export const KEPT_MS = 30_000;
/** The same where the peer has answered our good-bye: its process had taken all of it from its kernel by then. */
const KEPT_ANSWERED_MS = 5_000;

/** Pages written in one turn; what is left goes on behind other messages. */
const TURN_PAGES_MAX = 20;
/** Rows one statement forgets, and statements of one tick. */
const FORGET_ROWS = 2_000;
const FORGETS_MAX = 10;
/** Rows written and not yet forgotten; past this no more are read. */
export const UNCONFIRMED_MAX = 200_000;

export function openedLink(): State {
  return { cursor: "0", look: null, full: false, again: false, unconfirmed: new Map() };
}

export function step(state: State, message: Message): { state: State; effects: readonly Effect[] } {
  switch (message.kind) {
    case "news": {
      const claim: Effect[] = message.unclaimed ? [{ kind: "claim" }] : [];
      if (state.look !== null || state.full) return { state: { ...state, again: true }, effects: claim };
      return { state, effects: [...claim, firstLook(state)] };
    }
    case "drained": {
      const drained = { ...state, full: false };
      return { state: drained, effects: [state.look === null ? firstLook(state) : nextPage(state.cursor, state.look)] };
    }
    case "tick": {
      const effects = forgets(state.unconfirmed, message.acknowledged, message.now - KEPT_MS);
      if (state.full && !message.writable) return { state, effects };
      const next = { ...state, full: false };
      if (state.look !== null) return { state: next, effects: [...effects, nextPage(state.cursor, state.look)] };
      return { state: next, effects: state.full ? [...effects, firstLook(state)] : effects };
    }
    case "wrote":
      for (const news of message.news) state.unconfirmed.get(keyOf(news))!.end = message.end;
      return { state, effects: [] };
    case "forgotten":
      for (const row of message.rows) state.unconfirmed.delete(keyOf(row));
      return { state, effects: [] };
    case "looked":
      return looked(state, message.page, message.now);
    default:
      return unreachable(message);
  }
}

function looked(state: State, page: NewsPage, now: number): { state: State; effects: readonly Effect[] } {
  const fresh = page.news.filter((news) => !state.unconfirmed.has(keyOf(news)));
  for (const news of fresh) {
    const { id, written, uniqueId, status, replyId } = news;
    const end = Number.POSITIVE_INFINITY;
    state.unconfirmed.set(keyOf(news), { id, written, uniqueId, status, replyId, at: now, end });
  }
  const write: Effect[] = fresh.length > 0 ? [{ kind: "write", news: fresh }] : [];
  const first = state.look ?? { snapshot: page.snapshot, oldestRunning: page.oldestRunning, afterId: "0" };
  if (page.next !== null) {
    const look = { ...first, afterId: page.next };
    return { state: { ...state, look }, effects: [...write, nextPage(state.cursor, look)] };
  }
  // All that was visible at the look's beginning is written; whoever was still writing then is at or past the cursor.
  const next = { ...state, look: null, cursor: first.oldestRunning, again: false };
  return { state: next, effects: state.again ? [...write, firstLook(next)] : write };
}

function firstLook(state: State): Effect {
  return { kind: "look", cursor: state.cursor, afterId: "0", snapshot: null };
}

function nextPage(cursor: string, look: Look): Effect {
  return { kind: "look", cursor, afterId: look.afterId, snapshot: look.snapshot };
}

/** Rows that the peer has and that are old enough. */
function forgets(unconfirmed: ReadonlyMap<string, Unconfirmed>, acknowledged: number, before: number): Forget[] {
  const statements: NewsRow[][] = [];
  for (const row of unconfirmed.values()) {
    if (row.at > before || row.end > acknowledged) break;
    if (statements.length === 0 || statements.at(-1)!.length === FORGET_ROWS) {
      if (statements.length === FORGETS_MAX) break;
      statements.push([]);
    }
    statements.at(-1)!.push(row);
  }
  return statements.map((rows) => ({ kind: "forget", rows }));
}

export type HostPorts = {
  readonly link: LinkId;
  readonly hostSystemId: HostSystemId;
  readonly now: () => number;
  /** Rises whenever a primary has been found: transaction numbers are compared within one era only. */
  readonly era: () => number;
  /** Whether that was all there is to claim. */
  readonly claim: (link: LinkId, host: HostSystemId) => Promise<boolean>;
  /** One look at this link's lane, of up to `PAGE_ROWS` rows. */
  readonly look: (read: LaneRead) => Promise<NewsPage>;
  readonly forget: (link: LinkId, rows: readonly NewsRow[]) => Promise<void>;
  /** Writes to the connection. `end`: where these bytes end in it; not `more`: it takes no more until it has drained. */
  readonly write: (news: readonly News[]) => { readonly end: number; readonly more: boolean };
  /** Tells this actor, behind what already waits. */
  readonly later: (message: Message) => void;
};

export type HostActor = {
  turn(message: Message): Promise<void>;
  /** Whatever this transaction or a later one wrote to the lane may not have been seen yet. */
  cursor(): string;
  /** Its peer has said its good-bye behind ours: what it had acknowledged by then it has read. */
  forgetAnswered(acknowledged: number): Promise<void>;
};

/**
 * One link's actor. A database that is away leaves the link where it was, and all of its lane to be looked at anew; any other
 * fault ends the link, and its rows go to the next.
 */
export function hostActor(ports: HostPorts): HostActor {
  let state = openedLink();
  let era = ports.era();

  /** Another primary may give out transaction numbers below the cursor again: everything is looked at anew. */
  function begin(): void {
    era = ports.era();
    state = { ...state, look: null, cursor: "0" };
  }

  async function perform(effect: Effect): Promise<Message | null> {
    switch (effect.kind) {
      case "claim":
        if (!(await ports.claim(ports.link, ports.hostSystemId))) ports.later({ kind: "news", unclaimed: true });
        return null;
      case "look": {
        const { cursor, afterId, snapshot } = effect;
        const page = await ports.look({ link: ports.link, cursor, afterId, snapshot });
        // It may be the last one's answer.
        if (ports.era() !== era) throw new DatabaseDown(false);
        return { kind: "looked", page, now: ports.now() };
      }
      case "write": {
        const { end, more } = ports.write(effect.news);
        if (!more) state = { ...state, full: true };
        // At once: a look that fails behind it must not lose it.
        state = step(state, { kind: "wrote", news: effect.news, end }).state;
        return null;
      }
      case "forget":
        await ports.forget(ports.link, effect.rows);
        return { kind: "forgotten", rows: effect.rows };
      default:
        return unreachable(effect);
    }
  }

  async function turn(message: Message): Promise<void> {
    const inbox: Message[] = [message];
    let pages = 0;
    if (ports.era() !== era) begin();
    try {
      for (let next = inbox.shift(); next !== undefined; next = inbox.shift()) {
        const stepped = step(state, next);
        state = stepped.state;
        for (const effect of stepped.effects) {
          if (effect.kind === "look") {
            // A full socket, or a turn that has had its share, keeps its place and goes on with "drained".
            if (state.full || state.unconfirmed.size >= UNCONFIRMED_MAX) continue;
            pages += 1;
            if (pages > TURN_PAGES_MAX) {
              ports.later({ kind: "drained" });
              continue;
            }
          }
          const answer = await perform(effect);
          if (answer !== null) inbox.push(answer);
        }
      }
    } catch (error) {
      begin();
      if (!(error instanceof DatabaseDown || error instanceof Conflict)) throw error;
    }
  }
  return {
    turn,
    cursor: () => (ports.era() === era ? state.cursor : "0"),
    async forgetAnswered(acknowledged) {
      const read = forgets(state.unconfirmed, acknowledged, ports.now() - KEPT_ANSWERED_MS);
      for (const { rows } of read) await ports.forget(ports.link, rows);
    },
  };
}
