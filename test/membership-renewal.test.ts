// limit: 180 s, alone
/** What may not disturb a lease, and what becomes of a node's shards when it is to go. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SHARD_COUNT } from "../domain.ts";
import { acceptPages } from "../persistence/acceptance.ts";
import { askDrain, clusterNodes, declareDead, recentMoves, takeBackDrain } from "../persistence/leases.ts";
import { eventually } from "./helpers/eventually.ts";
import {
  arrange,
  drivenBy,
  endAll,
  endsWith,
  join,
  type Node,
  nowAt,
  openPlace,
  owners,
  type Place,
  preparePlace,
  settle,
  timesMoved,
} from "./helpers/nodes.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

test.after.each(endAll);

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

const seenBy = async (one: Node, other: Node) =>
  (await clusterNodes(one.pool)).find((node) => node.boot === other.boot);

test("housekeeping that cannot go on for seconds delays no renewal: the node drives all the while", async () => {
  const place = await openPlace();
  const node = await join(place, "one");
  await settle(place, [node]);
  assert.is(await longestPause(node, holds(place, "premise_core.host_links", 6)), 0);
});

test("owners that cannot be read for seconds delay no renewal either", async () => {
  const place = await openPlace();
  const node = await join(place, "one");
  await settle(place, [node]);
  assert.is(await longestPause(node, holds(place, "premise_core.shards", 5)), 0);
});

test("a node written off by mistake drives nothing before it has read who owns what", async () => {
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
});

test("a node that has come back is not declared dead on an old look", async () => {
  const place = await openPlace();
  const [one, two] = [await join(place, "one"), await join(place, "two")];
  assert.equal(await declareDead(one.pool, [two.boot]), []);
  await two.kill();
  await eventually("it has not been heard of for a while", async () => {
    const [row] = await place.sql`select state from premise_core.nodes where boot = ${two.boot}`;
    return row!.state === "DEAD";
  });
});

test("a node that drains gives its shards away at once, and is a member until it closes", async () => {
  const place = await openPlace();
  const nodes = [await join(place, "one"), await join(place, "two"), await join(place, "three")] as const;
  await arrange(place, nodes);
  const [one, two, three] = nodes;
  const began = await nowAt(place);
  await two.drain();
  assert.equal(drivenBy(two), []);
  const left = await owners(place);
  assert.ok(
    left.every((owner) => owner === one.boot || owner === three.boot),
    "when drain returns",
  );
  await settle(place, [one, three], 2_000);
  await sleep(1_200);
  assert.is(two.leased(), true);
  assert.equal(drivenBy(two), []);
  assert.ok(
    (await timesMoved(place, began)).every((count) => count === 1),
    "and it was given none back",
  );
  assert.is((await seenBy(one, two))?.state, "DRAINING");
});

test("a node withdraws for as long as a reason stands, and says which", async () => {
  const place = await openPlace();
  const nodes = [await join(place, "one"), await join(place, "two")] as const;
  await arrange(place, nodes);
  const [one, two] = nodes;
  two.withdraw("push");
  two.withdraw("mxpp");
  await settle(place, [one], 2_000);
  assert.is(two.staying(), "push, mxpp");
  assert.is((await seenBy(one, two))?.why, "push, mxpp");
  two.restore("push");
  await sleep(1_200);
  assert.equal(drivenBy(two), [], "the other reason stands");
  assert.is((await seenBy(one, two))?.state, "DRAINING");
  two.restore("mxpp");
  two.restore("mxpp");
  await settle(place, nodes);
});

test("a node drains when anybody asks it to, by its name, and comes back when that is taken back", async () => {
  const place = await openPlace();
  const nodes = [await join(place, "one"), await join(place, "two")] as const;
  await arrange(place, nodes);
  const [one, two] = nodes;
  assert.is(await askDrain(one.pool, "nobody"), false);
  assert.is(await askDrain(one.pool, "two"), true);
  await settle(place, [one], 3_000);
  const seen = await eventually("the other sees it", async () => {
    const found = await seenBy(one, two);
    return found?.state === "DRAINING" ? found : undefined;
  });
  assert.equal([seen.shards, seen.why], [[], "an operator asked"]);
  const moved = (await recentMoves(one.pool, 20)).filter((move) => move.from === "two" && move.to === "one");
  assert.ok(moved.reduce((sum, move) => sum + move.shards, 0) > 0);
  assert.ok(moved.every((move) => Math.abs(move.at.getTime() - Date.now()) < 60_000));
  assert.is(await takeBackDrain(one.pool, "two"), true);
  await settle(place, nodes);
});

test("where every node withdraws, what the first that goes had is driven all the same", async () => {
  const place = await openPlace();
  const nodes = [await join(place, "one"), await join(place, "two")] as const;
  await arrange(place, nodes);
  const [one, two] = nodes;
  one.withdraw("push");
  two.withdraw("push");
  await sleep(1_000);
  await two.kill();
  await settle(place, [one], 6_000);
});

test("what a node had claimed is due before its claim runs out when the node dies, and the others look at once", async () => {
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
});

test("a node alone goes on driving while it drains: there is nobody to do it", async () => {
  const place = await openPlace();
  const node = await join(place, "one");
  await settle(place, [node]);
  await node.drain();
  assert.is(drivenBy(node).length, SHARD_COUNT);
  await node.close();
  assert.equal(drivenBy(node), []);
});

test("draining without a database ends in bounded time", async () => {
  const place = await openPlace();
  const node = await join(place, "one");
  node.faults.cut = true;
  const began = performance.now();
  await node.drain().then(
    () => assert.unreachable("it was written"),
    (error: Error) => assert.is(error.name, "DatabaseDown"),
  );
  assert.ok(performance.now() - began < 4_000);
});

test.run();
