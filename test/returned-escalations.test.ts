/** A page that came back from the only phone that had it counts as fetched by nobody: for its family, for its rule, for who answers it late. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, UniqueId } from "../domain.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { returnPages } from "../persistence/returned-pages.ts";
import { openDrivenWard, type Person } from "./helpers/driven-ward.ts";
import { eventually } from "./helpers/eventually.ts";

const driven = await openDrivenWard();
const { openNode, person, toPerson, ruled, pages, hears, childrenOf, columnsOf, says, misses } = driven;
const { database, sql } = driven.ward;
test.after.each(driven.endNodes);
test.after(() => driven.ward.close());

async function givesUp({ devices }: Person, id: UniqueId): Promise<void> {
  assert.equal(await returnPages(database, "node", devices[0]!, [id]), [id]);
}

test("those it was passed on to lose it, and the rule goes on to the next", async () => {
  const node = openNode();
  const [ada, ben, cem] = [await person(), await person(), await person()];
  const type = await ruled([toPerson(ben), toPerson(cem)]);
  const id = await pages(node, ada, type, { timeoutUserSeconds: null });
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  const [child] = await childrenOf(id);
  await hears(child!.id, "ENROUTE");
  await says(node, ben, child!.id, "DELIVERED");
  await givesUp(ben, child!.id);
  await misses(node, id, "step_deadline");
  await eventually("the next has it", async () => (await childrenOf(id)).length === 2);
});

test("fetched again after its reader's time was over it leaves the reader that time anew", async () => {
  const node = openNode();
  const [ada, ben] = [await person(), await person()];
  const id = await pages(node, ada, await ruled([toPerson(ben)]));
  await hears(id, "ENROUTE");
  await says(node, ada, id, "DELIVERED");
  await sql`update premise_core.messages set user_deadline = now() - interval '1 second' where unique_id = ${id}`;
  await givesUp(ada, id);
  const deviceId: DeviceId = ada.devices[0]!;
  await recordReceipts(database, "node", [{ uniqueId: id, deviceId, receipt: "DELIVERED" }]);
  const { user_deadline: deadline } = await columnsOf(id);
  assert.ok(new Date(String(deadline)).getTime() > Date.now() + 10_000, `${deadline}`);
});

test.run();
