// limit: 120 s
/** What becomes of a node's shards when it is to go. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SHARD_COUNT } from "../domain.ts";
import { askDrain, clusterNodes, recentMoves, takeBackDrain } from "../persistence/leases.ts";
import { eventually } from "./helpers/eventually.ts";
import {
  arrange,
  drivenBy,
  endAll,
  join,
  type Node,
  nowAt,
  openPlace,
  owners,
  settle,
  timesMoved,
} from "./helpers/nodes.ts";
import { inRows } from "./helpers/together.ts";

const seenBy = async (one: Node, other: Node) =>
  (await clusterNodes(one.pool)).find((node) => node.boot === other.boot);

inRows([
  {
    async "a node that drains gives its shards away at once, and is a member until it closes"() {
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
    },

    async "a node withdraws for as long as a reason stands, and says which"() {
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
    },
  },
  {
    async "a node drains when anybody asks it to, by its name, and comes back when that is taken back"() {
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
    },

    async "where every node withdraws, what the first that goes had is driven all the same"() {
      const place = await openPlace();
      const nodes = [await join(place, "one"), await join(place, "two")] as const;
      await arrange(place, nodes);
      const [one, two] = nodes;
      one.withdraw("push");
      two.withdraw("push");
      await sleep(1_000);
      await two.kill();
      await settle(place, [one], 6_000);
    },
  },
  {
    async "a node alone goes on driving while it drains: there is nobody to do it"() {
      const place = await openPlace();
      const node = await join(place, "one");
      await settle(place, [node]);
      await node.drain();
      assert.is(drivenBy(node).length, SHARD_COUNT);
      await node.close();
      assert.equal(drivenBy(node), []);
    },

    async "draining without a database ends in bounded time"() {
      const place = await openPlace();
      const node = await join(place, "one");
      node.faults.cut = true;
      const began = performance.now();
      await node.drain().then(
        () => assert.unreachable("it was written"),
        (error: Error) => assert.is(error.name, "DatabaseDown"),
      );
      assert.ok(performance.now() - began < 4_000);
    },
  },
]);

test.after(endAll);
test.run();
