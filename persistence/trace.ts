/**
 * Where one page is and why: its row, its history, what its wake-ups met and what its host has yet to be told, read
 * together for an operator. Never its text and no person's name.
 */
import type { Answer, Outcome, StatusText, UniqueId } from "../domain.ts";
import { transportOf } from "../domain.ts";
import type { Database } from "./database.ts";
import { gatewayEvents } from "./dispatch-events.ts";
import { listMessages, messagesUnder } from "./message-list.ts";
import type { News } from "./outbox.ts";
import { isFor } from "./page-devices.ts";
import { type PushFacts, type TraceFacts, whyOf } from "./trace-reason.ts";

export type TraceEvent = {
  readonly at: Date;
  readonly event: string;
  readonly node: string;
  readonly detail: string | null;
};

export type Trace = {
  /** null: it was refused before it became a message. */
  readonly uniqueId: UniqueId | null;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  /** The last word the host was told. */
  readonly status: StatusText;
  readonly why: string;
  /** Oldest first. */
  readonly events: readonly TraceEvent[];
  /** Other pages under the same trackingId, newest first. */
  readonly others: readonly UniqueId[];
};

const EVENTS_MAX = 500;
const PAGES_MAX = 20;
const ANY = { status: null, destination: null, synthetic: null };
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const WAKING = new Set(["WAKE", "ENROUTE", "PUSH", "WAIT"]);

/** @param which a uniqueId, a host's trackingId, or `last`; null when there is no such page */
export async function trace(premise: Database, which: string): Promise<Trace | null> {
  const found = await findPage(premise, which);
  if (found === null) return null;
  if (found.kind === "refusal") return traceOfRefusal(found);
  const page = await readPage(premise, found.uniqueId);
  if (page === null) return null;
  const asked = page.history
    .filter((event) => WAKING.has(event.event))
    .flatMap((event) => event.detail?.match(UUID) ?? []);
  const [pushes, passedOn] = await Promise.all([
    readPushes(premise, asked.slice(-EVENTS_MAX)),
    gatewayEvents(premise, page.unique_id),
  ]);
  return {
    uniqueId: page.unique_id,
    trackingId: page.tracking_id,
    origin: page.origin,
    destination: page.destination,
    status: page.told,
    why: whyOf(factsOf(page, pushes)),
    events: [...page.history, ...pushes.flatMap(eventsOfPush), ...passedOn].sort(
      (a, b) => a.at.getTime() - b.at.getTime(),
    ),
    others: found.others,
  };
}

type Refusal = {
  kind: "refusal";
  trackingId: string;
  origin: string;
  destination: string;
  reason: string;
  node: string;
  at: Date;
  others: UniqueId[];
};
type Found = { kind: "page"; uniqueId: UniqueId; others: UniqueId[] } | Refusal;

async function findPage(premise: Database, which: string): Promise<Found | null> {
  if (which === "last") return newest(premise, null);
  if (new RegExp(`^${UUID.source}$`, "i").test(which)) {
    const rows = await premise.run<{ id: UniqueId }>(
      (sql) => sql`select unique_id as id from premise_core.messages where unique_id = ${which}`,
    );
    if (rows[0] !== undefined) return { kind: "page", uniqueId: rows[0].id, others: [] };
  }
  return newest(premise, which);
}

/** The page or refusal that came last, under this trackingId or, but for test pages of our own, at all. */
async function newest(premise: Database, trackingId: string | null): Promise<Found | null> {
  const pages =
    trackingId === null
      ? (await listMessages(premise, { ...ANY, synthetic: false }, null, 1)).items
      : await messagesUnder(premise, trackingId, ANY, PAGES_MAX);
  const others = trackingId === null ? [] : pages.map((page) => page.uniqueId);
  const refusal = await newestRefusal(premise, trackingId, others);
  const page = pages[0];
  if (page === undefined || (refusal !== null && refusal.at > page.acceptedAt)) return refusal;
  return { kind: "page", uniqueId: page.uniqueId, others: others.slice(1) };
}

async function newestRefusal(
  premise: Database,
  trackingId: string | null,
  others: UniqueId[],
): Promise<Refusal | null> {
  const [row] = await premise.run<Omit<Refusal, "kind" | "others">>(
    (sql) => sql`
    select tracking_id as "trackingId", origin, destination, reason, node, at from premise_core.refusals
    ${trackingId === null ? sql`` : sql`where tracking_id = ${trackingId}`}
    order by at desc limit 1`,
  );
  return row === undefined ? null : { kind: "refusal", ...row, others };
}

function traceOfRefusal(refusal: Refusal): Trace {
  const { trackingId, origin, destination, reason, node, at, others } = refusal;
  return {
    uniqueId: null,
    trackingId,
    origin,
    destination,
    status: "FAILED",
    why: `Refused before it was accepted: ${reason}.`,
    events: [{ at, event: "REFUSED", node, detail: reason }],
    others,
  };
}

type Page = {
  unique_id: UniqueId;
  tracking_id: string;
  origin: string;
  destination: string;
  status: number;
  answer: Answer | null;
  outcome: Outcome | null;
  outcome_reason: string | null;
  told: StatusText;
  accepted_at: Date;
  due_at: Date | null;
  user_deadline: Date | null;
  expires_at: Date;
  now: Date;
  active: number;
  reachable: number;
  last_seen_at: Date | null;
  connected: boolean;
  waiting: { status: News["status"]; at: string; taken: boolean }[] | null;
  history: TraceEvent[];
};

