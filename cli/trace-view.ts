/** A page's trace as the admin API tells it, and how it is shown. */
import { type Output, printable, type Style, spanText } from "./output.ts";

export type TraceEvent = {
  /** The same whenever it is read. */
  readonly id: string;
  readonly at: string;
  readonly event: string;
  readonly node: string;
  readonly detail: string | null;
};
/** A page that this one was passed on from or to, or that went beside it. */
export type Relative = {
  readonly uniqueId: string;
  readonly relation: string;
  readonly destination: string;
  readonly status: string;
  readonly why: string;
};
export type Trace = {
  /** Null: it was refused before it became a message. */
  readonly uniqueId: string | null;
  readonly trackingId: string;
  readonly origin: string;
  readonly destination: string;
  readonly status: string;
  /** And what happens next. */
  readonly why: string;
  readonly next: { readonly what: string; readonly at: string } | null;
  readonly finished: boolean;
  readonly events: readonly TraceEvent[];
  /** Older events that were left out. */
  readonly earlier: number;
  readonly family: readonly Relative[];
  /** Other pages under the same trackingId. */
  readonly others: readonly string[];
};

const STYLES: Readonly<Record<string, Style>> = {
  DELIVERED: "green",
  READ: "green",
  ACKNOWLEDGED: "green",
  REPLY: "green",
  IGNORED: "yellow",
  ESCALATED: "yellow",
  SKIPPED: "yellow",
  FAILED: "red",
  EXPIRED: "red",
  RECALLED: "red",
  REFUSED: "red",
};

/** Padded to a column's width. */
export function statusCell(output: Output, status: string, otherwise: Style = "cyan"): string {
  return output.paint(STYLES[status] ?? otherwise, printable(status).padEnd(12));
}

export function title(output: Output, { uniqueId, trackingId, origin, destination }: Trace): string {
  const ids = uniqueId === null ? trackingId : `${trackingId}, ${uniqueId}`;
  return output.paint("dim", printable(`${ids}   ${origin} → ${destination}`));
}

export function headline(output: Output, { status, why }: Trace): string {
  return `${output.paint("bold", output.paint(STYLES[status] ?? "cyan", status))}  ${printable(why)}`;
}

export function eventCells(output: Output, { at, event, node, detail }: TraceEvent, { events }: Trace): string[] {
  const since = `+${spanText(Date.parse(at) - Date.parse(events[0]?.at ?? at))}`;
  return [timeText(at), since.padStart(9), statusCell(output, event, "bold"), printable(node), printable(detail ?? "")];
}

export function relativeCells(output: Output, { uniqueId, destination, status, why }: Relative): string[] {
  return [statusCell(output, status), printable(destination), uniqueId, printable(why)];
}

/** With thousandths: two nodes' steps may lie closer together than a second. */
export function timeText(at: string): string {
  const time = new Date(at);
  const ms = String(time.getMilliseconds()).padStart(3, "0");
  return `${time.toLocaleTimeString("en-GB", { hour12: false })}.${ms}`;
}
