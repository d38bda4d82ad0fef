/** Pages refused before they became messages, for the operator who asks where one went. Kept for a week (retention.ts); no text. */
import type { HostSystemId } from "../domain.ts";
import type { Database } from "./database.ts";

export type Refusal = {
  readonly hostSystemId: HostSystemId | null;
  readonly origin: string;
  readonly trackingId: string;
  readonly destination: string;
  readonly reason: string;
};

export async function recordRefusals(premise: Database, node: string, refusals: readonly Refusal[]): Promise<void> {
  await premise.run(
    (sql) => sql`
    insert into premise_core.refusals (host_system_id, origin, tracking_id, destination, reason, node)
    select *, ${node} from unnest(
      ${refusals.map((r) => r.hostSystemId)}::uuid[], ${refusals.map((r) => r.origin)}::text[], ${refusals.map((r) => r.trackingId)}::text[],
      ${refusals.map((r) => r.destination)}::text[], ${refusals.map((r) => r.reason)}::text[])`,
  );
}
