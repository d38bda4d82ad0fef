/**
 * Watches the databases of a node and says what becomes of them: to the log, to Prometheus and to `/readyz`. Following the primary
 * is the pools' own work (persistence/primary.ts), for it goes on where no actor runs; and a page is ACCEPTED only once its commit has
 * come back, so it waits in every state but the first:
 *
 *               no primary                       a commit has not come back in 1.5 s
 *     well ────────────────────► away     well ─────────────────────────────────────► hanging
 *      ▲                          │        ▲                                            │
 *      └──────────────────────────┘        └────────────────────────────────────────────┘
 *         one takes writes                    it came back: a standby did, or none is waited for any more
 *
 * Beside it, in any state: the standbys that commits wait for are all there, or one is missing.
 */
import type { ActorSystem, Address } from "../../cluster/actor-system.ts";
import type { Clock } from "../../domain.ts";
import { faultFields, type Log, type LogFields } from "../../log.ts";
import type { CounterName, GaugeReading, Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import { hostOf } from "../../persistence/primary.ts";

/** What one look at a database shows. */
export type Seen = {
  /** Whether statements are carried out. */
  readonly up: boolean;
  /** Host and port of the primary; null while there is none. */
  readonly server: string | null;
  readonly timeline: number | null;
  readonly hanging: boolean;
  readonly refused: number;
  /** Standbys that each commit waits for. */
  readonly required: number;
  /** null: not known. */
  readonly inSync: number | null;
  readonly waiting: number;
};
export type Message = { readonly kind: "seen"; readonly database: string; readonly seen: Seen };
export type Condition = "well" | "away" | "hanging";
export type State = ReadonlyMap<string, Watched>;
type Watched = {
  readonly condition: Condition;
  /** Monotonic ms. */
  readonly since: number;
  readonly told: boolean;
  readonly standbyMissing: boolean;
  readonly seen: Seen;
  /** The last primary there was. */
  readonly server: string | null;
  readonly timeline: number | null;
};
export type Effect =
  | {
      readonly kind: "say";
      readonly level: "info" | "warn" | "error";
      readonly event: string;
      readonly fields: LogFields;
    }
  | { readonly kind: "count"; readonly metric: CounterName & `database_${string}`; readonly database: string };

/** A failover that goes well is over by then, and is told as a move alone. */
const AWAY_TOLD_MS = 5_000;
const LOOK_MS = 500;
const MAILBOX_MAX = 64;
const TURN_MS = 1_000;

export const unwatched: State = new Map();

export function step(state: State, message: Message, now: number): { state: State; effects: readonly Effect[] } {
  const { database, seen } = message;
  const before = state.get(database);
  const effects: Effect[] = [];
  const say = (level: "info" | "warn" | "error", event: string, fields: LogFields = {}) =>
    void effects.push({ kind: "say", level, event, fields: { database, ...fields } });
  const condition = conditionOf(seen, before?.condition);
  const changed = before === undefined || before.condition !== condition;
  const since = changed ? now : before.since;
  let told = !changed && before.told;

  if (changed && before?.told === true) {
    const fields = { server: seen.server, ms: Math.round(now - before.since) };
    if (before.condition === "away") say("warn", "a database server takes writes again", fields);
    else
      say("warn", seen.server === null ? "the primary whose commits hung is gone" : "commits come back again", fields);
  }
  if (changed && condition !== "well" && before !== undefined)
    effects.push({ kind: "count", metric: condition === "away" ? "database_losses" : "database_stalls", database });
  if (condition === "away" && !told && now - since >= AWAY_TOLD_MS) {
    told = true;
    say("error", "no database server takes writes: pages wait at their hosts", { refused: seen.refused });
  }
  if (condition === "hanging" && !told) {
    told = true;
    const { server, required, inSync, waiting } = seen;
    say("error", "commits hang: pages wait at their hosts", { server, required, inSync, waiting });
  }

  const server = seen.server ?? before?.server ?? null;
  const timeline = seen.timeline ?? before?.timeline ?? null;
  if (before?.server != null && (server !== before.server || timeline !== before.timeline)) {
    say("warn", "the primary has moved", { from: before.server, server, timeline });
    effects.push({ kind: "count", metric: "database_moves", database });
  }

  // A primary that is gone has no standbys either; what was said of them holds until another is asked.
  const known = seen.server !== null && seen.inSync !== null;
  const standbyMissing = known ? seen.inSync! < seen.required : (before?.standbyMissing ?? false);
  if (standbyMissing !== (before?.standbyMissing ?? false)) {
    const fields = { server: seen.server, required: seen.required, inSync: seen.inSync };
    if (standbyMissing) say("error", "a standby that commits wait for is missing", fields);
    else say("info", "the standbys that commits wait for are there", fields);
  }

  const watched = { condition, since, told, standbyMissing, seen, server, timeline };
  return { state: new Map(state).set(database, watched), effects };
}

/** Behind commits that hung the pools are opened anew, which takes an instant. */
function conditionOf({ up, server, hanging }: Seen, before: Condition | undefined): Condition {
  if (server === null) return "away";
  if (hanging || (!up && before === "hanging")) return "hanging";
  return up ? "well" : "away";
}

/** `true`, or in a few words what keeps pages from being accepted. */
export function readiness(state: State): true | string {
  const conditions = [...state.values()].map(({ condition }) => condition);
  if (conditions.includes("away")) return "no writable server";
  return conditions.includes("hanging") ? "commits hang" : true;
}

export function gaugesOf(state: State): GaugeReading[] {
  return [...state].flatMap(([database, { condition, seen }]): GaugeReading[] => {
    const labels = { database };
    return [
      { name: "database_up", labels, value: condition === "well" ? 1 : 0 },
      { name: "database_timeline", labels, value: seen.timeline ?? 0 },
      { name: "database_servers_refused", labels, value: seen.refused },
      { name: "database_standbys_required", labels, value: seen.required },
      ...(seen.inSync === null ? [] : [{ name: "database_standbys_in_sync" as const, labels, value: seen.inSync }]),
      { name: "database_commits_waiting", labels, value: seen.waiting },
    ];
  });
}

export type DatabaseSupervisor = {
  ready(): true | string;
  gauges(): GaugeReading[];
  close(): void;
};

/** @param databases by the names they are told under; those that share their servers are told under the first */
export function superviseDatabases(
  databases: Readonly<Record<string, Database>>,
  ports: { readonly system: ActorSystem; readonly log: Log; readonly meter: Meter; readonly clock: Clock },
): DatabaseSupervisor {
  const { system, meter, clock } = ports;
  const log = ports.log.child({ part: "databases" });
  const watched = Object.entries(databases).filter(
    ([, database], index, all) => all.findIndex(([, other]) => other === database) === index,
  );
  let state = unwatched;
  let address = start();
  let closed = false;

  function start(): Address<Message> {
    const options = { mailboxMax: MAILBOX_MAX, turnMs: TURN_MS, onFailure };
    return system.spawn<Message>(system.root, "databases", options, (message) => {
      const stepped = step(state, message, clock.monotonic());
      state = stepped.state;
      for (const effect of stepped.effects) {
        if (effect.kind === "count") meter.count(effect.metric, { database: effect.database });
        else log[effect.level](effect.fields, effect.event);
      }
    });
  }
  function onFailure(error: unknown): void {
    meter.count("actor_failures", { actor: "databases" });
    log.error(faultFields(error), "the supervisor of the databases failed");
    if (!closed) address = start();
  }
  function look(): void {
    for (const [name, database] of watched) address.tell({ kind: "seen", database: name, seen: seenIn(database) });
  }

  // A full mailbox loses a look, and the next one shows the same.
  for (const [, database] of watched) database.onChange(look);
  const timer = setInterval(look, LOOK_MS);
  look();
  return {
    ready: () => (state.size < watched.length ? "not looked at yet" : readiness(state)),
    gauges: () => gaugesOf(state),
    close() {
      closed = true;
      clearInterval(timer);
      address.stop();
    },
  };
}

function seenIn(database: Database): Seen {
  const { primary, refused } = database.servers();
  return {
    up: database.isUp(),
    server: primary === null ? null : hostOf(primary.url),
    timeline: primary?.timeline ?? null,
    hanging: primary?.state === "stalled",
    refused: refused.length,
    required: primary?.replication?.required ?? 0,
    inSync: primary?.replication?.inSync ?? null,
    waiting: primary?.replication?.waiting ?? 0,
  };
}
