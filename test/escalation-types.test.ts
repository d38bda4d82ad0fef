/** Which pages a site's rules are for, driven by real message actors on a real database. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { TenantId } from "../domain.ts";
import { deleteRule, putRule, type RuleStep } from "../persistence/escalation-rules.ts";
import { openDrivenWard } from "./helpers/driven-ward.ts";

const driven = await openDrivenWard();
const { openNode, person, toPerson, ruled, pages, hears, childrenOf, says, misses, dueIn } = driven;
const { database, siteId } = driven.ward;
test.after.each(driven.endNodes);
test.after(() => driven.ward.close());

test("a rule for every type is for pages without one and for types that have none, and for no chat", async () => {
  const node = openNode();
  const [ada, ben, cem] = [await person(), await person(), await person()];
  const steps: RuleStep[] = [{ kind: "SUBSCRIBER", subscriberId: ben.subscriberId, waitSeconds: 200 }];
  await putRule(database, { siteId, tenantId: "default" as TenantId, messageType: "*" }, { onIgnored: true, steps });
  for (const [messageType, to] of [
    ["", [ben.destination]],
    ["Unheard of", [ben.destination]],
    [await ruled([toPerson(cem)]), [cem.destination]],
    [" cHaT", []],
  ] as const) {
    const id = await pages(node, ada, messageType);
    await hears(id, "ENROUTE");
    await misses(node, id, "device_deadline");
    await hears(id, to.length > 0 ? "ESCALATED" : "FAILED");
    assert.equal(
      (await childrenOf(id)).map(({ destination }) => destination),
      to,
      messageType,
    );
    const declined = await pages(node, ada, messageType);
    await hears(declined, "ENROUTE");
    await says(node, ada, declined, "IGNORED");
    assert.is((await dueIn(declined)) !== null, to[0] === ben.destination, "by its own rule the host decides");
  }
  assert.is(await deleteRule(database, siteId, "*"), true);
});

test("a test page of our own is passed on by no rule: nobody is woken by it when it does not come back", async () => {
  const node = openNode();
  const [ada, ben] = [await person(), await person()];
  const messageType = await ruled([toPerson(ben)], true);
  const steps: RuleStep[] = [{ kind: "SUBSCRIBER", subscriberId: ben.subscriberId, waitSeconds: 200 }];
  await putRule(database, { siteId, tenantId: "default" as TenantId, messageType: "*" }, { onIgnored: true, steps });
  for (const type of ["Test", messageType]) {
    const id = await pages(node, ada, type, { synthetic: true });
    await hears(id, "ENROUTE");
    await misses(node, id, "device_deadline");
    await hears(id, "FAILED");
    assert.equal(await childrenOf(id), [], type);
  }
  const declined = await pages(node, ada, "Test", { synthetic: true });
  await hears(declined, "ENROUTE");
  await says(node, ada, declined, "IGNORED");
  assert.is(await dueIn(declined), null, "nor when it is declined");
  assert.is(await deleteRule(database, siteId, "*"), true);
});

test("the type a rule is for is compared as its pages' are, whatever letters the database's locale knows", async () => {
  const node = openNode();
  const [ada, ben] = [await person(), await person()];
  const messageType = ` ÄRZTE-Ruf ${randomUUID()} `;
  const steps: RuleStep[] = [{ kind: "SUBSCRIBER", subscriberId: ben.subscriberId, waitSeconds: 200 }];
  const of = { siteId, tenantId: "default" as TenantId, messageType };
  await putRule(database, of, { onIgnored: false, steps });
  const id = await pages(node, ada, messageType.trim());
  await hears(id, "ENROUTE");
  await misses(node, id, "device_deadline");
  await hears(id, "ESCALATED");
  assert.is(await deleteRule(database, siteId, messageType.trim()), true);
});

test.run();
