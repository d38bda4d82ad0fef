/** What every connection to Postgres has in common, and the deadline of a statement, or of other work that may never end. */
import type postgres from "postgres";
import { ARRAY_TYPES } from "./array-types.ts";
import { DeadlinePassed } from "./database-faults.ts";

/** Server-side limits end the statement before the client gives up on it, so that its outcome is known. */
const SERVER_STATEMENT_TIMEOUT_MS = 4_000;
const SERVER_LOCK_TIMEOUT_MS = 3_000;

/**
 * How statements are planned. Each on a page's way looks rows up by an index, whatever the tables hold, so it is planned once on
 * each connection and not again at every call, which took longer than the statement itself. Without the other settings a plan
 * made while a table was empty would read the whole of it later.
 */
const PLANNING = {
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  jit: "off",
};

/** Options every connection of Tocsin shares. */
export function connectionOptions(name: string): postgres.Options<Record<string, postgres.PostgresType>> {
  return {
    types: ARRAY_TYPES,
    fetch_types: false,
    connect_timeout: 3,
    onnotice: () => {},
    connection: {
      ...PLANNING,
      application_name: name,
      statement_timeout: SERVER_STATEMENT_TIMEOUT_MS,
      lock_timeout: SERVER_LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: SERVER_STATEMENT_TIMEOUT_MS,
    },
  };
}

/** @throws DeadlinePassed; the work may be done all the same */
export async function withDeadline<T>(work: PromiseLike<T>, deadlineMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    // Behind what has arrived by then: where it was this process that stood still, the answer lies there unread.
    timer = setTimeout(() => setImmediate(() => reject(new DeadlinePassed())), deadlineMs);
  });
  // The loser of the race may still reject; without a listener that would end the process.
  const settled = Promise.resolve(work);
  settled.catch(() => {});
  try {
    return await Promise.race([settled, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
