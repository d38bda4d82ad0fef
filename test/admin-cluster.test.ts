/** `/api/v1/cluster` over real HTTP and a real database. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, Shard } from "../domain.ts";
import { rangesOf } from "../gateways/admin/cluster.ts";
import { moveShards } from "../persistence/leases.ts";
import { openAdminApi } from "./helpers/admin-api.ts";

const api = await openAdminApi();
test.after(() => api.close());

test("the cluster is told: its nodes, what they own, why one drains, what moved; and a node is asked to drain, and not to", async () => {
  const boots = [randomUUID(), randomUUID(), randomUUID()];
  await api.ward.sql`
    insert into premise_core.nodes (boot, name, address, state, why, load, lock_key, started_at, lease_until)
    select * from unnest(${boots}::uuid[], ${["a", "b", "gone"]}::text[], ${["h1", "h2", "h3"]}::text[],
      ${["LIVE", "LIVE", "DEAD"]}::text[], ${[null, "service http keeps failing", null]}::text[], ${[0.25, 0.5, 0]}::real[],
      ${[1, 2, 3]}::bigint[], array_fill(now() - interval '90 s', array[3]), array_fill(now() + interval '1 h', array[3]))`;
  await api.ward.sql`update premise_core.shards set owner_boot = ${boots[0]!} where id < 200 or id = 250`;
  const to = (ids: readonly number[]) =>
    moveShards(
      api.ward.database,
      boots[0] as BootId,
      ids.map((id) => ({ id: id as Shard, from: boots[0] as BootId, to: boots[1] as BootId })),
    );
  assert.equal((await to([7, 8, 9])).sort(), [7, 8, 9]);
  await api.ward.sql`update premise_core.nodes set state = 'DRAINING' where boot = ${boots[1]!}`;
  assert.equal(await to([10]), [], "one that goes is given nothing while another stays");
  const cluster = (await api.call("GET", "/api/v1/cluster")).body;
  const [a, b, ...others] = cluster.nodes!;
  assert.equal(others, []);
  const { leaseLeftMs, ageMs, ...rest } = a as unknown as { leaseLeftMs: number; ageMs: number };
  assert.equal(rest, {
    ...{ name: "a", boot: boots[0], address: "h1", state: "LIVE", why: null, load: 0.25, weight: null },
    ...{ shards: 198, owns: "0-6,10-199,250" },
  });
  assert.ok(leaseLeftMs > 3_500_000 && leaseLeftMs <= 3_600_000 && ageMs >= 90_000 && ageMs < 200_000);
  assert.equal([b!.state, b!.why, b!.owns], ["DRAINING", "service http keeps failing", "7-9"]);
  assert.is(Number(cluster.unowned), 55);
  assert.equal(
    cluster.moves!.map(({ from, to, shards }) => ({ from, to, shards: Number(shards) })),
    [{ from: "a", to: "b", shards: 3 }],
  );

  const asked = async () =>
    (await api.ward.sql`select name from premise_core.nodes where drain_asked order by name`).map((row) => row.name);
  for (const [method, name, status, after] of [
    ["POST", "nobody", 404, []],
    ["POST", "gone", 404, []],
    ["POST", "a", 204, ["a"]],
    ["POST", "a", 204, ["a"]],
    ["DELETE", "nobody", 404, ["a"]],
    ["DELETE", "a", 204, []],
  ] as const) {
    assert.is((await api.call(method, `/api/v1/cluster/nodes/${name}/drain`)).status, status, `${method} ${name}`);
    assert.equal(await asked(), after);
  }
  assert.equal(api.audited, [
    "bootstrap POST /api/v1/cluster/nodes/:name/drain a",
    "bootstrap POST /api/v1/cluster/nodes/:name/drain a",
    "bootstrap DELETE /api/v1/cluster/nodes/:name/drain a",
  ]);
});

test("what a node owns, written short, says every shard and no other", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(255)), (some) => {
      const shards = some.sort((a, b) => a - b) as Shard[];
      const said = rangesOf(shards)
        .split(",")
        .filter((range) => range !== "")
        .flatMap((range) => {
          const [from, to = from] = range.split("-").map(Number) as [number, number?];
          return Array.from({ length: to! - from + 1 }, (_, n) => from + n);
        });
      assert.equal(said, shards);
    }),
  );
});

test.run();
