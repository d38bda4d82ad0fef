/** Which host systems a node knows, while the network to the database fails: who is refused has been asked for just then. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { openKnownHosts } from "../gateways/mxpp/known-hosts.ts";
import { silentLog } from "../log.ts";
import { DatabaseDown, openDatabase } from "../persistence/database.ts";
import type { HostSystem } from "../persistence/host-systems.ts";
import { openProxy, through } from "./helpers/proxy.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const { hostname: host, port } = new URL(ward.url);
const proxy = await openProxy({ host, port: Number(port) });
const database = openDatabase(
  { name: "premise_core", urls: [through(proxy, ward.url)], node: "test", connectionsMax: 2 },
  { log: silentLog },
);
await database.untilUp(5_000);
const hosts = openKnownHosts({ database, clock: systemClock });
const names = (known: readonly HostSystem[]) => known.map(({ name }) => name).sort();
test.after(async () => {
  await database.close();
  await proxy.close();
  await ward.close();
});

test("while the database is away the list of before serves, but for who would be refused by it", async () => {
  await ward.host("lab");
  assert.equal(names(await hosts(false)), ["lab"]);
  await ward.host("made since");
  proxy.refuses();
  await sleep(1_100);
  assert.equal(names(await hosts(false)), ["lab"], "it is old, and serves");
  const refused = await hosts(true).catch((error: unknown) => error);
  assert.instance(refused, DatabaseDown, "nobody is refused by an old list");
  proxy.heals();
  await database.untilUp(5_000);
  assert.equal(names(await hosts(true)), ["lab", "made since"]);
});

test("who asks for the list as it is now does not get one that was being read before", async () => {
  await sleep(1_100);
  proxy.delays(300);
  const before = hosts(false);
  await sleep(450); // The server has answered; its answer is on the way.
  await ward.host("made meanwhile");
  const [now, same] = await Promise.all([hosts(true), hosts(true)]);
  assert.not(
    (await before).some(({ name }) => name === "made meanwhile"),
    "that was read before",
  );
  assert.ok(now.some(({ name }) => name === "made meanwhile"));
  assert.is(now, same, "those who ask together share one answer");
  proxy.delays(0);
});

test.run();
