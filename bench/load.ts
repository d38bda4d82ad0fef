/**
 * The load of one measurement, a program of its own: host systems that send pages and hear statuses, phones that are woken by
 * their pushes and visit. Everything that can be made before is; then it says that it began. Ends with what it saw, or, at
 * the deadline or at the first page told FAILED, with an error that says how far it came.
 */
import { openBook } from "./load/book.ts";
import { benchPage, documentOf } from "./load/document.ts";
import { type HostLink, openHostLink } from "./load/host-link.ts";
import type { Orders, Seen } from "./load/orders.ts";
import { benchPhone, numbered } from "./load/phones.ts";
import { openSender } from "./load/sender.ts";
import { openWakeUps } from "./load/wake-ups.ts";
import { openWard } from "./load/ward.ts";
import { asProgram } from "./stage/child.ts";

/** Pages beside the others come after them by number; so many at most. */
const BESIDE_MAX = 100_000;

async function load(orders: Orders, began: () => void): Promise<Seen> {
  const { pages, prefix, hosts, inARow, highEvery, beside, until } = orders;
  let finish = (): void => {};
  let fail = (_error: Error): void => {};
  const over = new Promise<void>((resolve, reject) => {
    finish = resolve;
    fail = reject;
  });
  over.catch(() => {});

  const book = openBook(pages);
  const besideBook = openBook(beside === null ? 0 : BESIDE_MAX);
  let ended = 0;
  let besideSent = 0;
  let besideEnded = 0;
  const whole = () => ended === pages && besideEnded === besideSent;
  function heard(page: number, status: string): void {
    const mine = page < pages;
    const fresh = mine ? book.heard(page, status) : besideBook.heard(page - pages, status);
    if (!fresh || status !== until) return;
    if (mine) {
      ended += 1;
      sender.ended();
      if (ended === pages) besideSender?.stop();
    } else besideEnded += 1;
    if (whole()) finish();
  }
  const ports = {
    failed: fail,
    heard(page: number, status: string) {
      try {
        heard(page, status);
      } catch (error) {
        fail(error as Error);
      }
    },
  };

  const phoneOf = (page: number) => Math.floor(page / inARow) % orders.phones;
  const isHigh = (page: number) => highEvery > 0 && page % highEvery === highEvery - 1;
  const linkOf = (page: number) => phoneOf(page) % hosts.length;
  const documents = Array.from({ length: pages }, (_, page) =>
    documentOf(
      benchPage({
        origin: hosts[linkOf(page)]!,
        trackingId: numbered(prefix, page),
        destination: benchPhone(phoneOf(page)).destination,
        priority: isHigh(page) ? "high" : "medium",
      }),
    ),
  );
  const ward = orders.wakeUps === null ? null : await openWard(orders, fail);
  const wakeUps =
    orders.wakeUps === null
      ? null
      : await openWakeUps(orders.wakeUps, { failed: fail, woken: (phone) => woken(phone) });
  let pushes = 0;
  const woken = (phone: number) => {
    pushes += 1;
    ward?.woken(phone);
  };
  const links = await Promise.all(hosts.map(() => openHostLink(orders.mxppPort, prefix, ports)));
  const besideLink = beside === null ? null : await openHostLink(orders.mxppPort, prefix, ports);

  const sender = openSender(orders, (from, to, dueAt) => {
    const outgoing = links.map((): Buffer[] => []);
    for (let page = from; page < to; page++) {
      book.sent(page, dueAt(page));
      outgoing[linkOf(page)]!.push(documents[page]!);
    }
    for (const [link, batch] of outgoing.entries()) if (batch.length > 0) links[link]!.send(batch);
  });
  const besideSender =
    beside === null
      ? null
      : openSender({ pages: BESIDE_MAX, pace: { perSecond: beside.perSecond } }, (from, to, dueAt) => {
          besideSent = to;
          besideLink?.send(
            Array.from({ length: to - from }, (_, n) => {
              besideBook.sent(from + n, dueAt(from + n));
              return besideDocument(from + n);
            }),
          );
        });
  const besideDocument = (page: number) =>
    documentOf(
      benchPage({
        origin: beside!.host,
        trackingId: numbered(prefix, pages + page),
        destination: benchPhone(page % orders.phones).destination,
        priority: "high",
      }),
    );

  const timer = setTimeout(() => {
    const missing = book.without(until);
    const told = Object.entries(book.told()).map(([status, count]) => `${count} ${status}`);
    fail(
      new Error(
        `after ${orders.deadlineMs} ms ${missing.count + besideSent - besideEnded} pages are not ${until}, the first ${missing.first
          .map((page) => numbered(prefix, page))
          .join(
            ", ",
          )}; of ${pages} were told ${told.join(", ")}; ${pushes} pushes, ${ward?.counts().visits ?? 0} visits`,
      ),
    );
  }, orders.deadlineMs);
  const close = () => {
    clearTimeout(timer);
    sender.stop();
    besideSender?.stop();
    for (const link of [...links, ...(besideLink === null ? [] : [besideLink])] as HostLink[]) link.close();
    wakeUps?.close();
    ward?.close();
  };

  try {
    began();
    const cpuBefore = process.cpuUsage();
    const startedAt = performance.now();
    sender.start();
    besideSender?.start();
    await over;
    const seconds = (performance.now() - startedAt) / 1_000;
    const cpu = process.cpuUsage(cpuBefore);
    const { visits, emptyVisits, requests, received } = ward?.counts() ?? {
      visits: 0,
      emptyVisits: 0,
      requests: 0,
      received: 0,
    };
    return {
      seconds,
      pages: pages + besideSent,
      told: sumOf(book.told(), besideBook.told()),
      twice: book.twice() + besideBook.twice(),
      lost: pages - ended + besideSent - besideEnded,
      acceptMs: book.times("ACCEPTED", (page) => !isHigh(page)),
      deliveredMs: book.times("DELIVERED"),
      highMs: book.times("ACCEPTED", isHigh),
      besideMs: besideBook.times("ACCEPTED"),
      lateMs: sender.lateMs() ?? besideSender?.lateMs() ?? null,
      pushes,
      visits,
      emptyVisits,
      requests,
      received,
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
    };
  } finally {
    close();
  }
}

function sumOf(one: Seen["told"], other: Seen["told"]): Seen["told"] {
  return Object.fromEntries(Object.entries(one).map(([status, count]) => [status, count + (other[status] ?? 0)]));
}

asProgram(load);
