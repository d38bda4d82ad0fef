/** The one page an operator means by a uniqueId, a host's trackingId or `last`; or what was refused before it became one. */
import type { UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import { ANY_MESSAGE, listMessages, messagesUnder } from "./message-list.ts";

export type Refusal = {
  readonly kind: "refusal";
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly reason: string;
  readonly node: string;
  readonly at: Date;
  readonly others: readonly UniqueId[];
};
/** `others`: pages under the same trackingId, newest first. */
export type FoundPage =
  | { readonly kind: "page"; readonly uniqueId: UniqueId; readonly others: readonly UniqueId[] }
  | Refusal;

const PAGES_MAX = 20;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export async function findPage(premise: Database, which: string): Promise<FoundPage | null> {
  if (which === "last") return newest(premise, null);
  if (UUID.test(which)) {
    const rows = await premise.run<{ id: UniqueId }>(
      (sql) => sql`select unique_id as id from premise_core.messages where unique_id = ${which}`,
    );
    if (rows[0] !== undefined) return { kind: "page", uniqueId: rows[0].id, others: [] };
  }
  return newest(premise, which);
}

/** The page or refusal that came last, under this trackingId or, but for test pages of our own, at all. */
async function newest(premise: Database, trackingId: string | null): Promise<FoundPage | null> {
  const pages =
    trackingId === null
      ? (await listMessages(premise, { ...ANY_MESSAGE, sent: true, synthetic: false }, null, 1)).items
      : await messagesUnder(premise, trackingId, { ...ANY_MESSAGE, sent: true }, PAGES_MAX);
  const others = trackingId === null ? [] : pages.map((page) => page.uniqueId);
  const refusal = await newestRefusal(premise, trackingId, others);
  const page = pages[0];
  if (page === undefined || (refusal !== null && refusal.at > page.acceptedAt)) return refusal;
  return { kind: "page", uniqueId: page.uniqueId, others: others.slice(1) };
}

async function newestRefusal(
  premise: Database,
  trackingId: string | null,
  others: readonly UniqueId[],
): Promise<Refusal | null> {
  const [row] = await premise.run<Omit<Refusal, "kind" | "others">>(
    (sql) => sql`
    select tracking_id as "trackingId", origin, destination, reason, node, at from premise_core.refusals
    ${trackingId === null ? sql`` : sql`where tracking_id = ${trackingId}`}
    order by at desc limit 1`,
  );
  return row === undefined ? null : { kind: "refusal", ...row, others };
}
