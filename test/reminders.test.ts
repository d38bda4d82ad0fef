/** How a person is reminded of a page that waits for an answer. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openDrivenWard } from "./helpers/driven-ward.ts";
import { eventually } from "./helpers/eventually.ts";

const driven = await openDrivenWard();
const { openNode, person, pages, hears, says, due, dueIn } = driven;
const { sql, siteId } = driven.ward;
test.after.each(driven.endNodes);
test.after(() => driven.ward.close());

test("reminders come as far apart and as often as the device's group says, then none before the deadline", async () => {
  const node = openNode();
  const ada = await person();
  const settings = { priorities: { high: { intervalSeconds: 20, repeats: 2 } } };
  await sql`insert into premise_core.device_groups (tenant_id, site_id, name, is_default, settings)
    values ('default', ${siteId}, 'default', true, ${sql.json(settings)})`;
  const id = await pages(node, ada, "Alert", { priority: "high" });
  await hears(id, "ENROUTE");
  await says(node, ada, id, "DELIVERED");
  const remind = async () => {
    await sql`update premise_core.messages set due_at = now() where unique_id = ${id}`;
    node.drive((await due(id))!);
  };
  for (let reminder = 1; reminder <= 2; reminder += 1) {
    const pause = (await dueIn(id))!;
    assert.ok(pause > 15 && pause <= 20, `${pause} s`);
    await remind();
    await hears(id, "WAKE PUSH");
    await eventually("it rests", async () => ((await dueIn(id)) ?? 0) > 10);
  }
  await remind();
  await hears(id, "WAIT");
  const rest = (await dueIn(id))!;
  assert.ok(rest > 280 && rest <= 300, `the deadline for an answer: ${rest} s`);
});

test.run();
