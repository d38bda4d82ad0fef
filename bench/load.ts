/**
 * The load of a scenario, a program of its own: host systems that send pages and hear statuses, phones that are woken by
 * their pushes and visit, or that listen. Everything that can be made before is; then it says that it began. Each order ends
 * with what was seen, or, at its deadline or at the first page told FAILED, with an error that says how far it came.
 */
import { openBook } from "./load/book.ts";
import { benchPage, documentOf } from "./load/document.ts";
import { type OpenGround, openGround } from "./load/ground.ts";
import type { Orders, Seen } from "./load/orders.ts";
import { benchPhone, DIGITS, numbered } from "./load/phones.ts";
import { openSender } from "./load/sender.ts";
import { asProgram } from "./stage/child.ts";

/** Pages beside the others come after them by number; so many at most. */
const BESIDE_MAX = 100_000;

let ground: OpenGround | null = null;

async function load(orders: Orders, began: () => void): Promise<Seen> {
  ground ??= await openGround(orders.ground);
  const { links, counts } = ground;
  const { pages, prefix, senders, inARow, highEvery, beside, until } = orders;
  const { phones } = orders.ground;
  const { promise: over, resolve: finish, reject: fail } = Promise.withResolvers<void>();
  over.catch(() => {});

  const phoneOf = (page: number) => Math.floor(page / inARow) % phones;
  const isHigh = (page: number) => highEvery > 0 && page % highEvery === highEvery - 1;
  const hostOf = (page: number) => senders[phoneOf(page) % senders.length]!;
  const document = (page: number, origin: string, phone: number, high: boolean) =>
    documentOf(
      benchPage({
        origin,
        trackingId: numbered(prefix, page),
        destination: benchPhone(phone).destination,
        priority: high ? "high" : "medium",
      }),
    );
  const documents = Array.from({ length: pages }, (_, page) =>
    document(page, hostOf(page), phoneOf(page), isHigh(page)),
  );

  const book = openBook(pages);
  const besideBook = openBook(beside === null ? 0 : BESIDE_MAX);
  let ended = 0;
  let besideSent = 0;
  let besideEnded = 0;
  function heard(page: number, status: string): void {
    const mine = page < pages;
    const fresh = mine ? book.heard(page, status) : besideBook.heard(page - pages, status);
    if (!fresh || status !== until) return;
    if (mine) {
      ended += 1;
      sender.ended();
      if (ended === pages) besideSender?.stop();
    } else besideEnded += 1;
    if (ended === pages && besideEnded === besideSent) finish();
  }
  function told(trackingId: string, what: (page: number) => unknown): void {
    if (!trackingId.startsWith(prefix)) return; // of an earlier order
    try {
      what(Number(trackingId.slice(-DIGITS)));
    } catch (error) {
      fail(error);
    }
  }
  ground.listens({
    failed: fail,
    heard: (trackingId, status) => told(trackingId, (page) => heard(page, status)),
    shown: (trackingId) => told(trackingId, (page) => page < pages && book.shown(page)),
  });

  const sender = openSender(orders, (from, to, dueAt) => {
    const outgoing = new Map(senders.map((host) => [host, [] as Buffer[]]));
    for (let page = from; page < to; page++) {
      book.sent(page, dueAt(page));
      outgoing.get(hostOf(page))!.push(documents[page]!);
    }
    for (const [host, batch] of outgoing) if (batch.length > 0) links.get(host)!.send(batch);
  });
  const besideSender =
    beside === null
      ? null
      : openSender({ pages: BESIDE_MAX, pace: beside }, (from, to, dueAt) => {
          besideSent = to;
          for (let page = from; page < to; page++) {
            besideBook.sent(page, dueAt(page));
            links.get(beside.host)!.send([document(pages + page, beside.host, page % phones, true)]);
          }
        });

  function farewell(): string {
    const missing = book.without(until);
    const first = missing.first.map((page) => numbered(prefix, page)).join(", ");
    const told = Object.entries(book.told()).map(([status, count]) => `${count} ${status}`);
    const { pushes, visits } = counts();
    const count = missing.count + besideSent - besideEnded;
    return (
      `after ${orders.deadlineMs} ms ${count} pages are not ${until}, the first ${first}; ` +
      `of ${pages} were told ${told.join(", ")}; ${pushes} pushes, ${visits} visits`
    );
  }
  const timer = setTimeout(() => fail(new Error(farewell())), orders.deadlineMs);
  try {
    counts();
    began();
    const cpuBefore = process.cpuUsage();
    const startedAt = performance.now();
    sender.start();
    besideSender?.start();
    await over;
    const seconds = (performance.now() - startedAt) / 1_000;
    const cpu = process.cpuUsage(cpuBefore);
    return {
      seconds,
      pages: pages + besideSent,
      told: sumOf(book.told(), besideBook.told()),
      twice: book.twice() + besideBook.twice(),
      lost: pages - ended + besideSent - besideEnded,
      acceptMs: book.times("ACCEPTED", (page) => !isHigh(page)),
      shownMs: book.times("SHOWN"),
      deliveredMs: book.times("DELIVERED"),
      highMs: book.times("ACCEPTED", isHigh),
      besideMs: besideBook.times("ACCEPTED"),
      lateMs: sender.lateMs() ?? besideSender?.lateMs() ?? null,
      ...counts(),
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
    };
  } finally {
    clearTimeout(timer);
    sender.stop();
    besideSender?.stop();
  }
}

function sumOf(one: Seen["told"], other: Seen["told"]): Seen["told"] {
  return Object.fromEntries(Object.entries(one).map(([status, count]) => [status, count + (other[status] ?? 0)]));
}

asProgram(load);
