// limit: 120 s, alone
/** A node is told to stop while others are there, and while nothing else is. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SHARD_COUNT } from "../domain.ts";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { startNode } from "./helpers/node.ts";

const server = await startPostgres();
const sql = postgres(server.url, { max: 2, onnotice: () => {} });
const hospital = await openHospital({ TOCSIN_NODE: "leaving" }, { databaseUrl: server.url });
const other = await startNode({
  TOCSIN_NODE: "staying",
  TOCSIN_PREMISE_DATABASE_URL: server.url,
  TOCSIN_ADMIN_KEY: hospital.node.adminKey,
});
test.after(async () => {
  await hospital.close();
  await other.close();
  await sql.end({ timeout: 1 });
  await server.close();
});

const shardsOf = async (name: string) => {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::integer as count from premise_core.shards join premise_core.nodes on boot = owner_boot
    where name = ${name} and state <> 'DEAD'`;
  return row!.count;
};

/** A request whose body never comes: it holds up the end of the HTTP listener for as long as that waits. */
async function stallsRequest(url: string): Promise<{ socket: Socket; over(): boolean }> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let over = false;
  socket.on("close", () => {
    over = true;
  });
  socket.on("error", () => {});
  socket.write(
    "POST /ClientMessaging/V2/Register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
  );
  await sleep(200);
  return { socket, over: () => over };
}

test("while a node that was told to stop is still closing, another drives its pages already; then it exits 0", async () => {
  const { node } = hospital;
  const host = await hospital.host("lab");
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const subscriber = phone.person.id;
  const [shard] = await sql<{ id: number }[]>`select get_byte(uuid_send(${subscriber}::uuid), 0) as id`;
  const trackingId = await host.sends({ destination, text: "Bed 3" });
  await host.awaits(trackingId, "ENROUTE");
  await eventually("the other node has joined", async () => (await shardsOf("staying")) > 0, 15_000);
  // The page's shard is the leaving node's.
  await sql`update premise_core.shards set owner_boot = (select boot from premise_core.nodes where name = 'leaving') where id = ${shard!.id}`;

  const stalled = await stallsRequest(node.run().url);
  const began = performance.now();
  let exited = false;
  const exit = node.stops().then((code) => {
    exited = true;
    return code;
  });
  await eventually("the other node has every shard", async () => (await shardsOf("staying")) === SHARD_COUNT, 3_000);
  assert.equal([exited, stalled.over()], [false, false], "and the first has not even closed its listeners");
  await sql`update premise_core.messages set due_at = now() where tracking_id = ${trackingId}`;
  await eventually(
    "the other node wakes the phone",
    async () => {
      const rows = await sql`select from premise_core.message_history join premise_core.messages using (unique_id)
        where tracking_id = ${trackingId} and node = 'staying' and event = 'WAKE'`;
      return rows.length > 0;
    },
    2_000,
  );
  assert.equal([exited, stalled.over()], [false, false]);
  assert.is(await exit, 0);
  assert.ok(performance.now() - began < 15_000);
  assert.not.match(node.said(), "left to close by itself");
  const rows = await sql`select from premise_core.nodes where name = 'leaving' and state <> 'DEAD'`;
  assert.is(rows.length, 0, "it has left");
  stalled.socket.destroy();
});

test("a node whose database has stopped answering still exits 0 within its time", async () => {
  server.freeze();
  try {
    const began = performance.now();
    assert.is(await other.stops(), 0);
    assert.ok(performance.now() - began < 15_000);
  } finally {
    server.thaw();
  }
});

test.run();
