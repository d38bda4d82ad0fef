/** What the load is told to do, and what it saw. */

/** What stays over all orders to one load: host systems and phones do not come and go with a measurement. */
export type Ground = {
  /** Where each node listens: host systems and phones' connections go round them. */
  readonly nodes: readonly { readonly mxppPort: number; readonly httpsPort: number }[];
  readonly ca: string;
  /** Names of the host systems, each a connection of its own. */
  readonly hosts: readonly string[];
  /** The emulator, whose stream of pushes says which phones are woken; null: nobody asks. */
  readonly wakeUps: string | null;
  /** Connections of phones that are woken, kept open, each with one request at a time; 0: they stay away. */
  readonly visitors: number;
  /** All phones listen by streams. */
  readonly listening: boolean;
  /** Phones 0 to this - 1. */
  readonly phones: number;
};

export type Orders = {
  /** Of the first orders; later ones change nothing of it. */
  readonly ground: Ground;
  /** The host systems that send, in turn, a phone's pages all by one. */
  readonly senders: readonly string[];
  /** Of the pages' trackingIds; no other load on the same database may have had it. */
  readonly prefix: string;
  readonly pages: number;
  /** So many pages to one phone are sent one after the other. */
  readonly inARow: number;
  /** Each so many-th page has high priority; 0: none. */
  readonly highEvery: number;
  /**
   * `window`: so many pages are on their way at once, whatever it takes (closed loop). `perSecond`: pages are sent by the
   * clock, and their times count from when they were to be sent (open loop).
   */
  readonly pace: { readonly window: number } | { readonly perSecond: number };
  /** High-priority pages by the clock, beside the others, by a host system of their own, for as long as those last. */
  readonly beside: { readonly host: string; readonly perSecond: number } | null;
  /** The status that ends a page's way here. */
  readonly until: "ACCEPTED" | "DELIVERED";
  readonly deadlineMs: number;
};

/** Milliseconds; null where there was nothing to measure. */
export type Spread = {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
} | null;

export type Seen = {
  /** From the first page's sending to the last one's last status. */
  readonly seconds: number;
  readonly pages: number;
  /** How many pages heard each status. */
  readonly told: Readonly<Record<string, number>>;
  /** Statuses heard a second time. */
  readonly twice: number;
  /** Pages that did not come to their last status by the deadline. */
  readonly lost: number;
  readonly acceptMs: Spread;
  /** Until a page's frame was at a phone that listens. */
  readonly shownMs: Spread;
  readonly deliveredMs: Spread;
  /** ACCEPTED of high-priority pages: among the others, and on a connection of their own. */
  readonly highMs: Spread;
  readonly besideMs: Spread;
  /** How late this process itself was with pages that go by the clock; part of their times. */
  readonly lateMs: Spread;
  readonly pushes: number;
  readonly visits: number;
  /** Visits that found nothing: an earlier one had taken it. */
  readonly emptyVisits: number;
  readonly requests: number;
  /** Pages that phones were given. */
  readonly received: number;
  /** Of this process, in the measured time. */
  readonly cpuSeconds: number;
};
