/** The database as a start asks it: what meets its loss is asked again, where a node at work would leave that to whoever came with it. */
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";
import { isPassing } from "./batch.ts";
import type { Database } from "./database.ts";

/** From a statement's first try: a standby has been promoted by then, or a machine started. Behind it the start ends with the error. */
const TRYING_MS = 300_000;
const LOOK_MS = 10_000;
const AGAIN_MS = 200;

/** The same database for statements that may be carried out twice: whether one that met the loss was, nobody knows. */
export function patiently(database: Database, ports: { readonly log: Log }): Database {
  return {
    ...database,
    async run(build, deadlineMs, urgent) {
      const until = systemClock.monotonic() + TRYING_MS;
      for (;;) {
        try {
          return await database.run(build, deadlineMs, urgent);
        } catch (error) {
          if (!isPassing(error) || systemClock.monotonic() >= until) throw error;
          ports.log.warn(faultFields(error), "a statement of the start did not come through, and is tried again");
          await sleep(AGAIN_MS);
          await database.untilUp(LOOK_MS).catch(() => {});
        }
      }
    },
  };
}
