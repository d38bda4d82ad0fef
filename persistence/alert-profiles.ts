/**
 * How often an unanswered page is brought back to mind, by its priority: as its device's group says, else the group of all new
 * devices at its site, else as here. The server reminds by this; what a phone's user sets is what that phone does by itself.
 */
import type { Priority } from "../domain.ts";
import type { Fragment, Sql } from "./database.ts";

export type AlertProfile = {
  /** Between DELIVERED and the first reminder, and from one to the next. */
  readonly intervalSeconds: number;
  /** How many reminders at most; the page's own deadline for an answer ends them before. */
  readonly repeats: number;
};

/** Shorter, a reminder would meet a clinician who is just reading; longer, no deadline for an answer would see two of them. */
export const INTERVAL_SECONDS = { min: 10, max: 3_600 };
export const REPEATS = { min: 0, max: 100 };

/**
 * High: each minute, so that the five minutes that hosts ask for as a rule hold four of them, ten at most, where peers stop as well; the
 * push services hold back what comes much oftener. Medium is TigerConnect's two minutes; low says it twice more and leaves it.
 */
export const DEFAULT_PROFILES: Readonly<Record<Priority, AlertProfile>> = {
  high: { intervalSeconds: 60, repeats: 10 },
  medium: { intervalSeconds: 120, repeats: 5 },
  low: { intervalSeconds: 300, repeats: 2 },
};

/**
 * One row of `interval_seconds` and `repeats`, for `cross join lateral (…) as profile`. Whatever stands in a group's settings, it is a number
 * within its bounds: a row written by hand must not stop what is due.
 * @param device the statement's name for a row of `devices`, or for any with its `group_id` and `site_id`
 * @param priority of the page, as the database has it: 0 is high
 */
export function alertProfile(sql: Sql, device: string, priority: Fragment): Fragment {
  const { high, medium, low } = DEFAULT_PROFILES;
  const part = (name: keyof AlertProfile, bounds: { min: number; max: number }) => sql`
    case when jsonb_typeof(given.profile -> ${name}::text) = 'number'
      then greatest(${bounds.min}::numeric, least(${bounds.max}::numeric, (given.profile -> ${name}::text)::numeric))::integer
      else (array[${high[name]}::integer, ${medium[name]}::integer, ${low[name]}::integer])[${priority} + 1] end`;
  return sql`
    select ${part("intervalSeconds", INTERVAL_SECONDS)} as interval_seconds, ${part("repeats", REPEATS)} as repeats
    from (
      select coalesce(
        (select settings from premise_core.device_groups where id = ${sql(device)}.group_id),
        (select settings from premise_core.device_groups where site_id = ${sql(device)}.site_id and is_default)
      ) -> 'priorities' -> (array['high', 'medium', 'low'])[${priority} + 1] as profile
      -- Looked up once, not for each of its parts.
      offset 0
    ) as given`;
}
