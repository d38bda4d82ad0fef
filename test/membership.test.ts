// limit: 240 s
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type BootId, SHARD_COUNT } from "../domain.ts";
import { clusterNodes } from "../persistence/leases.ts";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import {
  arrange,
  drivenBy,
  endAll,
  endsWith,
  join,
  nowAt,
  openPlace,
  owners,
  preparePlace,
  SHARDS,
  settle,
  timesMoved,
  watch,
} from "./helpers/nodes.ts";
import { inRows } from "./helpers/together.ts";

inRows([
  {
    async "a database that was away for a while finds every node driving again as soon as it is back"() {
      const server = await startPostgres();
      endsWith(server.close);
      const place = await preparePlace(server.url);
      const nodes = [await join(place, "one"), await join(place, "two")] as const;
      await arrange(place, nodes);
      await server.kill();
      await eventually("no node drives anything", () => nodes.every((node) => drivenBy(node).length === 0), 5_000);
      await sleep(4_900); // so long that a loop which only counts its failures would rest for 3 s more
      await server.start();
      await eventually("both have found the database", () => nodes.every((node) => node.pool.isUp()), 5_000);
      await eventually(
        "every shard is driven by one node",
        () => SHARDS.every((shard) => nodes.filter((node) => node.drives(shard)).length === 1),
        2_500,
      );
    },

    async "a killed node's shards are driven by the others within a few seconds, and nobody else's move"() {
      const place = await openPlace();
      const nodes = [await join(place, "one"), await join(place, "two"), await join(place, "three")] as const;
      await arrange(place, nodes);
      const [one, two, three] = nodes;
      const theirs = [drivenBy(one), drivenBy(three)];
      const began = await nowAt(place);
      const stop = watch([one, three]);
      await two.kill();
      await settle(place, [one, three], 5_000);
      stop();
      assert.ok(theirs[0]!.every((shard) => one.drives(shard)) && theirs[1]!.every((shard) => three.drives(shard)));
      assert.ok((await timesMoved(place, began)).every((count) => count === 1));
      const early = await eventually("it is written off", async () => {
        const [row] = await place.sql<{ early: boolean }[]>`
          select (select max(at) from moves where was = ${two.boot}) < lease_until as early
          from premise_core.nodes where boot = ${two.boot} and state = 'DEAD'`;
        return row;
      });
      assert.is(early.early, true, "its lock was gone: nobody waited for its lease to run out");
      await eventually(
        "no shard is without an owner",
        async () => (await clusterNodes(one.pool)).flatMap((node) => node.shards).length === SHARD_COUNT,
      );
    },

    async "a node that closes gives its shards away at once and is gone from the list"() {
      const place = await openPlace();
      const nodes = [await join(place, "one"), await join(place, "two"), await join(place, "three")] as const;
      await arrange(place, nodes);
      const [one, two, three] = nodes;
      const began = await nowAt(place);
      const stop = watch(nodes);
      await two.close();
      assert.is(drivenBy(two).length, 0);
      const left = await owners(place);
      assert.ok(
        left.every((owner) => owner === one.boot || owner === three.boot),
        "when close returns",
      );
      await settle(place, [one, three], 2_000);
      assert.ok(stop().longestMs < 250);
      assert.ok((await timesMoved(place, began)).every((count) => count === 1));
      assert.equal(
        await place.sql`select from premise_core.nodes where boot = ${two.boot}`.then((rows) => rows.length),
        0,
      );
    },
  },
  {
    async "a node that joins is given its shards after a while, a tenth at a time, each moved once"() {
      const place = await openPlace();
      const one = await join(place, "one");
      await settle(place, [one]);
      const began = await nowAt(place);
      const two = await join(place, "two", "new");
      await sleep(1_500);
      assert.is(drivenBy(two).length, 0, "it may be a node of a rolling restart");
      const stop = watch([one, two]);
      await settle(place, [one, two]);
      const seen = stop();
      assert.ok(seen.longestMs < 250, `two nodes drove ${seen.shards} shards for up to ${seen.longestMs} ms`);
      const moved = await timesMoved(place, began);
      assert.ok(moved.every((count) => count === 1));
      assert.is(moved.length, drivenBy(two).length);
      const [most] = await place.sql<{ most: number }[]>`
        select max(count)::integer as most from (select count(*) from moves where at > ${began} group by date_trunc('milliseconds', at)) as steps`;
      assert.ok(most!.most <= 25);
      assert.is(two.gained.flat().length, drivenBy(two).length, "and it is told of each once");
    },

    async "a node that hears nothing stops driving before another takes its shards, and when it is back drives nothing of theirs"() {
      const place = await openPlace();
      const nodes = [await join(place, "one"), await join(place, "two")] as const;
      await arrange(place, nodes);
      const [one, two] = nodes;
      // Its session lives on and holds its lock; the node itself hears nothing.
      two.faults.cut = true;
      const stop = watch(nodes);
      await eventually("its lease has lapsed by its own clock", () => !two.leased(), 4_000);
      assert.equal(two.shards(), []);
      assert.is(drivenBy(two).length, 0);
      await settle(place, [one], 6_000);
      two.faults.answerMs = 120;
      two.faults.cut = false;
      await eventually("it is back", () => two.leased(), 5_000);
      await sleep(1_000);
      const { longestMs, shards } = stop();
      assert.ok(longestMs < 250, `two nodes drove ${shards} shards for up to ${longestMs} ms`);
    },

    async "a node alone drives every shard at once, and says so"() {
      const place = await openPlace();
      const node = await join(place, "one", "new");
      await settle(place, [node], 2_000);
      assert.is(node.leased(), true);
      assert.is(node.shards().length, SHARD_COUNT);
      assert.is(node.gained.flat().length, SHARD_COUNT);
      const nodes = await clusterNodes(node.pool);
      assert.equal(
        nodes.map(({ name, state, shards, load }) => ({ name, state, shards: shards.length, load })),
        [{ name: "one", state: "LIVE", shards: SHARD_COUNT, load: 0.5 }],
      );
    },

    async "a node is dead when its lease has run out, or its lock is gone and it was not heard of for a while"() {
      const place = await openPlace();
      const holder = postgres(place.url, { max: 1, onnotice: () => {} });
      endsWith(() => holder.end({ timeout: 1 }));
      await holder`select pg_advisory_lock(77)`;
      // leased, locked, fresh
      const table: [boolean, boolean, boolean, string][] = [
        [true, true, true, "LIVE"],
        [true, true, false, "LIVE"],
        [true, false, true, "LIVE"],
        [true, false, false, "DEAD"],
        [false, true, true, "DEAD"],
        [false, false, false, "DEAD"],
      ];
      for (const [leased, locked, fresh] of table) {
        const [lease, renewed] = [leased ? "1 hour" : "-1 second", fresh ? "1 hour" : "-751 ms"];
        await place.sql`
          insert into premise_core.nodes (boot, name, address, state, lock_key, renewed_at, lease_until)
          values (gen_random_uuid(), ${`${leased} ${locked} ${fresh}`}, '', 'LIVE', ${locked ? 77 : 78}, now() + ${renewed}::text::interval,
            now() + ${lease}::text::interval)`;
      }
      await join(place, "judge");
      await sleep(1_200);
      for (const [leased, locked, fresh, expected] of table) {
        const [row] =
          await place.sql`select state from premise_core.nodes where name = ${`${leased} ${locked} ${fresh}`}`;
        assert.is(row!.state, expected, `leased ${leased}, locked ${locked}, fresh ${fresh}`);
      }
    },
  },
  {
    async "nodes that start one after another in a new cluster do not pass shards to and fro"() {
      const place = await openPlace();
      const began = await nowAt(place);
      const one = await join(place, "one", "new");
      await sleep(1_200);
      const two = await join(place, "two", "new");
      const stop = watch([one, two]);
      await settle(place, [one, two]);
      const { longestMs } = stop();
      assert.ok(longestMs < 250, `two nodes drove a shard for ${longestMs} ms`);
      const moved = await timesMoved(place, began);
      assert.ok(
        moved.every((count) => count <= 2),
        `some shard changed hands ${moved[0]} times: first taken, then given once`,
      );
    },

    async "a node that loses its session for a moment comes back by itself"() {
      const place = await openPlace();
      const nodes = [await join(place, "one"), await join(place, "two")] as const;
      await arrange(place, nodes);
      for (let round = 0; round < 3; round += 1) {
        await place.sql`select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = 'tocsin two' and datname = current_database()`;
        await sleep(700);
      }
      await settle(place, nodes);
      const [row] = await place.sql<{ locked: boolean }[]>`
        select exists (select from pg_locks where locktype = 'advisory' and granted
          and (classid::bigint << 32 | objid::bigint) = lock_key) as locked
        from premise_core.nodes where boot = ${nodes[1].boot}`;
      assert.is(row!.locked, true, "and holds its lock again");
    },

    async "host links of a dead node and of one that closes are ended"() {
      const place = await openPlace();
      const [one, two, three] = [await join(place, "one"), await join(place, "two"), await join(place, "three")];
      const [host] = await place.sql<{ id: string }[]>`
        insert into premise_core.host_systems (tenant_id, site_id, name, allowed_addresses)
        values ('default', gen_random_uuid(), 'lab', ${["127.0.0.1"]}) returning id`;
      for (const node of [one, two, three]) {
        await place.sql`insert into premise_core.host_links (id, host_system_id, node_boot)
          values (gen_random_uuid(), ${host!.id}, ${node.boot})`;
      }
      const open = async () =>
        (
          await place.sql<
            { boot: BootId }[]
          >`select node_boot as boot from premise_core.host_links where closed_at is null`
        ).map((row) => row.boot);
      await three.close();
      assert.equal((await open()).sort(), [one.boot, two.boot].sort());
      await two.kill();
      await eventually("the dead node's link is ended", async () => (await open()).join() === one.boot);
    },

    async "after all nodes died a new one takes every shard at once"() {
      const place = await openPlace();
      await place.sql`
        insert into premise_core.nodes (boot, name, address, state, lock_key, started_at, renewed_at, lease_until)
        values ('00000000-0000-4000-8000-000000000001', 'gone', '127.0.0.1', 'LIVE', 1, now() - interval '1 day', now() - interval '1 hour',
          now() - interval '59 minutes')`;
      await place.sql`update premise_core.shards set owner_boot = '00000000-0000-4000-8000-000000000001'`;
      const node = await join(place, "one", "new");
      await settle(place, [node], 2_000);
    },
  },
]);

test.after(endAll);
test.run();
