import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { hostActor, KEPT_MS, type Message, PAGE_ROWS } from "../actors/host.ts";
import type { BootId, DeviceId, HostSystemId, LinkId, Receipt, Transport, UniqueId } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import type { Database, Sql } from "../persistence/database.ts";
import { changeMessages } from "../persistence/messages.ts";
import { claimNews, closeLinks, forgetNews, type News, newsOfLinks, openLink } from "../persistence/outbox.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { lookAt } from "./helpers/lane.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
const boot = randomUUID() as BootId;
test.after(() => ward.close());

type Told = { readonly uniqueId: UniqueId; readonly status: News["status"] };
type Link = {
  readonly id: LinkId;
  /** What was written to the connection, in order. */
  readonly told: Told[];
  /** Ends the connection; what it was not known to have is for the next. */
  close(): Promise<void>;
};

/** A link as the MXPP gateway drives one, only faster: it looks without pause, and half a minute passes in 30 ms. */
async function startLink(host: HostSystemId, more: { forgets?: boolean } = {}): Promise<Link> {
  const id = randomUUID() as LinkId;
  await openLink(database, id, host, boot);
  const told: Told[] = [];
  let open = true;
  const mailbox: Message[] = [];
  let written = 0;
  const now = () => performance.now() * (KEPT_MS / 30);
  const { turn, cursor } = hostActor({
    link: id,
    hostSystemId: host,
    now,
    era: () => 0,
    claim: async (link, of) => (await claimNews(database, link, of, 500)).moved < 500,
    look: ({ link, ...from }) => lookAt(database, link, from, PAGE_ROWS),
    forget: (link, rows) => forgetNews(database, link, rows),
    write(news) {
      if (open) for (const { uniqueId, status } of news) told.push({ uniqueId, status });
      written += news.length;
      return { end: written, more: Math.random() < 0.9 };
    },
    later: (message) => mailbox.push(message),
  });
  const running = (async () => {
    while (open) {
      mailbox.push({ kind: "tick", acknowledged: more.forgets === false ? 0 : written, writable: true, now: now() });
      const [waiting] = await newsOfLinks(database, [{ link: id, hostSystemId: host, cursor: cursor() }]);
      if (waiting!.news || waiting!.unclaimed) mailbox.push({ kind: "news", unclaimed: waiting!.unclaimed });
      for (let message = mailbox.shift(); message !== undefined && open; message = mailbox.shift()) await turn(message);
      await sleep(1);
    }
  })();
  return {
    id,
    told,
    async close() {
      open = false;
      await closeLinks(database, [id]);
      await running;
    },
  };
}

/** One page on its whole way up, each step by another connection of the pool, some steps twice, some skipped. */
async function climb(uniqueId: UniqueId, deviceId: DeviceId, chance: () => number): Promise<void> {
  const pause = () => sleep(chance() * 8);
  await pause();
  if (chance() < 0.8) {
    const enroute = {
      event: "ENROUTE",
      transport: "ENROUTE" as Transport,
      tell: "ENROUTE",
      detail: null,
      outcome: null,
      wakes: false,
      due: 30_000,
    } as const;
    await changeMessages(database, "node-a", [{ uniqueId, version: 2, ...enroute }]);
  }
  for (const receipt of ["DELIVERED", "READ", "DELIVERED", "ACKNOWLEDGED", "IGNORED"] as Receipt[]) {
    if (chance() < 0.3) continue;
    await pause();
    await Promise.all(
      Array.from({ length: chance() < 0.2 ? 2 : 1 }, () =>
        recordReceipts(database, "node-a", [{ uniqueId, deviceId, receipt }]),
      ),
    );
  }
}

type Load = { readonly ids: UniqueId[]; readonly done: Promise<unknown> };

let numbers = 0;
async function load(host: HostSystemId, link: () => LinkId | null, count: number): Promise<Load> {
  numbers += 1;
  const destination = `555${numbers}`;
  const deviceId = await ward.device(await ward.subscriber(destination));
  const ids: UniqueId[] = [];
  const done = (async () => {
    const climbing: Promise<void>[] = [];
    while (ids.length < count) {
      const pages = Array.from({ length: 10 }, () => pageFor(ward, host, destination, { linkId: link() }));
      await acceptPages(database, "node-a", pages);
      for (const { uniqueId } of pages) {
        ids.push(uniqueId);
        climbing.push(climb(uniqueId, deviceId, Math.random));
      }
      await sleep(5);
    }
    await Promise.all(climbing);
  })();
  return { ids, done };
}

const LADDER = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ", "ACKNOWLEDGED", "IGNORED"];

/** What the host must hear of each page, in order: what its history says. */
async function expected(ids: readonly UniqueId[]): Promise<Map<UniqueId, string[]>> {
  const rows = await sql<{ id: UniqueId; events: string[] }[]>`
    select unique_id as id, array_agg(event order by seq) as events from premise_core.message_history
    where unique_id = any (${[...ids]}::uuid[]) and event = any (${LADDER}::text[]) group by unique_id`;
  return new Map(rows.map((row) => [row.id, row.events]));
}

function heard(told: readonly Told[]): Map<UniqueId, string[]> {
  const pages = new Map<UniqueId, string[]>();
  for (const { uniqueId, status } of told) pages.set(uniqueId, [...(pages.get(uniqueId) ?? []), status]);
  return pages;
}

