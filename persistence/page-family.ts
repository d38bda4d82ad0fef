/**
 * A page and those it was passed on to: its family. Whoever of them answers does so for all: nothing more is done for the others, which
 * is asked within the very statement that would, since their rows move without each other's.
 */
import type { Fragment, Sql } from "./database.ts";
import { isHeld } from "./returned-pages.ts";

/** Whether this one's recipient has answered for all of its family. `page`: the statement's name for the message's row. */
export function answers(sql: Sql, page: string): Fragment {
  return sql`(${sql(page)}.answer is not distinct from 'ACKNOWLEDGED' or ${sql(page)}.replied_at is not null)`;
}

/** Whether another of its family has settled the page. */
export function settledByFamily(sql: Sql, page: string): Fragment {
  const settles: Fragment = sql`case when ${sql(page)}.timeout_user is null then ${isHeld(sql, "kin")} else ${answers(sql, "kin")} end`;
  return sql`(${hasFamily(sql, page)} and ${anyOfOthers(sql, page, settles)})`;
}

/** Whether one of its family has answered, and not all of them have been told so (family-answers.ts). */
export function untoldAnswer(sql: Sql, page: string): Fragment {
  return sql`(${hasFamily(sql, page)} and ${sql(page)}.answered_by is null
    and (${answers(sql, page)} or ${anyOfOthers(sql, page, answers(sql, "kin"))}))`;
}

/** Whether nobody has answered it, here or for all of its family who have been told: what comes now is the first answer. */
export function isUnanswered(sql: Sql, page: string): Fragment {
  return sql`(${sql(page)}.answer is null and ${sql(page)}.replied_at is null and ${sql(page)}.answered_by is null)`;
}

/** Whether an answer of its recipient for all is to be told to its family: it has one, nobody has told it, and there is time. */
export function owesFamily(sql: Sql, page: string): Fragment {
  return sql`(${hasFamily(sql, page)} and ${sql(page)}.answered_by is null and ${sql(page)}.expires_at > clock_timestamp())`;
}

/** It was passed on, or to it. */
function hasFamily(sql: Sql, page: string): Fragment {
  return sql`(${sql(page)}.step > 0 or ${sql(page)}.parent_id is not null)`;
}

function anyOfOthers(sql: Sql, page: string, holds: Fragment): Fragment {
  return sql`exists (
    select from premise_core.messages as kin
    where kin.parent_id = coalesce(${sql(page)}.parent_id, ${sql(page)}.unique_id) and kin.unique_id <> ${sql(page)}.unique_id and ${holds}
    union all
    select from premise_core.messages as kin where kin.unique_id = ${sql(page)}.parent_id and ${holds})`;
}
