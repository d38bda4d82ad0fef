/** What the living do for a node that is no more, when part of it cannot be done. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { arrange, endAll, endsWith, join, openPlace } from "./helpers/nodes.ts";

test.after.each(endAll);

test("a lost node is written off, so that its hosts' news goes to other links, though what it had claimed cannot be released", async () => {
  const place = await openPlace();
  const one = await join(place, "one");
  const other = await join(place, "other");
  await arrange(place, [one, other]);
  await place.sql.unsafe("begin; lock table premise_core.messages in access exclusive mode");
  let held = true;
  const letGo = async () => {
    if (held) await place.sql.unsafe("commit");
    held = false;
  };
  endsWith(letGo);
  const stateOf = async () =>
    (await place.sql<{ state: string }[]>`select state from premise_core.nodes where boot = ${other.boot}`)[0]?.state;
  await other.kill();
  await eventually("it is written off", async () => (await stateOf()) === "DEAD", 10_000);
  await letGo();
  assert.is(await stateOf(), "DEAD");
});

test.run();
