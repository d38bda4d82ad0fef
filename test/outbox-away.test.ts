/** Host systems that do not come back: somebody can see that their statuses wait, and they do not wait for ever. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Membership } from "../cluster/membership.ts";
import { openRetention } from "../cluster/retention.ts";
import { type HostSystemId, systemClock } from "../domain.ts";
import { storedGauges } from "../gateways/gauges.ts";
import { type LogFields, silentLog } from "../log.ts";
import type { GaugeReading } from "../meter.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { claimNews, closeLinks } from "../persistence/outbox.ts";
import { forgetNewsOfHostsAway } from "../persistence/retention.ts";
import { openPages } from "./helpers/pages.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const DAYS = 90;
const ward = await openWard();
const { database, sql } = ward;
const { accept, link } = openPages(ward);
await ward.device(await ward.subscriber("5550101"));
test.after(() => ward.close());
test.after.each(async () => {
  await sql`truncate premise_core.messages, premise_core.message_history, premise_core.host_outbox, premise_core.host_links`;
});

let hosts = 0;
async function host(): Promise<{ id: HostSystemId; name: string }> {
  hosts += 1;
  const name = `host-${hosts}`;
  return { name, id: await ward.host(name) };
}

async function away(): Promise<readonly (readonly [string | undefined, number])[]> {
  const readings: GaugeReading[] = [];
  for (const source of storedGauges(database, database)) readings.push(...(await source()));
  return readings.flatMap((one) =>
    one.name === "outbox_away_oldest_seconds" ? [[one.labels?.host, Math.round(one.value / 60)] as const] : [],
  );
}

test("a gauge says of each host system without a connection for how long the oldest of its statuses has waited", async () => {
  const [gone, back, never] = [await host(), await host(), await host()];
  const links = [await link(gone.id), await link(back.id)];
  await accept(...[gone, back, never].map(({ id }, n) => pageFor(ward, id, "5550101", { linkId: links[n] ?? null })));
  await sql`update premise_core.host_outbox set at = now() - interval '20 minutes' where host_system_id = ${gone.id}`;
  await sql`update premise_core.host_outbox set at = now() - interval '5 minutes' where host_system_id = ${back.id}`;
  assert.equal(await away(), [[never.name, 0]], "while they are linked they are told");
  await closeLinks(database, links);
  assert.equal(await away(), [
    [never.name, 0],
    [back.name, 5],
    [gone.name, 20],
  ]);
  await link(back.id);
  await sql`delete from premise_core.host_outbox where host_system_id = ${never.id}`;
  assert.equal(await away(), [[gone.name, 20]]);
  await sql`update premise_core.host_systems set synthetic = true where id = ${gone.id}`;
  assert.equal(await away(), [], "nobody waits for a test page's host system");
});

/** Days: since the page expired, since the statuses came about, since the last link ended (0: it is open; null: never one). */
type Waits = { readonly expired: number; readonly due: boolean; readonly old: number; readonly linked: number | null };
const OVER: Waits = { expired: DAYS + 1, due: false, old: DAYS + 4, linked: null };

async function waits(pages: readonly Waits[]) {
  return await Promise.all(
    pages.map(async ({ expired, due, old, linked }) => {
      const { id, name } = await host();
      const page = pageFor(ward, id, "5550101", { linkId: linked === null ? null : await link(id) });
      await accept(page);
      await sql`update premise_core.messages set expires_at = now() - make_interval(days => ${expired}::integer),
        open = false, due_at = case when ${due} then now() end where unique_id = ${page.uniqueId}`;
      await sql`update premise_core.host_outbox set at = now() - make_interval(days => ${old}::integer) where unique_id = ${page.uniqueId}`;
      await sql`update premise_core.host_links set closed_at = now() - make_interval(days => ${linked}::integer)
        where host_system_id = ${id} and ${linked ?? 0}::integer > 0`;
      return { id, name };
    }),
  );
}

