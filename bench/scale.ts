/**
 * What a large installation asks of Postgres, by measurement: what leases, placement and looks cost for so many nodes, and how many
 * bytes a phone and a page take. docs/scale.md goes on from there by arithmetic.
 *
 *   node bench/scale.ts [--nodes 3,10,100] [--phones 200000] [--pages 100000]
 */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import postgres from "postgres";
import type { BootId } from "../domain.ts";
import { silentLog } from "../log.ts";
import { type Database, openDatabase } from "../persistence/database.ts";
import { renewLease, shardOwners } from "../persistence/leases.ts";
import { migrate } from "../persistence/migrate.ts";
import { closeStrayLinks } from "../persistence/outbox.ts";
import { startPostgres } from "../test/helpers/database.ts";
import { cpuSecondsOfTree } from "./stage/measure.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "3,10,100" },
    phones: { type: "string", default: "200000" },
    pages: { type: "string", default: "100000" },
  },
});
const [RENEW_MS, HOUSE_MS, LEASE_MS] = [500, 2_000, 2_000];
const WARM_MS = 5_000;
const MEASURE_MS = 15_000;

const server = await startPostgres({ max_connections: "500" });
const sql = postgres(server.url, { max: 1, onnotice: () => {} });
try {
  for (const schema of ["premise_core", "meta", "core"] as const) await migrate(server.url, schema, { log: silentLog });
  for (const count of values.nodes.split(",").map(Number)) await leases(count);
  await rows(Number(values.phones), Number(values.pages));
} finally {
  await sql.end({ timeout: 1 });
  await server.close();
}
process.exit(0);

/** So many nodes that do nothing but live: each renews, reads the owners and keeps house as membership.ts does. */
async function leases(count: number): Promise<void> {
  const power = new AbortController();
  const databases: Database[] = [];
  const late: number[] = [];
  const loops: Promise<void>[] = [];
  for (let n = 0; n < count; n += 1) {
    const options = { name: "premise_core" as const, urls: [server.url], node: `n${n}`, connectionsMax: 1 };
    const lease = openDatabase({ ...options, lease: true }, { log: silentLog });
    await lease.untilUp(20_000);
    databases.push(lease);
    const self = {
      ...{
        boot: randomUUID() as BootId,
        name: `n${n}`,
        address: "127.0.0.1",
        state: "LIVE" as const,
        why: null,
        load: 0,
        weight: 1.1,
        knows: 0,
      },
      lockKey: randomBytes(8).readBigInt64BE().toString(),
    };
    const every = async (ms: number, work: () => Promise<unknown>) => {
      await sleep(Math.random() * ms);
      while (!power.signal.aborted) {
        const begun = performance.now();
        await work().catch(() => {});
        late.push(performance.now() - begun);
        await sleep(ms, undefined, { signal: power.signal }).catch(() => {});
      }
    };
    loops.push(
      every(RENEW_MS, async () => {
        await renewLease(lease, { ...self, asked: performance.now() }, LEASE_MS);
        await shardOwners(lease);
      }),
      every(HOUSE_MS, () => closeStrayLinks(lease)),
    );
  }
  await sleep(WARM_MS);
  late.length = 0;
  const [cpu, begun] = [cpuSecondsOfTree(server.pid), performance.now()];
  const [before] = await sql<{ bytes: string }[]>`select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes`;
  await sleep(MEASURE_MS);
  const seconds = (performance.now() - begun) / 1_000;
  const [after] = await sql<{ bytes: string }[]>`select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes`;
  const share = (cpuSecondsOfTree(server.pid) - cpu) / seconds;
  late.sort((a, b) => a - b);
  console.log(
    `${count} nodes: Postgres ${(share * 100).toFixed(1)} % of a core (${((share / count) * 100).toFixed(2)} % a node), ` +
      `${Math.round((Number(after!.bytes) - Number(before!.bytes)) / seconds / 1_024)} KiB/s of log, ` +
      `a round p50 ${late[late.length >> 1]!.toFixed(1)} ms, p99 ${late[Math.floor(late.length * 0.99)]!.toFixed(1)} ms`,
  );
  power.abort();
  await Promise.all(loops);
  await Promise.all(databases.map((database) => database.close()));
  await sql`delete from premise_core.nodes`;
}