/** The statuses one link told of each page are some of the page's own, in their order, none twice. */
function inOrder(link: Link, all: ReadonlyMap<UniqueId, string[]>): void {
  for (const [id, statuses] of heard(link.told)) {
    const places = statuses.map((status) => all.get(id)!.indexOf(status));
    assert.equal(
      places,
      [...new Set(places)].sort((a, b) => a - b),
      `${statuses} of ${all.get(id)}`,
    );
    assert.not(places.includes(-1));
  }
}

async function drained(host: HostSystemId): Promise<void> {
  const until = performance.now() + 30_000;
  for (;;) {
    const [row] =
      await sql`select count(*)::integer as rows from premise_core.host_outbox where host_system_id = ${host}`;
    if (row!.rows === 0) return;
    assert.ok(performance.now() < until, `${row!.rows} rows are left`);
    await sleep(20);
  }
}

test("while many connections advance many pages, the link that brought them tells each page's statuses in order, once, and all", async () => {
  const host = await ward.host("steady");
  const link = await startLink(host);
  const { ids, done } = await load(host, () => link.id, 400);
  await done;
  await drained(host);
  await link.close();
  const all = await expected(ids);
  inOrder(link, all);
  assert.equal(new Map([...heard(link.told)].sort()), new Map([...all].sort()));
});

test("links that end in the middle, one after another: nothing is missing, and each link keeps every page's order", async () => {
  const host = await ward.host("breaking");
  const links = [await startLink(host)];
  const { ids, done } = await load(host, () => links.at(-1)!.id, 500);
  let climbing = true;
  void done.then(() => {
    climbing = false;
  });
  while (climbing || links.length <= 3) {
    await sleep(60);
    // Sometimes there are two at once, sometimes for a moment none.
    const opensFirst = links.length % 2 === 0;
    const last = links.at(-1)!;
    const next = opensFirst ? await startLink(host) : null;
    await last.close();
    links.push(next ?? (await startLink(host)));
  }
  await done;
  await drained(host);
  await links.at(-1)!.close();
  const all = await expected(ids);
  for (const link of links) inOrder(link, all);
  const together = new Map<UniqueId, Set<string>>();
  for (const { uniqueId, status } of links.flatMap((link) => link.told)) {
    together.set(uniqueId, (together.get(uniqueId) ?? new Set()).add(status));
  }
  for (const [id, statuses] of all) assert.equal([...(together.get(id) ?? [])].sort(), [...statuses].sort());
});

test("what a link was not known to have is told again by the next, in order; what it had is not", async () => {
  const host = await ward.host("unacknowledged");
  const first = await startLink(host);
  const acknowledged = await load(host, () => first.id, 30);
  await acknowledged.done;
  await drained(host);
  await first.close();
  const second = await startLink(host, { forgets: false });
  const pending = await load(host, () => second.id, 30);
  await pending.done;
  const all = await expected(pending.ids);
  const count = [...all.values()].flat().length;
  while (second.told.length < count) await sleep(10);
  await second.close();
  const third = await startLink(host);
  await drained(host);
  await third.close();
  assert.equal(new Map([...heard(third.told)].sort()), new Map([...all].sort()));
});

test("pages of a host that is away are told in order by the links it opens later, two of them at once", async () => {
  const host = await ward.host("away");
  const { ids, done } = await load(host, () => null, 150);
  await done;
  const links = [await startLink(host), await startLink(host)];
  await drained(host);
  for (const link of links) await link.close();
  const all = await expected(ids);
  for (const link of links) inOrder(link, all);
  assert.equal(new Map([...heard(links[0]!.told)].sort()), new Map([...all].sort()), "all by the oldest");
  assert.equal(links[1]!.told, []);
});

/** The same database by way of one open transaction. */
function inside(transaction: Sql): Database {
  return { ...database, run: async (build) => [...(await build(transaction))] };
}

test("a link that ends while its claim is still under way does not let the next one tell a later status first", async () => {
  const host = await ward.host("race");
  numbers += 1;
  const deviceId = await ward.device(await ward.subscriber(`555${numbers}`));
  const [dying, next] = [randomUUID() as LinkId, randomUUID() as LinkId];
  await openLink(database, dying, host, boot);
  await openLink(database, next, host, boot);
  const [page, other] = [pageFor(ward, host, `555${numbers}`), pageFor(ward, host, `555${numbers}`)];
  await acceptPages(database, "node-a", [page]);
  const seen: Told[] = [];
  const look = async () => {
    await claimNews(database, next, host, 100);
    const { news } = await lookAt(database, next);
    for (const one of news) {
      seen.push({ uniqueId: one.uniqueId, status: one.status });
      await forgetNews(database, next, [one]);
    }
  };
  await sql.begin(async (transaction) => {
    await claimNews(inside(transaction as unknown as Sql), dying, host, 100);
    await closeLinks(database, [dying]);
    await recordReceipts(database, "node-a", [{ uniqueId: page.uniqueId, deviceId, receipt: "DELIVERED" }]);
    await acceptPages(database, "node-a", [other]);
    await look();
  });
  const during = heard(seen);
  await look();
  assert.equal(heard(seen).get(page.uniqueId), ["ACCEPTED", "QUEUED", "DELIVERED"]);
  assert.equal(during.get(page.uniqueId), undefined, "its first statuses were out of reach");
  assert.equal(during.get(other.uniqueId), ["ACCEPTED", "QUEUED"], "other pages do not wait for that");
});

test.run();
