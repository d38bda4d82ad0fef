/** Pages that something should have happened to, looked at again and again: a table on a terminal, else what joins and leaves them. */
import { EXIT, type ExitCode } from "./exit.ts";
import { looks } from "./looks.ts";
import { clockText, type Output, printable, spanText, tableLines } from "./output.ts";
import type { Api } from "./server.ts";
import { statusCell } from "./trace-view.ts";

type Page = {
  readonly uniqueId: string;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly priority: string;
  readonly status: string;
  readonly acceptedAt: string;
  readonly dueAt: string | null;
  readonly deviceDeadline: string | null;
};
type Pages = { readonly items: readonly Page[]; readonly next: string | null };

const LOOK_MS = 2_000;
const SHOWN_MAX = 100;
/** As the server judges it. */
const OVERDUE_MS = 10_000;
const HEADERS = ["status", "priority", "accepted", "way", "trackingId", "why"];

/** `failed` where pages are stuck at the last look. */
export async function followStuck(
  api: Api,
  filter: URLSearchParams,
  signal: AbortSignal,
  output: Output,
): Promise<ExitCode> {
  const query = new URLSearchParams({ ...Object.fromEntries(filter), stuck: "true", limit: String(SHOWN_MAX) });
  const look = () => api.get<Pages>(`messages?${query}`);
  let known = new Map<string, Page>();
  let first = true;
  for await (const { items, next } of looks({ look, pauseMs: () => LOOK_MS, signal, output })) {
    const now = new Map(items.map((page) => [page.uniqueId, page]));
    if (output.terminal) draw(output, items, next !== null);
    else {
      if (first && items.length === 0) output.line("No page is stuck.");
      for (const page of items) if (!known.has(page.uniqueId)) tell(output, page, true);
      // Of more than are shown, one may only have been pushed out of sight.
      for (const [id, page] of known) if (!now.has(id) && next === null) tell(output, page, false);
    }
    known = now;
    first = false;
  }
  return known.size > 0 ? EXIT.failed : EXIT.ok;
}

function draw(output: Output, items: readonly Page[], more: boolean): void {
  process.stdout.write("\u001b[2J\u001b[H");
  const count = items.length === 1 ? "One page is" : `${items.length}${more ? " pages and more are" : " pages are"}`;
  if (items.length === 0) output.line(output.paint("green", "No page is stuck."));
  else output.line(`${output.paint("red", `${count} stuck`)}, the oldest first\n`);
  const rows = items.map((page) => cells(output, page));
  if (rows.length > 0) for (const line of tableLines(output, HEADERS, rows)) output.line(line);
}

function tell(output: Output, page: Page, stuck: boolean): void {
  output.record({ ...page, stuck });
  const row = cells(output, page).join("   ");
  output.line(stuck ? row : output.paint("green", `no longer stuck: ${printable(page.trackingId)}`));
}

function cells(output: Output, page: Page): string[] {
  const way = printable(`${page.origin} → ${page.destination}`);
  const id = printable(page.trackingId);
  return [statusCell(output, page.status), page.priority, clockText(page.acceptedAt), way, id, whyStuck(page)];
}

function whyStuck({ dueAt, deviceDeadline }: Page): string {
  const overdueMs = dueAt === null ? 0 : Date.now() - Date.parse(dueAt);
  if (overdueMs > OVERDUE_MS) return `its next step is overdue by ${spanText(overdueMs)}: no node drives it`;
  if (deviceDeadline === null) return "not fetched in time";
  return `not fetched by its deadline, ${spanText(Math.max(0, Date.now() - Date.parse(deviceDeadline)))} ago`;
}
