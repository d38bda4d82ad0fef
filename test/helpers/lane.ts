/** One lane of what hosts have yet to be told, looked at by itself. */
import type { LinkId } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import { type LaneRead, type NewsPage, readNews } from "../../persistence/outbox.ts";

const ROWS = 100;
const START = { cursor: "0", afterId: "0", snapshot: null };

/** @param from where it stands; at the lane's beginning by itself. @param rows at most so many */
export async function lookAt(
  database: Database,
  link: LinkId,
  from: Partial<Omit<LaneRead, "link">> = {},
  rows: number = ROWS,
): Promise<NewsPage> {
  const [page] = await readNews(database, [{ link, ...START, ...from }], rows);
  return page!;
}
