/**
 * Follows the primary among the servers of one cluster, for all pools of this process that use them. Every server is looked at all
 * the time, so that one which froze, was demoted in place, or was replaced while it still takes writes is left without a
 * statement having to fail first.
 *
 *     searching ── one is chosen (primary-choice) ──► found ── it is chosen no more, or another is ──► searching | found
 *     looks 100 ms apart                              looks 500 ms apart
 *
 * While a pool has lost its connections and waits for a look younger than that, looks are 100 ms apart as well.
 */
import { systemClock } from "../domain.ts";
import type { Log } from "../log.ts";
import { type Choice, choosePrimary, type ServerView } from "./primary-choice.ts";
import { lookAt, type ServerLook } from "./server-look.ts";
import { openTimelines, type TimelineMemory } from "./timelines.ts";

export type PrimaryState = {
  /** null while no server may be written to. Its state is `writable`, or `stalled` while commits in it hang. */
  readonly primary: ServerView | null;
  readonly servers: readonly ServerView[];
  readonly refused: Choice["refused"];
};

export type PrimaryWatch = {
  state(): PrimaryState;
  /** Called after every look at a server, changed or not. */
  onLook(listener: () => void): void;
  /**
   * The primary, once a look that began after this instant (monotonic ms) has shown that it commits, however slowly, or, where
   * `stalledToo`, that it answers; null before.
   */
  confirmed(after: number, stalledToo: boolean): ServerView | null;
  /** Has every server looked at now, and often, until a look younger than this shows a primary that commits. */
  search(): void;
  close(): void;
};

type Slice = { readonly urls: readonly string[]; readonly node: string; readonly timelineFile: string | null };

type Shared = {
  readonly looks: readonly ServerLook[];
  readonly listeners: Set<() => void>;
  state: PrimaryState;
  /** A look has to be younger than this. */
  soughtAt: number;
  users: number;
};

/** A server that has not been looked at by then is not waited for. */
const FIRST_LOOKS_MS = 1_500;

const watched = new Map<string, Shared>();
/** By file, and by servers where there is none. */
const memories = new Map<string, TimelineMemory>();

export function followPrimary(slice: Slice, ports: { readonly log: Log }): PrimaryWatch {
  const key = [...slice.urls, slice.timelineFile ?? ""].join("\n");
  const shared = watched.get(key) ?? begin(slice, ports.log);
  watched.set(key, shared);
  shared.users += 1;
  const mine = new Set<() => void>();
  let open = true;
  return {
    state: () => shared.state,
    onLook(listener) {
      mine.add(listener);
      shared.listeners.add(listener);
    },
    confirmed: (after, stalledToo) => confirmedBy(shared.state, after, stalledToo),
    search() {
      shared.soughtAt = systemClock.monotonic();
      for (const look of shared.looks) look.hurry();
    },
    close() {
      if (!open) return;
      open = false;
      for (const listener of mine) shared.listeners.delete(listener);
      shared.users -= 1;
      if (shared.users > 0) return;
      watched.delete(key);
      for (const look of shared.looks) look.close();
    },
  };
}

function begin(slice: Slice, log: Log): Shared {
  const { timelineFile } = slice;
  const kept = timelineFile ?? slice.urls.join("\n");
  const memory = memories.get(kept) ?? openTimelines(timelineFile, { log });
  memories.set(kept, memory);
  const begun = systemClock.monotonic();
  let told = new Set<string>();
  let last: ServerView | null = null;

  function choose(): void {
    const servers = shared.looks.map((look) => look.view());
    const waiting =
      systemClock.monotonic() - begun < FIRST_LOOKS_MS && servers.some(({ state }) => state === "unknown");
    const { primary, refused, timelines } = choosePrimary(servers, last, memory.seen());
    memory.learn(timelines);
    if (!waiting) last = primary ?? last;
    shared.state = { primary: waiting ? null : primary, servers, refused };
    tell(refused);
    for (const listener of shared.listeners) listener();
  }

  function tell(refused: Choice["refused"]): void {
    const now = new Set(refused.map(({ server, why }) => `${server.url} ${why} ${server.timeline}`));
    for (const { server, why } of refused) {
      if (told.has(`${server.url} ${why} ${server.timeline}`)) continue;
      const fields = { server: hostOf(server.url), timeline: server.timeline, why };
      log.error(fields, "a database server that takes writes is refused");
    }
    told = now;
  }

  const shared: Shared = {
    looks: slice.urls.map((url) =>
      lookAt(
        { url, node: slice.node },
        {
          searching: () => {
            const { primary } = shared.state;
            return primary === null || (primary.state === "writable" && primary.at < shared.soughtAt);
          },
          timelines: memory.seen,
          changed: choose,
          log,
        },
      ),
    ),
    listeners: new Set(),
    state: { primary: null, servers: [], refused: [] },
    soughtAt: Number.NEGATIVE_INFINITY,
    users: 0,
  };
  return shared;
}

export function confirmedBy({ primary }: PrimaryState, after: number, stalledToo: boolean): ServerView | null {
  if (primary === null || primary.at < after) return null;
  return primary.state === "writable" || stalledToo || primary.committedAt > after ? primary : null;
}

/** What may be said of a server: never its user or password. */
export function hostOf(url: string): string {
  return new URL(url).host;
}
