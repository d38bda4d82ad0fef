/** A page of high priority while a crowd of other statements waits for the database: phones that all come back at once. */
import { randomUUID } from "node:crypto";
import { Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openPaging } from "../actors/paging.ts";
import { startActorSystem } from "../cluster/actor-system.ts";
import { openBus } from "../cluster/bus.ts";
import type { Membership } from "../cluster/membership.ts";
import { openBranches } from "../cluster/shards.ts";
import { type BootId, type GatewayType, systemClock } from "../domain.ts";
import { openHosted } from "../gateways/core2core/hosted.ts";
import { makeLink } from "../gateways/mxpp/link.ts";
import { openLinks } from "../gateways/mxpp/links.ts";
import type { PushProvider } from "../gateways/push/provider.ts";
import { openPush } from "../gateways/push/push.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import { eventually } from "./helpers/eventually.ts";
import { rest } from "./helpers/together.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const { database } = ward;
const lab = await ward.host("lab");

/** Addresses that were pushed to. */
const pushed: string[] = [];
const provider: PushProvider = {
  name: "FCM",
  async send({ notificationAddress }) {
    pushed.push(notificationAddress);
    return { kind: "accepted", providerId: null };
  },
  async close() {},
};
const tools = { log: silentLog, meter: silentMeter, clock: systemClock };
const bus = openBus(null, { log: silentLog });
const system = startActorSystem("node");
const providers = new Map<GatewayType, PushProvider>([["GCM", provider]]);
const push = openPush({ redis: null }, { ...tools, premise: database, core: database, providers });
const hosted = openHosted({ ...tools, premise: database, core: database, queued: push.queued });
const paging = openPaging(
  { node: "node-a", urls: () => ["http://127.0.0.1:1"], coreVersion: "1" },
  {
    ...tools,
    database,
    system,
    branch: openBranches(system, "node"),
    membership: { drives: () => true } as unknown as Membership,
    bus,
    hosted,
  },
);
const links = openLinks({ ...tools, database });
test.after(async () => {
  await links.close();
  await hosted.close();
  await push.close();
  system.close();
  await ward.close();
});

test("a page of high priority reaches its push service, and its host hears so, before a crowd that came first", async () => {
  const address = randomUUID();
  await ward.device(await ward.subscriber("5551234"), { address });
  const told: string[] = [];
  const link = await makeLink(
    lab,
    new Socket(),
    (news) => {
      told.push(...news.map(({ status }) => status));
      return { end: 0, more: true };
    },
    { ...tools, database, system, parent: system.root, bus, boot: randomUUID() as BootId, links },
  );
  let crowded = true;
  let served = 0;
  // Each takes 20 ms of one of the six connections: whoever waits his turn waits for more than two seconds.
  const crowd = Array.from({ length: 700 }, async () => {
    while (crowded) {
      await database.run((run) => run`select pg_sleep(0.02)`).catch(() => rest(50));
      served += 1;
    }
  });
  await eventually("the crowd is being served", () => served > 0);
  const before = served;
  try {
    await paging.accept(pageFor(ward, lab, "5551234", { priority: "high", linkId: link.id }));
    await eventually(
      "it is pushed, and its host is told",
      () => pushed.includes(address) && told.includes("ENROUTE"),
      20_000,
    );
  } finally {
    crowded = false;
    await Promise.all(crowd);
    await link.close(false);
  }
  const first = served - before - crowd.length;
  console.log(`  ${first} of the crowd went before it`);
  assert.equal(told, ["ACCEPTED", "QUEUED", "ENROUTE"]);
  assert.ok(first < 300, `${first}`);
});

test.run();
