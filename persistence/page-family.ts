/**
 * A page and those it was passed on to: its family. Whoever of them answers does so for all: nothing more is done for the others, which
 * is asked within the very statement that would, since their rows move without each other's.
 */
import type { Fragment, Sql } from "./database.ts";

/** Whether another of its family has settled the page. `page`: the statement's name for the message's row. */
export function settledByFamily(sql: Sql, page: string): Fragment {
  const settles = sql`case
    when ${sql(page)}.timeout_user is null then kin.status >= 4
    else kin.answer = 'ACKNOWLEDGED' or kin.replied_at is not null end`;
  return sql`((${sql(page)}.step > 0 or ${sql(page)}.parent_id is not null) and exists (
    select from premise_core.messages as kin
    where kin.parent_id = coalesce(${sql(page)}.parent_id, ${sql(page)}.unique_id) and kin.unique_id <> ${sql(page)}.unique_id and ${settles}
    union all
    select from premise_core.messages as kin where kin.unique_id = ${sql(page)}.parent_id and ${settles}))`;
}
