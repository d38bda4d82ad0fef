/**
 * What the demo's host systems and phones saw of every page, and the figures that come of it. It sees what they see: no row, no log.
 *
 * Lost is a page that did not come to its end: shown on its phone, and READ told to its host. Doubled is one that its phone has under
 * two ids, that another's phone has, or of which one connection was told a status twice or out of order.
 */
import { PRIORITIES, type Priority, type StatusText } from "../domain.ts";
import { rises } from "./told-order.ts";

export const STAGES = ["ACCEPTED", "ENROUTE", "DELIVERED", "READ"] as const satisfies readonly StatusText[];

export type DemoPage = {
  readonly trackingId: string;
  readonly priority: Priority;
  /** Places among the host systems and the phones. */
  readonly host: number;
  readonly phone: number;
  /** Its recipient's. */
  readonly shard: number;
  /** `performance.now` of its first sending; null: not yet. */
  sentAt: number | null;
  /** Over all connections. */
  sendings: number;
  /** `performance.now` of the first time each was told. */
  readonly reached: Map<StatusText, number>;
  /** By connection. */
  readonly told: Map<number, StatusText[]>;
  /** UniqueIds under which its phone has it. */
  readonly ids: Set<string>;
  shownAt: number | null;
  misdelivered: boolean;
};

export type StageFigures = {
  readonly priority: Priority;
  readonly status: (typeof STAGES)[number];
  /** Of how many pages it was told; a status may be skipped for the next. */
  readonly pages: number;
  /** From the first sending to the status at the host's socket, in ms; null where it was told of none. */
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly maxMs: number | null;
};

export type PageFigures = {
  readonly sent: number;
  readonly accepted: number;
  readonly delivered: number;
  readonly read: number;
  readonly failed: number;
  readonly lost: number;
  readonly doubled: number;
};

export type DemoRecord = {
  readonly pages: ReadonlyMap<string, DemoPage>;
  add(page: Pick<DemoPage, "trackingId" | "priority" | "host" | "phone" | "shard">): DemoPage;
  heard(trackingId: string, connection: number, status: StatusText): void;
  shown(trackingId: string, uniqueId: string, phone: number): void;
  /** Whether every page has come to its end. */
  finished(): boolean;
  figures(): PageFigures;
  stages(): readonly StageFigures[];
};

export function openDemoRecord(): DemoRecord {
  const pages = new Map<string, DemoPage>();
  const all = () => [...pages.values()];
  const count = (which: (page: DemoPage) => boolean) => all().filter(which).length;

  return {
    pages,
    add(given) {
      const page: DemoPage = {
        ...given,
        ...{ sentAt: null, sendings: 0, reached: new Map(), told: new Map(), ids: new Set() },
        ...{ shownAt: null, misdelivered: false },
      };
      pages.set(page.trackingId, page);
      return page;
    },
    heard(trackingId, connection, status) {
      const page = pages.get(trackingId);
      if (page === undefined) return;
      if (!page.reached.has(status)) page.reached.set(status, performance.now());
      page.told.set(connection, [...(page.told.get(connection) ?? []), status]);
    },
    shown(trackingId, uniqueId, phone) {
      const page = pages.get(trackingId);
      if (page === undefined) return;
      page.shownAt ??= performance.now();
      page.ids.add(uniqueId);
      if (phone !== page.phone) page.misdelivered = true;
    },
    finished: () => all().every(isFinished),
    figures: () => ({
      sent: count((page) => page.sentAt !== null),
      accepted: count((page) => page.reached.has("ACCEPTED")),
      delivered: count((page) => page.shownAt !== null),
      read: count((page) => page.reached.has("READ")),
      failed: count((page) => page.reached.has("FAILED")),
      lost: count((page) => page.sentAt !== null && !isFinished(page)),
      doubled: count(isDoubled),
    }),
    stages: () =>
      PRIORITIES.flatMap((priority) =>
        STAGES.map((status) => {
          const times = all()
            .flatMap((page) => {
              const at = page.priority === priority ? page.reached.get(status) : undefined;
              return at === undefined || page.sentAt === null ? [] : [at - page.sentAt];
            })
            .sort((one, other) => one - other);
          const at = (share: number) => {
            const ms = times[Math.max(0, Math.ceil(times.length * share) - 1)];
            return ms === undefined ? null : Math.round(ms * 10) / 10;
          };
          return { priority, status, pages: times.length, p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1) };
        }),
      ),
  };
}

export function isFinished(page: DemoPage): boolean {
  return page.shownAt !== null && page.reached.has("READ");
}

function isDoubled(page: DemoPage): boolean {
  // A page brought again is answered by what was told before.
  if (page.ids.size > 1 || page.misdelivered) return true;
  return [...page.told.values()].some((told) => {
    // Said beside the rungs, at any time.
    const rungs = told.filter((status) => status !== "FAILED");
    return !rises(rungs, page.sendings - 1);
  });
}
