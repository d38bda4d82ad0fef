/** What became of each page of a load, and when: typed arrays, so that keeping it costs next to nothing. */
import type { Spread } from "./orders.ts";
import { spreadOf } from "./spread.ts";

const STATUSES = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ", "FAILED"] as const;

export type Book = {
  /** `at` in ms of performance.now(): when it was sent, or was to be. */
  sent(page: number, at: number): void;
  /** Whether this was the page's first time to hear so. @throws Error at FAILED, at a page never sent, at a strange status */
  heard(page: number, status: string): boolean;
  /** Its frame is at a phone that listens. @throws Error at a page never sent */
  shown(page: number): void;
  told(): Readonly<Record<string, number>>;
  twice(): number;
  times(what: "ACCEPTED" | "SHOWN" | "DELIVERED", pages?: (page: number) => boolean): Spread;
  /** Pages that were sent, or were to be, and have not heard this, the first few of them by number. */
  without(status: "ACCEPTED" | "DELIVERED"): { readonly count: number; readonly first: readonly number[] };
};

export function openBook(pages: number): Book {
  const sentAt = new Float64Array(pages).fill(Number.NaN);
  const heardBits = new Uint8Array(pages);
  const acceptedMs = new Float64Array(pages).fill(Number.NaN);
  const shownMs = new Float64Array(pages).fill(Number.NaN);
  const deliveredMs = new Float64Array(pages).fill(Number.NaN);
  const told = new Array<number>(STATUSES.length).fill(0);
  let twice = 0;
  const bitOf = (status: string) => 1 << STATUSES.indexOf(status as (typeof STATUSES)[number]);

  return {
    sent(page, at) {
      sentAt[page] = at;
    },
    heard(page, status) {
      const place = STATUSES.indexOf(status as (typeof STATUSES)[number]);
      if (place < 0) throw new Error("the server told a status nobody knows");
      if (status === "FAILED") throw new Error(`page ${page} was told FAILED`);
      if (!(page < pages) || Number.isNaN(sentAt[page])) throw new Error("the server told of a page that was not sent");
      if ((heardBits[page]! & (1 << place)) !== 0) {
        twice += 1;
        return false;
      }
      heardBits[page]! |= 1 << place;
      told[place]! += 1;
      if (status === "ACCEPTED") acceptedMs[page] = performance.now() - sentAt[page]!;
      if (status === "DELIVERED") deliveredMs[page] = performance.now() - sentAt[page]!;
      return true;
    },
    shown(page) {
      if (!(page < pages) || Number.isNaN(sentAt[page])) throw new Error("a phone was shown a page that was not sent");
      if (Number.isNaN(shownMs[page])) shownMs[page] = performance.now() - sentAt[page]!;
    },
    told: () => Object.fromEntries(STATUSES.map((status, place) => [status, told[place]!])),
    twice: () => twice,
    times(what, which = () => true) {
      const times = { ACCEPTED: acceptedMs, SHOWN: shownMs, DELIVERED: deliveredMs };
      return spreadOf(times[what].filter((_, page) => which(page)));
    },
    without(status) {
      const missing = Array.from(heardBits.keys()).filter((page) => (heardBits[page]! & bitOf(status)) === 0);
      return { count: missing.length, first: missing.slice(0, 5) };
    },
  };
}
