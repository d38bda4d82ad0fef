/**
 * Keeps the tables from growing without end: deletes what has been over for long, a batch at a time and with a pause between
 * two, so that pages on their way never wait for it. The node that drives shard 0 does it; two at once would do no harm.
 */
import type { Clock, HostSystemId, Shard } from "../domain.ts";
import type { Log } from "../log.ts";
import type { Database } from "../persistence/database.ts";
import {
  BATCH_ROWS,
  deleteEndedDispatches,
  deleteEndedNotifications,
  deleteEndedPages,
  deleteExpiredNotices,
  deleteForgottenPushes,
  deleteOldRefusals,
  endExpiredNotifications,
  endLostDispatches,
  type Forgotten,
  forgetNewsOfHostsAway,
} from "../persistence/retention.ts";
import type { Membership } from "./membership.ts";
import { type Loop, superviseLoop } from "./supervision.ts";

const KEEPER = 0 as Shard;
/** Between two looks when the last one found little, and between two batches when there is more. */
const LOOK_MS = 60_000;
const BATCH_MS = 500;

export function openRetention(
  slice: {
    /** How long a page is kept after its expiry. */
    readonly days: number;
  },
  ports: {
    readonly premise: Database;
    readonly core: Database;
    readonly membership: Membership;
    readonly log: Log;
    readonly clock: Clock;
  },
): Loop {
  const { premise, core, membership, log } = ports;
  const deleted = { pages: 0, pushes: 0, refusals: 0 };
  const away = new Map<HostSystemId, { host: string | null; hostSystemId: HostSystemId; statuses: number }>();
  let place: string | null = null;
  let more = false;

  /** Once for a host system, when the last of its batches is done. */
  function noteAway(forgotten: readonly Forgotten[]): void {
    let sum = 0;
    for (const { hostSystemId, name, rows } of forgotten) {
      sum += rows;
      away.set(hostSystemId, { host: name, hostSystemId, statuses: (away.get(hostSystemId)?.statuses ?? 0) + rows });
    }
    more ||= sum === BATCH_ROWS;
    if (sum === BATCH_ROWS) return;
    for (const fields of away.values())
      log.warn(fields, "host system did not come back: what it had yet to be told has been deleted");
    away.clear();
  }

  async function round(): Promise<void> {
    more = false;
    if (!membership.drives(KEEPER) || !premise.isUp() || !core.isUp()) return;
    const full = (rows: number) => {
      more ||= rows === BATCH_ROWS;
      return rows;
    };
    noteAway(await forgetNewsOfHostsAway(premise, slice.days));
    const ended = await deleteEndedPages(premise, slice.days, place);
    place = ended.next;
    more ||= ended.unfinished || place !== null;
    full(await endExpiredNotifications(premise));
    full(await deleteExpiredNotices(premise));
    full(await deleteForgottenPushes(core));
    const lost = full(await endLostDispatches(premise));
    if (lost > 0) log.error({ pages: lost }, "pages did not leave: their output gateway is no more");
    full(await deleteEndedDispatches(premise));
    deleted.pages += ended.pages;
    deleted.pushes += full(await deleteEndedNotifications(premise));
    deleted.refusals += full(await deleteOldRefusals(premise));
    if (more || deleted.pages + deleted.pushes + deleted.refusals === 0) return;
    log.info({ ...deleted }, "what was over for long has been deleted");
    Object.assign(deleted, { pages: 0, pushes: 0, refusals: 0 });
  }

  return superviseLoop("retention", () => (more ? BATCH_MS : LOOK_MS), round, ports);
}
