/** What a page's other gateways made of it, as events of its trace. Neither the address nor what the server wrote: its code. */
import type { UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { type DispatchFacts, dispatchesOf } from "./dispatches.ts";
import type { TraceEvent } from "./traced-page.ts";

const DISPATCHES_MAX = 100;

export async function gatewayEvents(premise: Database, uniqueId: UniqueId): Promise<TraceEvent[]> {
  return (await dispatchesOf(premise, uniqueId, DISPATCHES_MAX)).flatMap(eventsOfDispatch);
}

/**
 * GATEWAY ASKED when it was passed on, then what came of it: GATEWAY RETRIED while it is tried again, at the end
 * GATEWAY SENT, REFUSED or EXPIRED.
 */
export function eventsOfDispatch(dispatch: DispatchFacts): TraceEvent[] {
  const { kind, state, attempts, code, createdAt, dueAt, doneAt } = dispatch;
  const name = dispatch.gateway ?? "a gateway that was removed";
  const gateway = kind === null ? name : `${name} (${kind})`;
  const words = [gateway, ...(attempts === 0 ? [] : [`attempt ${attempts}`]), ...(code === null ? [] : [code])];
  const event = (at: Date, what: string, detail: string): TraceEvent => {
    const id = what === "GATEWAY RETRIED" ? `${dispatch.id} attempt ${attempts}` : `${dispatch.id} ${what}`;
    return { id, at, event: what, node: "gateway", detail };
  };
  const asked = event(createdAt, "GATEWAY ASKED", gateway);
  if (doneAt !== null) return [asked, event(doneAt, `GATEWAY ${state}`, words.join(", "))];
  // When it was tried last is not kept: it lies before the next time.
  const next = `again at ${dueAt.toISOString()}`;
  return attempts === 0 ? [asked] : [asked, event(createdAt, "GATEWAY RETRIED", [...words, next].join(", "))];
}
