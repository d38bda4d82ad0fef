/**
 * What phones are set to: by their group, and by their own user wherever the group does not lock it. Pure.
 *
 *   value = locked, or not set by the user ? the group's, else the built-in : the user's
 *
 * A user's own values stay kept while they are locked, and hold again when they are not. They change what that phone does by
 * itself; the server reminds by the group's (persistence/alert-profiles.ts).
 */
import Type, { type Static, type TSchema } from "typebox";
import { Value } from "typebox/value";
import { PRIORITIES, type Priority } from "../domain.ts";
import { DEFAULT_PROFILES, INTERVAL_SECONDS, REPEATS } from "../persistence/alert-profiles.ts";

const STRICT = { additionalProperties: false } as const;
const bounded = ({ min, max }: { min: number; max: number }) => Type.Integer({ minimum: min, maximum: max });

/** Of one priority. A tone is a name that phones know; one they do not know is their own for that priority. */
const ALERT = {
  tone: Type.String({ pattern: "^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,98}[A-Za-z0-9])?$" }),
  /** In percent of the loudest, 0 is silent; null: as the phone itself is set. */
  volume: Type.Union([Type.Integer({ minimum: 0, maximum: 100 }), Type.Null()]),
  intervalSeconds: bounded(INTERVAL_SECONDS),
  repeats: bounded(REPEATS),
};
const RETENTION_DAYS = Type.Integer({ minimum: 1, maximum: 365 });
const MINIMUM_VERSION = Type.Union([Type.String({ pattern: "^[0-9]{1,6}([.][0-9]{1,6}){0,3}$" }), Type.Null()]);

const SomeAlert = Type.Partial(Type.Object(ALERT), STRICT);
const alerts = <Alert extends TSchema>(alert: Alert) => Type.Object({ high: alert, medium: alert, low: alert }, STRICT);
const SomeAlerts = Type.Partial(alerts(SomeAlert), STRICT);

/** What an operator chooses for a group; the rest is built in. */
export const GroupSettings = Type.Partial(
  Type.Object({ priorities: SomeAlerts, retentionDays: RETENTION_DAYS, minimumVersion: MINIMUM_VERSION }),
  STRICT,
);
export type GroupSettings = Static<typeof GroupSettings>;
/** The same with nothing left out. */
export const WholeSettings = Type.Object({
  priorities: alerts(Type.Object(ALERT, STRICT)),
  retentionDays: RETENTION_DAYS,
  minimumVersion: MINIMUM_VERSION,
});
export type WholeSettings = Static<typeof WholeSettings>;
type Alert = WholeSettings["priorities"][Priority];

const ALERT_FIELDS = Object.keys(ALERT) as (keyof Alert)[];
/** Everything that a group can lock: `high.tone` … `low.repeats`, `retentionDays`. The minimum version is no user's to set. */
export const LOCKABLE = [
  ...PRIORITIES.flatMap((priority) => ALERT_FIELDS.map((field) => `${priority}.${field}` as const)),
  "retentionDays",
] as const;

/** Pages stay on the phone for a month; its server keeps them for longer. */
const DEFAULT_RETENTION_DAYS = 30;
const TONES: Readonly<Record<Priority, string>> = { high: "alarm", medium: "chime", low: "note" };

/** A value of the given schema at this place in a document of any form; undefined where there is none. */
function valueAt<Schema extends TSchema>(document: unknown, path: readonly string[], schema: Schema) {
  let value: unknown = document;
  for (const name of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as { readonly [name: string]: unknown })[name];
  }
  return Value.Check(schema, value) ? (value as Static<Schema>) : undefined;
}

function builtIn(priority: Priority): Alert {
  return { tone: TONES[priority], volume: null, ...DEFAULT_PROFILES[priority] };
}

type Pick = <Schema extends TSchema>(
  name: string,
  path: readonly string[],
  schema: Schema,
) => Static<Schema> | undefined;

function alertsBy<Base extends Partial<Alert>>(pick: Pick, base: (priority: Priority) => Base): Record<Priority, Base> {
  const alert = (priority: Priority): Base => {
    const picked = ALERT_FIELDS.map(
      (field) => [field, pick(`${priority}.${field}`, ["priorities", priority, field], ALERT[field])] as const,
    );
    return { ...base(priority), ...Object.fromEntries(picked.filter(([, value]) => value !== undefined)) };
  };
  return { high: alert("high"), medium: alert("medium"), low: alert("low") };
}

/** A group's settings, whatever stands in its row: what is missing or no such value is built in. */
export function wholeSettings(stored: unknown): WholeSettings {
  const pick: Pick = (_, path, schema) => valueAt(stored, path, schema);
  return {
    priorities: alertsBy(pick, builtIn),
    retentionDays: pick("", ["retentionDays"], RETENTION_DAYS) ?? DEFAULT_RETENTION_DAYS,
    minimumVersion: pick("", ["minimumVersion"], MINIMUM_VERSION) ?? null,
  };
}

/** What holds for one phone. Its user may keep pages for fewer days than the group says, never for more. */
export function effectiveSettings(group: unknown, locked: readonly string[], user: unknown): WholeSettings {
  const whole = wholeSettings(group);
  const pick: Pick = (name, path, schema) => (locked.includes(name) ? undefined : valueAt(user, path, schema));
  return {
    priorities: alertsBy(pick, (priority) => whole.priorities[priority]),
    retentionDays: Math.min(whole.retentionDays, pick("retentionDays", ["retentionDays"], RETENTION_DAYS) ?? Infinity),
    minimumVersion: whole.minimumVersion,
  };
}

/** Those values of a document that we know: of a phone's, what is not known is for newer servers, and is not kept. */
export function knownSettings(document: unknown): GroupSettings {
  const pick: Pick = (_, path, schema) => valueAt(document, path, schema);
  const retentionDays = pick("", ["retentionDays"], RETENTION_DAYS);
  const minimumVersion = pick("", ["minimumVersion"], MINIMUM_VERSION);
  return {
    priorities: alertsBy<Partial<Alert>>(pick, () => ({})),
    ...(retentionDays === undefined ? {} : { retentionDays }),
    ...(minimumVersion === undefined ? {} : { minimumVersion }),
  };
}

/** What is given takes the place of what stood there, value by value. */
export function mergeSettings(stored: unknown, change: GroupSettings): GroupSettings {
  const before = knownSettings(stored);
  const alert = (priority: Priority) => ({ ...before.priorities?.[priority], ...change.priorities?.[priority] });
  return { ...before, ...change, priorities: { high: alert("high"), medium: alert("medium"), low: alert("low") } };
}

/** Whether a phone's program is older than the least its group wants. One that tells no version counts as older. */
export function isOlder(clientVersion: string, minimum: string | null): boolean {
  if (minimum === null) return false;
  const parts = /\d{1,9}(?:\.\d{1,9})*/.exec(clientVersion)?.[0].split(".").map(Number);
  if (parts === undefined) return true;
  for (const [index, least] of minimum.split(".").map(Number).entries()) {
    const part = parts[index] ?? 0;
    if (part !== least) return part < least;
  }
  return false;
}
