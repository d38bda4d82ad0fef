// limit: 180 s
/** Many phones that listen while nothing is sent to them. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { hashSecret } from "../persistence/secrets.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { type Listening, listen } from "./helpers/listening-phone.ts";

const STREAMS = 2_000;
const AT_ONCE = 50;
const SECONDS = 6;
/** Without Redis all are looked at once a second, a thousand in one statement. */
const PER_SECOND_MAX = 10;

const hospital = await openHospital();
const sql = postgres(hospital.databaseUrl, { max: 2, onnotice: () => {} });
const streams: Listening[] = [];
test.after(async () => {
  for (const stream of streams) stream.vanishes();
  await sql.end({ timeout: 1 });
  await hospital.close();
});

const tokenOf = (n: number) => `token-of-an-idle-phone-${n}`;
async function statementsPerSecond(): Promise<number> {
  const count = async () => {
    const [row] = await sql<{ count: number }[]>`
      select xact_commit::integer as count from pg_stat_database where datname = current_database()`;
    return row!.count;
  };
  // Backends tell what they did once a second.
  await sleep(2_000);
  const before = await count();
  await sleep(SECONDS * 1_000);
  return ((await count()) - before) / SECONDS;
}

test("two thousand idle streams cost the database a few statements a second, and all are told when the node goes", async () => {
  const { person } = await hospital.phone();
  const hashes = Array.from({ length: STREAMS }, (_, n) => hashSecret(tokenOf(n)).toString("hex"));
  await sql`
    insert into premise_core.devices (id, tenant_id, site_id, subscriber_id, device_type, device_os, client_version, gateway_type,
      notification_address, confirms, token_hash)
    select gen_random_uuid(), subscriber.tenant_id, subscriber.site_id, subscriber.id, 'ANDROID', '16', '1', 'GCM',
      phone.hash, true, decode(phone.hash, 'hex')
    from premise_core.subscribers as subscriber, unnest(${hashes}::text[]) as phone (hash)
    where subscriber.id = ${person.id}`;
  const without = await statementsPerSecond();
  const { url } = hospital.node.run();
  const registration = { vendorId: "", deviceToken: "" } as never;
  let next = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < STREAMS) streams.push(await listen({ registration }, { url, token: tokenOf(next++) }));
    }),
  );
  await eventually("all listen", () => streams.every((stream) => stream.frames("resumed").length === 1), 30_000);
  const more = (await statementsPerSecond()) - without;
  assert.ok(more < PER_SECOND_MAX, `${more} statements a second more`);
  assert.match(await hospital.metrics(), new RegExp(`tocsin_sockets\\{kind="stream"\\} ${STREAMS}`));
  assert.is(await hospital.node.stops(), 0);
  const codes = await Promise.all(streams.map((stream) => stream.ends(30_000)));
  assert.is(codes.filter((code) => code === 1012).length, STREAMS);
  assert.ok(streams.every((stream) => stream.frames("reconnect").length === 1));
});

test.run();