async function readPage(premise: Database, uniqueId: UniqueId): Promise<Page | null> {
  const rows = await premise.run<
    Omit<Page, "history"> & { history: { at: string; event: string; node: string; detail: string | null }[] | null }
  >(
    (sql) => sql`
    select message.unique_id, message.tracking_id, message.origin, message.destination, message.status, message.answer, message.outcome,
      message.outcome_reason, message.told, message.accepted_at, message.due_at, message.user_deadline, message.expires_at, clock_timestamp() as now,
      devices.active, devices.reachable, devices.last_seen_at,
      exists (
        select from premise_core.host_links where host_system_id = message.host_system_id and closed_at is null) as connected,
      (select json_agg(json_build_object('status', row.status, 'at', row.at, 'taken', row.lane <> message.host_system_id) order by row.id)
       from premise_core.host_outbox as row
       where row.unique_id = message.unique_id and row.lane in (
         select message.host_system_id
         union all select id from premise_core.host_links where host_system_id = message.host_system_id)) as waiting,
      (select json_agg(json_build_object('at', event.at, 'event', event.event, 'node', event.node,
          'detail', case when event.said_at is null then event.detail
            else event.detail || ', at ' || to_char(event.said_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' by its own clock' end) order by event.seq)
       from (
         select * from premise_core.message_history as history where history.unique_id = message.unique_id order by seq desc limit ${EVENTS_MAX}
       ) as event) as history
    from premise_core.messages as message
    cross join lateral (
      select count(*)::integer as active, (count(*) filter (where notification_address is not null))::integer as reachable,
        max(last_seen_at) as last_seen_at
      from premise_core.devices
      where subscriber_id = message.subscriber_id and state = 'ACTIVE' and ${isFor(sql, "message", sql`devices.id`)}
    ) as devices
    where message.unique_id = ${uniqueId}`,
  );
  const row = rows[0];
  if (row === undefined) return null;
  return { ...row, history: (row.history ?? []).map((event) => ({ ...event, at: new Date(event.at) })) };
}

type Push = Omit<PushFacts, "createdAt" | "doneAt"> & { id: string; createdAt: Date; doneAt: Date | null };

/** With those that took their place: what became of them became of these. */
async function readPushes(premise: Database, ids: readonly string[]): Promise<Push[]> {
  if (ids.length === 0) return [];
  return premise.run<Push>(
    (sql) => sql`
    with recursive push as (
      select * from premise_core.notifications where id = any (${[...ids]}::uuid[])
      union
      select later.* from push join premise_core.notifications as later on later.id = push.superseded_by
    )
    select id, gateway_type as "gatewayType", state, attempts, code, created_at as "createdAt", done_at as "doneAt"
    from (select * from push limit ${2 * EVENTS_MAX}) as push order by created_at, id`,
  );
}

/** What the provider made of a wake-up, as an event beside those of the page itself. */
function eventsOfPush(push: Push): TraceEvent[] {
  const words = [
    push.gatewayType === "GCM" ? "FCM" : push.gatewayType,
    ...(push.attempts === 0 ? [] : [`attempt ${push.attempts}`]),
    ...(push.code === null ? [] : [push.code]),
    push.id,
  ];
  const detail = words.join(", ");
  if (push.doneAt !== null) return [{ at: push.doneAt, event: `PUSH ${push.state}`, node: "hosted", detail }];
  return push.attempts === 0 ? [] : [{ at: push.createdAt, event: "PUSH RETRIED", node: "hosted", detail }];
}

function factsOf(page: Page, pushes: readonly Push[]): TraceFacts {
  const transport = transportOf(page.status);
  const last = (test: (event: string) => boolean) => page.history.findLast((event) => test(event.event)) ?? null;
  const at = (test: (event: string) => boolean) => last(test)?.at.getTime() ?? null;
  const attempt = last((event) => WAKING.has(event));
  const answeredAt = page.answer === null ? null : at((event) => event === page.answer);
  return {
    now: page.now.getTime(),
    status: transport,
    answer: page.answer,
    outcome: page.outcome,
    outcomeReason: page.outcome_reason,
    dueAt: page.due_at?.getTime() ?? null,
    userDeadline: page.user_deadline?.getTime() ?? null,
    expiresAt: page.expires_at.getTime(),
    since: {
      status: at((event) => event === transport) ?? answeredAt ?? page.accepted_at.getTime(),
      answer: answeredAt,
      outcome: page.outcome === null ? null : at((event) => event === page.outcome),
    },
    attempt:
      attempt === null ? null : { event: attempt.event as "WAKE", at: attempt.at.getTime(), detail: attempt.detail },
    push: furthest(pushes),
    devices: { active: page.active, reachable: page.reachable, lastSeenAt: page.last_seen_at?.getTime() ?? null },
    host: {
      connected: page.connected,
      waiting: (page.waiting ?? []).map((row) => ({ ...row, at: new Date(row.at).getTime() })),
    },
  };
}

/** One push that was taken tells more than any that was not; among equals the newest. */
function furthest(pushes: readonly Push[]): PushFacts | null {
  const order = ["SENT", "STORED", "REFUSED", "DEAD", "EXPIRED", "SETTLED", "SUPERSEDED"];
  const [best] = [...pushes].sort(
    (a, b) => order.indexOf(a.state) - order.indexOf(b.state) || b.createdAt.getTime() - a.createdAt.getTime(),
  );
  if (best === undefined) return null;
  return { ...best, createdAt: best.createdAt.getTime(), doneAt: best.doneAt?.getTime() ?? null };
}
