// limit: 300 s
/**
 * Alerts that their recipients do not answer, on three nodes that are killed, frozen and restarted meanwhile: each is passed on as its rule
 * says, until somebody accepts or the rule has nothing left, its host hears so, and nothing was done twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCluster } from "./helpers/cluster.ts";
import { openOnCall } from "./helpers/on-call.ts";
import { randomFrom } from "./helpers/random.ts";
import { stepFaults } from "./helpers/steps.ts";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const APART_MS = 500;
const END_MS = 120_000;

test(`alerts are passed on until somebody answers while nodes are killed, frozen and restarted (SEED=${seed})`, async () => {
  const random = randomFrom(seed);
  const cluster = await openCluster({
    ...{ nodes: 3, random, hosts: 2, phones: 4, pagesPerSecond: 5, replies: true, listens: true, proxied: [] },
  });
  try {
    await cluster.settles();
    const alerts = await openOnCall(cluster, random);
    try {
      const over = new AbortController();
      const sending = alerts.sends(APART_MS, over.signal);
      for (const node of [1, 2, 0]) {
        await sleep(random.between(2_000, 5_000));
        await cluster.kills(node);
        await sleep(random.between(200, 2_000));
        await cluster.starts(node);
        await sleep(random.between(500, 2_000));
        cluster.freezes((node + 1) % 3);
        await sleep(random.between(500, 3_000));
        cluster.thaws((node + 1) % 3);
      }
      over.abort();
      await sending;
      await alerts.ends(END_MS);
      await cluster.heals(END_MS);
      console.log(`  ${alerts.sent()} alerts`);
      assert.equal([...(await alerts.faults()), ...cluster.history.faults(), ...(await stepFaults(cluster.sql()))], []);
    } finally {
      await alerts.close();
    }
  } finally {
    await cluster.close();
  }
});

test.run();
