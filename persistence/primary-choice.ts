/**
 * Which of a cluster's servers is the primary, from what each last said. Pure.
 *
 *   down, standby, read-only          no candidate
 *   of an older timeline than known   refused, however well it writes: a primary that was replaced and came back
 *   of another cluster than was used  refused, as long as the process lives: what is stored is not there, and would not come back
 *   writable, or stalled              candidate; the one in use is kept, else the first as they are configured
 *
 * A timeline begins whenever a standby is promoted. Those of one cluster are compared; servers with another system identifier are no
 * copies of it, and say nothing of its timelines.
 */

export type ServerView = {
  readonly url: string;
  /**
   * `stalled`: it answers, and a write of ours has been waiting in it for longer than one may. `unknown`: it has not been
   * looked at yet.
   */
  readonly state: "unknown" | "down" | "standby" | "read-only" | "stalled" | "writable";
  /** Of its cluster; null while not known. */
  readonly system: string | null;
  /** On which it writes; null for one that does not. */
  readonly timeline: number | null;
  /** Monotonic ms at which the look began that showed this. */
  readonly at: number;
  /** Monotonic ms at which the last write of ours began that came back; -Infinity: none has. */
  readonly committedAt: number;
  /** Of the primary alone, and null until it was asked. */
  readonly replication: Replication | null;
};

export type Replication = {
  /** How many standbys each commit waits for. */
  readonly required: number;
  /** How many there are that commits may count; null where the role may not see it. */
  readonly inSync: number | null;
  /** Our own commits that wait for a standby at this moment. */
  readonly waiting: number;
};

/** By system identifier, the highest timeline that was ever seen to be written. */
export type Timelines = ReadonlyMap<string, number>;

export type Choice = {
  readonly primary: ServerView | null;
  /** Those that would take writes and must not be given any. */
  readonly refused: readonly {
    readonly server: ServerView;
    readonly why: "older timeline" | "another cluster" | "second of its timeline";
  }[];
  readonly timelines: Timelines;
};

/** @param last the primary until now, or before there was none; its address may lead to another cluster one day, as after an upgrade */
export function choosePrimary(
  servers: readonly ServerView[],
  last: Pick<ServerView, "url" | "system"> | null,
  known: Timelines,
): Choice {
  const timelines = new Map(known);
  for (const { system, timeline } of servers) {
    if (system !== null && timeline !== null) timelines.set(system, Math.max(timeline, timelines.get(system) ?? 0));
  }
  const writing = servers.filter(({ state }) => state === "writable" || state === "stalled");
  const current = writing.filter((server) => !isOlder(server, timelines));
  const same = current.filter(({ system }) => system === last?.system);
  const there = current.filter(({ url }) => url === last?.url);
  const primary =
    (last === null
      ? (current.find(({ state }) => state === "writable") ?? current[0])
      : (same.find(({ url }) => url === last.url) ?? same[0] ?? there[0])) ?? null;
  const own = (primary ?? last)?.system;
  const refused = writing.flatMap((server): Choice["refused"] => {
    if (isOlder(server, timelines)) return [{ server, why: "older timeline" }];
    if (own !== undefined && server.system !== own) return [{ server, why: "another cluster" }];
    if (server !== primary && primary !== null) return [{ server, why: "second of its timeline" }];
    return [];
  });
  return { primary, refused, timelines };
}

export function isOlder({ system, timeline }: Pick<ServerView, "system" | "timeline">, known: Timelines): boolean {
  return system !== null && timeline !== null && timeline < (known.get(system) ?? 0);
}

/**
 * How many standbys a commit waits for by this value of `synchronous_standby_names`: none by "", 2 by "ANY 2 (a, b, c)" or
 * "2 (a, b)", 1 by "a, b" or "*".
 */
export function standbysRequired(names: string): number {
  if (names.trim() === "") return 0;
  const counted = /^\s*(?:(?:ANY|FIRST)\s+)?(\d+)\s*\(/i.exec(names);
  return counted === null ? 1 : Number(counted[1]);
}
