/** What belongs to the installation as a whole. */
import type { Database } from "./database.ts";

/** The secret that keys message ids (unique-id.ts), and from which the demo's registration codes are derived. */
export async function readMessageKey(premise: Database): Promise<string> {
  const [row] = await premise.run<{ message_key: string }>((sql) => sql`select message_key from premise_core.install`);
  return row!.message_key;
}