/** Bytes with their indexes, of rows as the server writes them. */
async function rows(phones: number, pages: number): Promise<void> {
  const site = randomUUID();
  await sql`insert into premise_core.host_systems (tenant_id, site_id, name, allowed_addresses) values ('default', ${site}, 'lab', '{127.0.0.1}')`;
  await sql`
    insert into premise_core.subscribers (id, tenant_id, site_id, name, destination, registration_code_hash)
    select md5('s' || n)::uuid, 'default', ${site}, 'Someone of ward ' || n, '555' || lpad(n::text, 8, '0'), sha256(n::text::bytea)
    from generate_series(1, ${phones}::integer) as n`;
  await sql`
    insert into premise_core.subscriber_addresses (site_id, address, subscriber_id, kind)
    select ${site}, '555' || lpad(n::text, 8, '0'), md5('s' || n)::uuid, 'destination' from generate_series(1, ${phones}::integer) as n`;
  const address = sql`repeat(md5('a' || n), 5)`;
  await sql`
    insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
      notification_address, confirms, token_hash)
    select md5('d' || n)::uuid, 'default', ${site}, md5('s' || n)::uuid, 'ANDROID', 'Android 16', '0.1.0', 'GCM', ${address}, true,
      sha256(('t' || n)::bytea)
    from generate_series(1, ${phones}::integer) as n`;
  await sql`
    insert into meta.registrations (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type, notification_address)
    select md5('d' || n)::uuid, 'default', ${site}, md5('s' || n)::uuid, 'ANDROID', 'Android 16', '0.1.0', 'GCM', ${address}
    from generate_series(1, ${phones}::integer) as n`;
  const text = "Bed 12: potassium 6.8 mmol/l, please call the ward at once";
  await sql`
    insert into premise_core.messages (unique_id, version, status, told, shard, wakeups, open, tenant_id, site_id, subscriber_id, host_system_id,
      origin, tracking_id, system_id, destination, digest, conversation_id, host_site_id, from_id, from_name, message_type, priority, sent_at,
      body, response_choices, controls, accepted_at, expires_at, fetched_by)
    select md5('m' || n)::uuid, 5, 5, 'READ', n % 256, 1, false, 'default', ${site}, md5('s' || n)::uuid, ${randomUUID()}, 'lab',
      'lab-' || n, 'lab', '555' || lpad(n::text, 8, '0'), decode(md5(n::text), 'hex'), 'c' || n, '', '-17', 'Lab', 'Alert', 1, now(),
      ${text}, '{}', '{}', now(), now() + interval '3 days', array[md5('d' || n)::uuid]
    from generate_series(1, ${pages}::integer) as n`;
  await sql`
    insert into premise_core.message_history (unique_id, seq, event, at, node, detail)
    select md5('m' || n)::uuid, seq, event, now(), 'node-0.ward', case when seq > 2 then md5('d' || n)::uuid::text end
    from generate_series(1, ${pages}::integer) as n
    cross join (values (1, 'ACCEPTED'), (2, 'QUEUED'), (3, 'ENROUTE'), (4, 'DELIVERED'), (5, 'READ')) as step (seq, event)`;
  await sql`vacuum (analyze)`;
  const sizes = await sql<{ name: string; bytes: string; indexes: string }[]>`
    select schemaname || '.' || relname as name, pg_total_relation_size(relid)::text as bytes, pg_indexes_size(relid)::text as indexes
    from pg_stat_user_tables where n_live_tup > 1000 order by 1`;
  for (const { name, bytes, indexes } of sizes) {
    const of = /message/.test(name) ? pages : phones;
    console.log(
      `${name}: ${Math.round(Number(bytes) / of)} bytes for each ${of === pages ? "page" : "phone"}, ${Math.round(Number(indexes) / of)} of them indexes`,
    );
  }
}
