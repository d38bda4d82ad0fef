// limit: 180 s, alone
/** What may not disturb a lease, and what becomes of what a node had claimed. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SHARD_COUNT } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { declareDead } from "../persistence/leases.ts";
import { eventually } from "./helpers/eventually.ts";
import {
  arrange,
  drivenBy,
  endAll,
  endsWith,
  join,
  type Node,
  openPlace,
  type Place,
  preparePlace,
  settle,
} from "./helpers/nodes.ts";
import { inRows } from "./helpers/together.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

/** Holds a table so that nobody else may as much as read it, for so long. */
async function holds(place: Place, table: string, seconds: number): Promise<void> {
  const holder = postgres(place.url, { max: 1, onnotice: () => {} });
  endsWith(() => holder.end({ timeout: 1 }));
  await holder
    .unsafe(`begin; lock table ${table} in access exclusive mode; select pg_sleep(${seconds}); commit`)
    .simple();
}

/** The longest the node was without its lease or a shard while `work` ran, ms. */
async function longestPause(node: Node, work: Promise<unknown>): Promise<number> {
  let longest = 0;
  let since: number | null = null;
  const timer = setInterval(() => {
    const drives = node.leased() && drivenBy(node).length === SHARD_COUNT;
    if (drives) since = null;
    else {
      since ??= performance.now();
      longest = Math.max(longest, performance.now() - since);
    }
  }, 5);
  await work;
  clearInterval(timer);
  return longest;
}

inRows([
  {
    async "housekeeping that cannot go on for seconds delays no renewal: the node drives all the while"() {
      const place = await openPlace();
      const node = await join(place, "one");
      await settle(place, [node]);
      assert.is(await longestPause(node, holds(place, "premise_core.host_links", 6)), 0);
    },
  },
  {
    async "owners that cannot be read for seconds delay no renewal either"() {
      const place = await openPlace();
      const node = await join(place, "one");
      await settle(place, [node]);
      assert.is(await longestPause(node, holds(place, "premise_core.shards", 5)), 0);
    },
  },
  {
    async "a node written off by mistake drives nothing before it has read who owns what"() {
      const place = await openPlace();
      const node = await join(place, "one");
      await settle(place, [node]);
      const other = "00000000-0000-4000-8000-000000000001";
      await place.sql`insert into premise_core.nodes (boot, name, address, state, lock_key, lease_until)
        values (${other}, 'other', '', 'LIVE', 1, now() + interval '1 hour')`;
      await place.sql`
        with off as (update premise_core.nodes set state = 'DEAD' where boot = ${node.boot})
        update premise_core.shards set owner_boot = ${other}`;
      node.faults.poolMs = 3_000;
      await eventually("it has found that it was written off", () => drivenBy(node).length === 0, 1_500);
      await sleep(1_000);
      assert.is(node.leased(), true);
      assert.equal(drivenBy(node), [], "though its lease is good again");
    },

    async "a node that has come back is not declared dead on an old look"() {
      const place = await openPlace();
      const [one, two] = [await join(place, "one"), await join(place, "two")];
      assert.equal(await declareDead(one.pool, [two.boot]), []);
      await two.kill();
      await eventually("it has not been heard of for a while", async () => {
        const [row] = await place.sql`select state from premise_core.nodes where boot = ${two.boot}`;
        return row!.state === "DEAD";
      });
    },

    async "what a node had claimed is due before its claim runs out when the node dies, and the others look at once"() {
      const ward = await openWard();
      endsWith(ward.close);
      const place = await preparePlace(ward.url);
      const [one, two] = [await join(place, "one"), await join(place, "two")];
      await arrange(place, [one, two]);
      const lab = await ward.host("lab");
      await ward.device(await ward.subscriber("5551"));
      await acceptPages(ward.database, "two", [pageFor(ward, lab, "5551")]);
      const due = async () =>
        (
          await place.sql<{ due: boolean; ms: number }[]>`
          select due_at <= now() as due, extract(epoch from now() - accepted_at)::float8 * 1000 as ms from premise_core.messages`
        )[0]!;
      await two.kill();
      assert.is((await due()).due, false);
      const { ms } = await eventually("the page is due", async () => {
        const now = await due();
        return now.due ? now : undefined;
      });
      assert.ok(ms < 2_800, `only after ${ms} ms, when the claim ran out`);
      await eventually("the other looks", () => one.released.length > 0, 500);
    },
  },
]);

test.after(endAll);
test.run();
