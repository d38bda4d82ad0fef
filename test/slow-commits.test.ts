// limit: 120 s, waits
/** A primary whose every commit takes longer than one may, and comes back. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { silentLog } from "../log.ts";
import { openDatabase } from "../persistence/database.ts";
import { openPair } from "./helpers/pair.ts";

test("a primary whose commits are slow, and come back, is used: slowly is better than not at all", async () => {
  // Each commit waits until the standby has carried it out, which it does so much later.
  const pair = await openPair({ settings: { synchronous_commit: "remote_apply", recovery_min_apply_delay: "1800ms" } });
  const slice = { name: "core" as const, urls: pair.urls, node: "test", connectionsMax: 2 };
  const database = openDatabase(slice, { log: silentLog });
  try {
    await database.untilUp(10_000);
    assert.is(database.servers().primary?.state, "stalled");
    const began = performance.now();
    await database.run((sql) => sql`create table pages (n integer)`);
    assert.ok(performance.now() - began > 1_500, "it is as slow as that");
  } finally {
    await database.close();
    await pair.close();
  }
});

test.run();
