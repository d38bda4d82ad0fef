/**
 * What is to leave by another gateway than to a phone: one row a page and step of its rule, written in the statement that passes the
 * page on. Each step below is one statement, and any of them may be done twice.
 *
 *              claim                      record
 *   STORED ──────────► claimed until … ──────────► SENT | REFUSED | EXPIRED
 *     ▲ ▲                    │   │
 *     │ └── claim run out ───┘   └── record: to be tried again, due later
 *     └──────────────────────────────┘
 *
 * A record names the number of attempts it was made at: one that comes late, of a claim that ran out, changes nothing.
 */
import type { Priority, UniqueId } from "../domain.ts";
import { PRIORITIES } from "../domain.ts";
import type { Database, Fragment, Sql } from "./database.ts";
import type { Lane } from "./outbox.ts";
import type { OutputGateway } from "./output-gateways.ts";
import { answers, settledByFamily } from "./page-family.ts";
import { isHeld } from "./returned-pages.ts";

/** Where it is told that a dispatch is due: the same for all of them, on every node. */
export const DISPATCHES_LANE = "d15bac4e-0000-4000-8000-000000000000" as Lane;

/** Of what the step `number` of a page's rule passes on: the same whoever takes the step, and however often. */
export function dispatchId(sql: Sql, uniqueId: Fragment, number: Fragment): Fragment {
  return sql`md5(${uniqueId}::text || ${number})::uuid`;
}

/** How long a claimed dispatch is the claimer's alone: longer than sending may take. */
export const CLAIM_MS = 45_000;

/** What is no longer wanted ends as EXPIRED, with a code that says so. */
export type DispatchState = "STORED" | "SENT" | "REFUSED" | "EXPIRED";

export type ClaimedDispatch = {
  readonly id: string;
  readonly uniqueId: UniqueId;
  /** Of the step, with the page's destination in it where it names that; whatever that holds. */
  readonly address: string;
  /** Outcomes so far. */
  readonly attempts: number;
  /** Until it is not begun any more, by the database's clock. */
  readonly leftMs: number;
  readonly gateway: Pick<OutputGateway, "id" | "kind" | "name" | "settings">;
  /** null: the page is no more, or it was recalled, or somebody has settled it. */
  readonly page: { readonly destination: string; readonly priority: Priority; readonly acceptedAt: Date } | null;
};

type ClaimedRow = Omit<ClaimedDispatch, "gateway" | "page"> & {
  gatewayId: string;
  kind: OutputGateway["kind"];
  name: string;
  settings: OutputGateway["settings"];
  wanted: boolean | null;
  destination: string;
  priority: number;
  acceptedAt: Date;
};

/** Of each gateway, how many may be on their way from here at once: so many where it is known to answer, else one. */
export type Slots = { readonly answering: readonly string[]; readonly each: number };

/**
 * Claims what is due, the most urgent and then the oldest of each gateway first, each gateway by itself: as many as it has slots, less
 * those in `flying`, which has its id once for each that is on its way from here. At most `limit`.
 */
export async function claimDispatches(
  premise: Database,
  slots: Slots,
  flying: readonly string[],
  limit: number,
): Promise<ClaimedDispatch[]> {
  const rows = await premise.run<ClaimedRow>(
    (sql) => sql`
    with free as (
      select dispatch.id from premise_core.output_gateways as gateway
      cross join lateral (
        -- Each priority by itself, in order: what is due later would be read before it came to the next.
        select due.id from unnest(${[...PRIORITIES.keys()]}::smallint[]) as lane (priority)
        cross join lateral (
          select id from premise_core.dispatches
          where state = 'STORED' and gateway_id = gateway.id and priority = lane.priority and due_at <= clock_timestamp()
            and (claimed_until is null or claimed_until < clock_timestamp())
          order by due_at
          limit ${slots.each}::integer
          for update skip locked
        ) as due
        limit greatest(0, case when gateway.id = any (${[...slots.answering]}::uuid[]) then ${slots.each}::integer else 1 end - (
          select count(*) from unnest(${[...flying]}::uuid[]) as other (id) where other.id = gateway.id))
      ) as dispatch
      limit ${limit}
    ), claimed as (
      update premise_core.dispatches as dispatch set claimed_until = clock_timestamp() + ${CLAIM_MS} * interval '1 ms'
      from free where dispatch.id = any (array[free.id])
      returning dispatch.*
    )
    select claimed.id, claimed.unique_id as "uniqueId", claimed.address, claimed.attempts,
      (extract(epoch from claimed.expires_at - clock_timestamp()) * 1000)::double precision as "leftMs",
      claimed.gateway_id as "gatewayId", gateway.kind, gateway.name, gateway.settings, page.*
    from claimed
    cross join lateral (
      select kind, name, settings from premise_core.output_gateways where id = claimed.gateway_id limit 1
    ) as gateway
    left join lateral (
      select destination, priority, accepted_at as "acceptedAt",
        -- As actors/due settles it, but that a page somebody declined is not: its rule may pass on just that.
        not (outcome is not distinct from 'RECALLED' or ${answers(sql, "message")}
          or (timeout_user is null and ${isHeld(sql, "message")}) or ${settledByFamily(sql, "message")}) as wanted
      from premise_core.messages as message where unique_id = claimed.unique_id limit 1
    ) as page on true`,
  );
  return rows.map((row) => {
    const { id, uniqueId, address, attempts, leftMs, gatewayId, kind, name, settings } = row;
    const { wanted, destination, priority, acceptedAt } = row;
    return {
      ...{ id, uniqueId, address, attempts, leftMs },
      gateway: { id: gatewayId, kind, name, settings },
      page: wanted === true ? { destination, priority: PRIORITIES[priority]!, acceptedAt } : null,
    };
  });
}

