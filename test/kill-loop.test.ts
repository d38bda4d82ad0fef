// limit: 420 s, once
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { randomFrom } from "./helpers/random.ts";
import { startRedis } from "./helpers/redis.ts";

const KILLS = Number(process.env.KILLS ?? 30);
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

for (const path of ["due rows", "BullMQ"] as const) {
  const kills = Math.ceil(KILLS / 2);
  test(`${kills} kills at any instant lose, double and reorder nothing, pushes by ${path} (SEED=${seed})`, async () => {
    const random = randomFrom(seed + (path === "BullMQ" ? 1 : 0));
    const postgres = await startPostgres();
    const redis = path === "BullMQ" ? await startRedis() : null;
    const settings: Record<string, string> = redis === null ? {} : { TOCSIN_REDIS_URL: redis.url };
    const ordeal = await openOrdeal({
      databaseUrl: postgres.url,
      random,
      hosts: 3,
      phones: 12,
      pagesPerSecond: 120,
      settings,
    });
    const { node } = ordeal.hospital;
    try {
      for (let kill = 0; kill < kills; kill += 1) {
        await new Promise((resolve) => setTimeout(resolve, random.between(20, 700)));
        await node.kills();
        await node.starts();
      }
      await ordeal.heals(60_000);
      const faults = ordeal.history.faults();
      const accepted = ordeal.history.accepted();
      console.log(
        `  ${kills} kills, ${ordeal.history.pages.size} pages, ${accepted} accepted, ${faults.length} faults, seed ${seed}`,
      );
      for (const fault of faults.slice(0, 20)) console.log(`  ${fault}`);
      assert.equal(faults.length, 0);
      assert.ok(accepted > kills, "there was work under way");
    } finally {
      await ordeal.close();
      await postgres.close();
      await redis?.close();
    }
  });
}

test.run();
