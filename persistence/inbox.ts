/** What waits for a device: the pages it has yet to fetch. The only statement that hands out a page's text. */
import { type Answer, type Outcome, PRIORITIES, type Priority, type UniqueId } from "../domain.ts";
import type { Database } from "./database.ts";
import type { Device } from "./devices.ts";
import { isFor } from "./page-devices.ts";

export type WaitingPage = {
  readonly uniqueId: UniqueId;
  readonly sentAt: Date;
  readonly acceptedAt: Date;
  readonly expiresAt: Date;
  readonly text: string;
  readonly status: number;
  readonly answer: Answer | null;
  /** An outcome the host was told of before the page was fetched: the page comes late. */
  readonly outcome: Outcome | null;
  readonly hostSiteId: string;
  readonly conversationId: string;
  readonly priority: Priority;
  readonly messageType: string;
  readonly fromId: string;
  readonly fromName: string;
  readonly responseChoices: readonly string[];
};

type Row = Omit<WaitingPage, "priority"> & { priority: number };

/** Most urgent first, then in the order in which they came in, of those no one can tell by when their host sent them; at most `limit`. */
export async function waitingPages(premise: Database, device: Device, limit: number): Promise<WaitingPage[]> {
  const rows = await premise.run<Row>(
    (sql) => sql`
    select unique_id as "uniqueId", sent_at as "sentAt", accepted_at as "acceptedAt", expires_at as "expiresAt", body as text, status,
      answer, outcome, host_site_id as "hostSiteId", conversation_id as "conversationId", priority, message_type as "messageType",
      from_id as "fromId", from_name as "fromName", response_choices as "responseChoices"
    from premise_core.messages
    where subscriber_id = ${device.subscriberId} and open and expires_at > now() and not ${device.id} = any (fetched_by)
      and ${isFor(sql, "messages", sql`${device.id}::uuid`)}
    order by priority, accepted_at, sent_at, unique_id
    limit ${limit}`,
  );
  return rows.map((row) => ({ ...row, priority: PRIORITIES[row.priority]! }));
}
