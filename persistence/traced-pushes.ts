/** What the push services made of a page's wake-ups, as the hosted side's rows have it. */
import type { Database } from "./database.ts";
import type { PushFacts } from "./trace-reason.ts";
import { EVENTS_MAX } from "./traced-page.ts";

export type TracedPush = Omit<PushFacts, "createdAt" | "doneAt"> & {
  readonly id: string;
  readonly createdAt: Date;
  readonly doneAt: Date | null;
};

/** With those that took their place: what became of them became of these. */
export async function readPushes(premise: Database, ids: readonly string[]): Promise<TracedPush[]> {
  if (ids.length === 0) return [];
  return premise.run<TracedPush>(
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

/** What the provider made of a wake-up, as an event beside those of the page itself; none while nothing has come of it. */
export function eventsOfPush({ id, gatewayType, state, attempts, code, createdAt, doneAt }: TracedPush) {
  const words = [
    gatewayType === "GCM" ? "FCM" : gatewayType,
    ...(attempts === 0 ? [] : [`attempt ${attempts}`]),
    ...(code === null ? [] : [code]),
    id,
  ];
  const event = { node: "hosted", detail: words.join(", ") };
  if (doneAt !== null) return [{ ...event, id: `${id} ${state}`, at: doneAt, event: `PUSH ${state}` }];
  if (attempts === 0) return [];
  return [{ ...event, id: `${id} attempt ${attempts}`, at: createdAt, event: "PUSH RETRIED" }];
}

/** One push that was taken tells more than any that was not; among equals the newest. */
export function furthest(pushes: readonly TracedPush[]): PushFacts | null {
  const order = ["SENT", "STORED", "REFUSED", "DEAD", "EXPIRED", "SETTLED", "SUPERSEDED"];
  const [best] = [...pushes].sort(
    (a, b) => order.indexOf(a.state) - order.indexOf(b.state) || b.createdAt.getTime() - a.createdAt.getTime(),
  );
  if (best === undefined) return null;
  return { ...best, createdAt: best.createdAt.getTime(), doneAt: best.doneAt?.getTime() ?? null };
}
