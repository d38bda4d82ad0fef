// limit: 400 s, once
import { test } from "uvu";
import * as assert from "uvu/assert";
import { autopsy, readiness } from "./helpers/autopsy.ts";
import { openCluster } from "./helpers/cluster.ts";
import { befall } from "./helpers/mix.ts";
import { openOnCall } from "./helpers/on-call.ts";
import { randomFrom } from "./helpers/random.ts";
import { stepFaults } from "./helpers/steps.ts";

/** How many mixes; a long run is a command of its own, see package.json. */
const MIXES = Number(process.env.MIXES ?? 2);
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const RATE = Number(process.env.RATE ?? 100);
const UNIQUE_ID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
const FOR_MS = 6_000;
const HEAL_MS = 90_000;
/** Each alert that is passed on is several pages, and has its own half minute. */
const ALERT_EVERY_MS = 500;

test(`${MIXES} mixes of faults on three nodes, two databases and a Redis lose, double and reorder nothing (SEED=${seed})`, async () => {
  const cluster = await openCluster({
    nodes: 3,
    random: randomFrom(seed),
    hosts: 6,
    phones: 12,
    pagesPerSecond: RATE,
    listens: true,
    replies: true,
  });
  // Registering is asked once: not beside the load.
  const alerts = await cluster
    .heals(HEAL_MS)
    .then(() => openOnCall(cluster, randomFrom(seed)))
    .catch(async (error: unknown) => {
      await cluster.close();
      throw error;
    });
  cluster.resumes();
  try {
    await cluster.settles();
    let known = 0;
    for (let mix = 0; mix < MIXES; mix += 1) {
      const random = randomFrom(seed + mix);
      const accepted = cluster.history.accepted();
      const passedOn = alerts.sent();
      const over = new AbortController();
      const done: string[] = [];
      const say = (text: string) => console.log(`  mix ${seed + mix}: ${text}`);
      try {
        const sending = alerts.sends(ALERT_EVERY_MS, over.signal);
        await befall(cluster, random, FOR_MS, (what) => void done.push(what)).finally(() => over.abort());
        await sending;
        await cluster.heals(HEAL_MS);
        await alerts.ends(HEAL_MS);
        await cluster.settles();
      } catch (error) {
        for (const what of done) say(what);
        for (const line of await readiness(cluster.nodes.map((node) => node.run().url))) say(line);
        for (const { trackingId } of cluster.history.unfinished().slice(0, 3))
          for (const line of await autopsy(cluster.sql(), trackingId)) say(line);
        throw error;
      }
      const faults = [...(await alerts.faults()), ...cluster.history.faults(), ...(await stepFaults(cluster.sql()))];
      const pages = `${cluster.history.accepted() - accepted} pages accepted and ${alerts.sent() - passedOn} alerts passed on`;
      say(`${done.length} faults, ${pages}, ${faults.length} wrongs`);
      if (faults.length > known) for (const what of [...done, ...faults.slice(0, 20)]) say(what);
      for (const id of faults.flatMap((fault) => UNIQUE_ID.exec(fault)?.[0] ?? []).slice(known, known + 3))
        for (const line of await autopsy(cluster.sql(), id)) say(line);
      known = faults.length;
      assert.ok(cluster.history.accepted() > accepted, "there was work under way");
      cluster.resumes();
    }
    assert.is(known, 0);
  } finally {
    await alerts.close();
    await cluster.close();
  }
});

test.run();
