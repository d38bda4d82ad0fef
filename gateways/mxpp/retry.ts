/** Trying again while the database is away or has enough to do. */
import { setTimeout as rest } from "node:timers/promises";
import { isPassing } from "../../persistence/batch.ts";
import { type Database, DatabaseDown } from "../../persistence/database.ts";

const RETRY_MS = 100;
const DATABASE_WAIT_MS = 5_000;

/** Until it succeeds or fails for good, or nobody waits for it any more. */
export async function untilUp<T>(
  attempt: () => Promise<T>,
  ports: {
    readonly database: Database;
    readonly wanted: () => boolean;
    readonly failed?: (error: unknown) => void;
    /** After each failure that will go by itself. */
    readonly waits: () => void;
  },
): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      ports.failed?.(error);
      if (!ports.wanted() || !isPassing(error)) throw error;
      ports.waits();
      if (error instanceof DatabaseDown) await ports.database.untilUp(DATABASE_WAIT_MS).catch(() => {});
      await rest(RETRY_MS);
    }
  }
}
