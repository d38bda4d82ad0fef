/**
 * All links of this node together: what there is to tell over those that look, read in one statement; whether there is news for any of
 * them, asked once a second in one statement for each thousand, since hints may be lost; and the ends of those whose end could not be
 * written.
 */
import { PAGE_ROWS } from "../../actors/host.ts";
import { superviseLoop } from "../../cluster/supervision.ts";
import type { Clock, HostSystemId, LinkId } from "../../domain.ts";
import type { Log } from "../../log.ts";
import { makeBatch, PACE_MS } from "../../persistence/batch.ts";
import { type Database, urgently } from "../../persistence/database.ts";
import { closeLinks, type LaneRead, type NewsPage, newsOfLinks, readNews } from "../../persistence/outbox.ts";

export type LinkOnWatch = {
  readonly id: LinkId;
  readonly hostSystemId: HostSystemId;
  /** How far it has read its lane. */
  cursor(): string;
  /** Something may be waiting; `unclaimed`: perhaps in the host system's own lane. */
  hint(unclaimed: boolean): void;
};

export type Links = {
  add(link: LinkOnWatch): void;
  remove(link: LinkOnWatch): void;
  /** The row of this link may still stand open though the link is no more. */
  unclosed(link: LinkId): void;
  /** Looks at the lane of a link. */
  read(read: LaneRead): Promise<NewsPage>;
  /** See actors/host.ts. */
  era(): number;
  close(): Promise<void>;
};

const EVERY_MS = 1_000;
/** While ends wait to be written. */
const AGAIN_MS = 100;
/** Links in one statement. */
const AT_ONCE = 1_000;
/** Of those that look, with up to `PAGE_ROWS` rows each; a link has one look under way. */
const READS = { entriesMax: 25, waitingMax: 50_000, paceMs: PACE_MS };
/** Of those that may go through all of a lane for each page: of 200,000 rows that takes 0.2 s, and all must be read within a statement's 4 s. */
const LONG_READS = 5;

/** From the lane's beginning, or on from a full page. */
function isLong({ cursor, snapshot }: LaneRead): boolean {
  return cursor === "0" || snapshot !== null;
}

export function openLinks(ports: { readonly database: Database; readonly log: Log; readonly clock: Clock }): Links {
  const { database } = ports;
  const links = new Map<LinkId, LinkOnWatch>();
  const unclosed = new Set<LinkId>();
  let era = 0;
  database.onChange((up) => {
    if (up) era += 1;
  });

  // Whatever a host is told goes in one order, so that of its pages of high priority cannot go by itself. What is urgent here is what is
  // fresh: it waits for no host that has been away.
  const reading = makeBatch<LaneRead, NewsPage>({
    ...READS,
    key: ({ link }) => link,
    urgent: (read) => !isLong(read),
    length: { of: (read) => Number(isLong(read)), max: LONG_READS },
    write: (reads) => readNews(urgently(database), reads, PAGE_ROWS),
  });

  async function look(): Promise<void> {
    const all = [...links.values()];
    for (let first = 0; first < all.length && database.isUp(); first += AT_ONCE) {
      const places = all
        .slice(first, first + AT_ONCE)
        .map(({ id, hostSystemId, cursor }) => ({ link: id, hostSystemId, cursor: cursor() }));
      // One that others have ended finds that out when it claims.
      for (const { link, open, news, unclaimed } of await newsOfLinks(urgently(database), places))
        if (!open || news || unclaimed) links.get(link)?.hint(!open || unclaimed);
    }
  }

  async function closeRest(): Promise<void> {
    if (unclosed.size === 0) return;
    const some = [...unclosed].slice(0, AT_ONCE);
    await closeLinks(database, some);
    for (const link of some) unclosed.delete(link);
  }

  // Loops of their own: neither waits for the other's failures.
  const looking = superviseLoop("news of links", () => EVERY_MS, look, ports);
  const closing = superviseLoop("ends of links", () => (unclosed.size > 0 ? AGAIN_MS : EVERY_MS), closeRest, ports);
  return {
    add: (link) => void links.set(link.id, link),
    remove: (link) => void links.delete(link.id),
    unclosed: (link) => void unclosed.add(link),
    read: reading.submit,
    era: () => era,
    async close() {
      await Promise.all([looking.close(), closing.close()]);
    },
  };
}
