/** What a host is told of a reply: its words, and the page's own names for where they go. */
import { PRIORITIES, type Priority, type ReplyId, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";

export type ReplyWords = {
  readonly text: string;
  /** Of the person. */
  readonly destination: string;
  readonly name: string;
  /** The page's, as its host wrote them. */
  readonly toId: string;
  readonly deviceId: string | null;
  readonly conversationId: string;
  readonly siteId: string;
  readonly priority: Priority;
};

/** By reply, but for those whose page is gone. Not part of a look at a lane: few find any, and each of its rows would pay for it. */
export async function wordsOf(
  database: Database,
  told: readonly { readonly id: ReplyId; readonly page: UniqueId }[],
): Promise<ReadonlyMap<ReplyId, ReplyWords>> {
  if (told.length === 0) return new Map();
  const rows = await database.run<Omit<ReplyWords, "priority"> & { id: ReplyId; priority: number }>(
    (sql) => sql`
    select told.id, coalesce(said.body, '') as text, coalesce(person.destination, message.destination) as destination,
      coalesce(person.name, '') as name, message.from_id as "toId", message.device_id as "deviceId",
      message.conversation_id as "conversationId", message.host_site_id as "siteId", message.priority
    from unnest(${told.map((row) => row.id)}::uuid[], ${told.map((row) => row.page)}::uuid[]) as told (id, page)
    cross join lateral (
      select destination, device_id, conversation_id, host_site_id, from_id, priority
      from premise_core.messages where unique_id = told.page limit 1
    ) as message
    left join lateral (select body, subscriber_id from premise_core.replies where id = told.id limit 1) as said on true
    left join lateral (select destination, name from premise_core.subscribers where id = said.subscriber_id limit 1) as person on true`,
  );
  return new Map(rows.map(({ id, priority, ...words }) => [id, { ...words, priority: PRIORITIES[priority]! }]));
}
