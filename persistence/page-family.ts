/**
 * A page and those it was passed on to. Whoever of them answers does so for the page: its driver must do nothing more, and
 * asks within the very statement that would, since their rows move without its own.
 */
import type { Fragment, Sql } from "./database.ts";

/** Whether one that the page was passed on to has settled it. `page`: the statement's name for the message's row. */
export function settledByFamily(sql: Sql, page: string): Fragment {
  return sql`(${sql(page)}.step > 0 and exists (
    select from premise_core.messages as child
    where child.parent_id = ${sql(page)}.unique_id and case
      when ${sql(page)}.timeout_user is null then child.status >= 4
      else child.answer = 'ACKNOWLEDGED' or child.replied_at is not null end))`;
}