const left = async (id: HostSystemId) =>
  (await sql`select from premise_core.host_outbox where host_system_id = ${id}`).length;

test("statuses go when page, status and the host system's last link are all past retention, and never before", async () => {
  const days = fc.constantFrom(1, DAYS - 1, DAYS + 1, 2_000);
  const anyWaits = fc.record<Waits>({
    expired: fc.oneof(fc.constant(-3), days),
    due: fc.boolean(),
    old: days,
    linked: fc.oneof(fc.constant(0), fc.constant(null), days),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(anyWaits, { minLength: 1, maxLength: 20 }), async (pages) => {
      const made = await waits(pages);
      const gone = new Map((await forgetNewsOfHostsAway(database, DAYS)).map((one) => [one.hostSystemId, one]));
      for (const [n, { expired, due, old, linked }] of pages.entries()) {
        const { id, name } = made[n]!;
        const over = expired > DAYS && !due && old > DAYS && (linked === null || linked > DAYS);
        const said = JSON.stringify(pages[n]);
        assert.is(await left(id), over ? 0 : 2, said);
        assert.equal(gone.get(id), over ? { hostSystemId: id, name, rows: 2 } : undefined, said);
      }
    }),
    { numRuns: 15 },
  );
});

test("a host system that comes back in time takes all that waited, and what a link has in hand is left to it", async () => {
  const [back] = await waits([{ ...OVER, linked: DAYS + 1 }]);
  const lane = await link(back!.id);
  assert.equal(await forgetNewsOfHostsAway(database, DAYS), []);
  assert.is((await claimNews(database, lane, back!.id, 100)).moved, 2);

  const [held] = await waits([OVER]);
  const [locked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const holding = sql.begin(async (transaction) => {
    await transaction`update premise_core.host_outbox set status = status where host_system_id = ${held!.id} and status = 'QUEUED'`;
    locked.resolve();
    await released.promise;
  });
  await locked.promise;
  const [gone] = await forgetNewsOfHostsAway(database, DAYS).finally(released.resolve);
  await holding;
  assert.is(gone?.rows, 1, "without a wait");
});

test("what a host system that was removed had yet to be told goes too", async () => {
  const [removed] = await waits([OVER]);
  await sql`delete from premise_core.host_systems where id = ${removed!.id}`;
  assert.equal(await forgetNewsOfHostsAway(database, DAYS), [{ hostSystemId: removed!.id, name: null, rows: 2 }]);
});

test("retention ends them in bounded batches, says so once for each host system, and then their pages go", async () => {
  const { id, name } = await host();
  const [other] = await waits([{ ...OVER, linked: 1 }]);
  for (let at = 0; at < 600; at += 200) {
    await acceptPages(
      database,
      "node-a",
      Array.from({ length: 200 }, () => pageFor(ward, id, "5550101")),
    );
  }
  await sql`update premise_core.messages set expires_at = now() - interval '91 days', open = false, due_at = null where host_system_id = ${id}`;
  await sql`update premise_core.host_outbox set at = now() - interval '94 days' where host_system_id = ${id}`;
  const said: LogFields[] = [];
  let drives = false;
  const retention = openRetention(
    { days: DAYS },
    {
      premise: database,
      core: database,
      membership: { drives: () => drives } as unknown as Membership,
      log: { ...silentLog, warn: (fields) => void said.push(fields) },
      clock: systemClock,
    },
  );
  try {
    await retention.run();
    assert.is(await left(id), 1_200, "who does not drive shard 0 does nothing");
    drives = true;
    await retention.run();
    assert.is(await left(id), 200, "a batch at a time");
    for (let rounds = 0; rounds < 5; rounds += 1) await retention.run();
  } finally {
    await retention.close();
  }
  assert.is(await left(id), 0);
  assert.equal(said, [{ host: name, hostSystemId: id, statuses: 1_200 }]);
  assert.is((await sql`select from premise_core.messages where host_system_id = ${id}`).length, 0);
  assert.is(await left(other!.id), 2);
});

test.run();
