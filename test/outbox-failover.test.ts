// limit: 120 s, waits
/**
 * A server takes over that had not heard of the last transactions: it gives out their numbers, and those of the outbox's rows,
 * again. What a link has told of the old ones must keep nothing of the new ones from its host.
 */
import { randomUUID } from "node:crypto";
import { Socket } from "node:net";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KEPT_MS } from "../actors/host.ts";
import { startActorSystem } from "../cluster/actor-system.ts";
import { openBus } from "../cluster/bus.ts";
import { type BootId, type HostSystemId, type SiteId, systemClock, type UniqueId } from "../domain.ts";
import { makeLink } from "../gateways/mxpp/link.ts";
import { openLinks } from "../gateways/mxpp/links.ts";
import { silentLog } from "../log.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { openDatabase } from "../persistence/database.ts";
import { migrate } from "../persistence/migrate.ts";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openProxy, through } from "./helpers/proxy.ts";
import { rest } from "./helpers/together.ts";
import { pageFor, type Ward } from "./helpers/ward.ts";

const BURNT = 500;
const [primary, standby] = await Promise.all([startPostgres(), startPostgres()]);
const siteId = randomUUID() as SiteId;
const lab = randomUUID() as HostSystemId;
const [subscriber, device] = [randomUUID(), randomUUID()];

/** What both have, before the one falls behind. */
async function prepare(url: string): Promise<postgres.Sql> {
  await migrate(url, "premise_core", { log: silentLog });
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql`insert into premise_core.host_systems (id, tenant_id, site_id, name, allowed_addresses)
    values (${lab}, 'default', ${siteId}, 'lab', ${["127.0.0.1"]})`;
  await sql`insert into premise_core.subscribers (id, tenant_id, site_id, name, destination, registration_code_hash)
    values (${subscriber}, 'default', ${siteId}, 'Dr Test', '1', ${Buffer.alloc(32)})`;
  await sql`insert into premise_core.subscriber_addresses (site_id, address, subscriber_id, kind)
    values (${siteId}, '1', ${subscriber}, 'destination')`;
  await sql`insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
      notification_address, confirms, token_hash)
    values (${device}, 'default', ${siteId}, ${subscriber}, 'ANDROID', '15', '1', 'GCM', 'address', true, ${Buffer.alloc(32)})`;
  return sql;
}
const [ahead, behind] = await Promise.all([prepare(primary.url), prepare(standby.url)]);
for (let n = 0; n < BURNT; n += 1) await ahead`select pg_current_xact_id()`;

// One address, behind which the one that lagged stands later.
const { hostname: host, password } = new URL(primary.url);
await behind.unsafe(`alter user current_user password '${password}'`);
const target = { host, port: primary.port };
const proxy = await openProxy(target);
const database = openDatabase(
  { name: "premise_core", urls: [through(proxy, primary.url)], node: "test", connectionsMax: 4 },
  { log: silentLog },
);
await database.untilUp(5_000);
const system = startActorSystem("failover");
const links = openLinks({ database, log: silentLog, clock: systemClock });
const told: { readonly uniqueId: UniqueId; readonly status: string }[] = [];
const statuses = (id: UniqueId) => told.filter(({ uniqueId }) => uniqueId === id).map(({ status }) => status);
const link = await makeLink(
  lab,
  new Socket(),
  (news) => {
    told.push(...news.map(({ uniqueId, status }) => ({ uniqueId, status })));
    return { end: told.length, more: true };
  },
  {
    ...{ database, system, parent: system.root, bus: openBus(null, { log: silentLog }), boot: randomUUID() as BootId },
    ...{ log: silentLog, clock: systemClock, links },
  },
);
test.after(async () => {
  await links.close();
  await database.close();
  system.close();
  await proxy.close();
  await behind.end({ timeout: 1 });
  await ahead.end({ timeout: 1 }).catch(() => {});
  await Promise.all([primary.close(), standby.close()]);
});

const page = () => pageFor({ siteId } as Ward, lab, "1", { linkId: link.id });

test("after a failover to a server that lagged, what it numbers as rows told before is told all the same, and kept until it is", async () => {
  await behind`insert into premise_core.host_links (id, host_system_id, node_boot) values (${link.id}, ${lab}, ${randomUUID()})`;
  const before = page();
  await acceptPages(database, "node", [before]);
  await eventually("the old server's page is told", () => statuses(before.uniqueId).length === 2);
  const [{ ids: old } = { ids: "" }] = await ahead<
    { ids: string }[]
  >`select string_agg(id::text, ' ') as ids from premise_core.host_outbox`;

  await primary.kill();
  await eventually("the server is left", () => !database.isUp());
  target.port = standby.port;
  await eventually("the other is found", () => database.isUp());
  const after = page();
  await acceptPages(database, "node", [after]);
  const [{ ids } = { ids: "" }] = await behind<
    { ids: string }[]
  >`select string_agg(id::text, ' ') as ids from premise_core.host_outbox`;
  assert.is(ids, old, "the rows' numbers are given out again");
  await eventually("the new server's page is told", () => statuses(after.uniqueId).length === 2);
  assert.equal(statuses(after.uniqueId), ["ACCEPTED", "QUEUED"]);

  // What the peer has of the old server's page says nothing of the new one's.
  link.tick(2, systemClock.monotonic() + KEPT_MS);
  await rest(1_500);
  assert.is((await behind`select from premise_core.host_outbox`).length, 2);
  link.tick(4, systemClock.monotonic() + KEPT_MS);
  await eventually("and is forgotten in its turn", async () => {
    return (await behind`select from premise_core.host_outbox`).length === 0;
  });
  assert.is(told.length, 4, "none is told twice");
});

test.run();