export type RecordedDispatch = Pick<ClaimedDispatch, "id" | "attempts"> & {
  readonly state: DispatchState;
  readonly code: string | null;
  /** Whether the gateway was asked. */
  readonly tried: boolean;
  /** Of STORED: due again after so long. */
  readonly retryMs: number;
};

/**
 * Of pages whose last step is refused for good (the statement's `refused`: id, unique_id) the next is due now. The row's version stays:
 * whoever changes it meanwhile finds the step's deadline past, and one that takes the next step finds it taken from here.
 */
export function nextStepNow(sql: Sql): Fragment {
  return sql`stopped as (
      select message.unique_id
      from (select id, unique_id from refused order by unique_id) as refused
      cross join lateral (
        select unique_id, step, outcome, due_at, step_deadline from premise_core.messages
        where unique_id = refused.unique_id for update
      ) as message
      -- One that somebody has answered is due later than that, if at all.
      where refused.id = ${dispatchId(sql, sql`message.unique_id`, sql`message.step`)} and message.outcome is null
        and message.due_at <= message.step_deadline
    ), hastened as (
      update premise_core.messages as message set step_deadline = clock_timestamp(), due_at = clock_timestamp()
      from stopped where message.unique_id = any (array[stopped.unique_id])
    )`;
}

/** Writes outcomes down, each only while nobody else has; true for those that were. What is refused brings its page's next step forward. */
export async function recordDispatches(
  premise: Database,
  outcomes: readonly RecordedDispatch[],
): Promise<readonly boolean[]> {
  const rows = await premise.run<{ id: string }>(
    (sql) => sql`
    with held as (
      select outcome.*, dispatch.attempts as attempts_before, dispatch.state as state_before
      from (
        select * from unnest(${outcomes.map((o) => o.id)}::uuid[], ${outcomes.map((o) => o.attempts)}::integer[],
          ${outcomes.map((o) => o.state)}::text[], ${outcomes.map((o) => o.code)}::text[], ${outcomes.map((o) => Number(o.tried))}::integer[],
          ${outcomes.map((o) => o.retryMs)}::double precision[]) as outcome (id, attempts, state, code, tries, retry_ms)
        order by id
      ) as outcome
      cross join lateral (
        -- By id alone: the planner takes STORED for rare, and would read all that waits.
        select attempts, state from premise_core.dispatches where id = outcome.id for update
      ) as dispatch
    ), recorded as (
      update premise_core.dispatches as dispatch set
        attempts = held.attempts + held.tries, state = held.state, code = coalesce(held.code, dispatch.code),
        due_at = case when held.state = 'STORED' then clock_timestamp() + held.retry_ms * interval '1 ms' else dispatch.due_at end,
        claimed_until = null, done_at = case when held.state <> 'STORED' then clock_timestamp() end
      from held where dispatch.id = any (array[held.id]) and held.attempts = attempts_before and state_before = 'STORED'
      returning dispatch.id, dispatch.unique_id, dispatch.state
    ), refused as (
      select id, unique_id from recorded where state = 'REFUSED'
    ), ${nextStepNow(sql)}
    select id from recorded`,
  );
  const written = new Set(rows.map((row) => row.id));
  return outcomes.map(({ id }) => written.has(id));
}

/** One dispatch as a page's trace tells it; `gateway` null: it has been removed. */
export type DispatchFacts = {
  readonly id: string;
  readonly gateway: string | null;
  readonly kind: string | null;
  readonly state: DispatchState;
  readonly attempts: number;
  readonly code: string | null;
  readonly createdAt: Date;
  readonly dueAt: Date;
  readonly doneAt: Date | null;
};

/** Those of one page, oldest first. */
export async function dispatchesOf(premise: Database, uniqueId: UniqueId, limit: number): Promise<DispatchFacts[]> {
  return premise.run<DispatchFacts>(
    (sql) => sql`
    select dispatch.id, gateway.name as gateway, gateway.kind, dispatch.state, dispatch.attempts, dispatch.code,
      dispatch.created_at as "createdAt", dispatch.due_at as "dueAt", dispatch.done_at as "doneAt"
    from premise_core.dispatches as dispatch
    left join lateral (
      select name, kind from premise_core.output_gateways where id = dispatch.gateway_id limit 1
    ) as gateway on true
    where dispatch.unique_id = ${uniqueId}
    order by dispatch.created_at, dispatch.id limit ${limit}`,
  );
}
