// limit: 120 s, waits
/** A server in the list that is no copy of the primary: an empty one that was meant to become its standby. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openDatabase } from "../persistence/database.ts";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { recordLog } from "./helpers/log-record.ts";

test("while the primary is started anew nothing is written to a server of another cluster, and it is used again", async () => {
  const [primary, stray] = [await startPostgres(), await startPostgres()];
  const { log, lines } = recordLog();
  const slice = { name: "core" as const, urls: [primary.url, stray.url], node: "test", connectionsMax: 2 };
  const database = openDatabase(slice, { log });
  try {
    await database.untilUp(10_000);
    assert.is(database.currentUrl(), primary.url);
    await primary.kill();
    await eventually("the primary is left", () => database.currentUrl() !== primary.url, 5_000);
    await sleep(2_000);
    assert.is(database.currentUrl(), null);
    await primary.start();
    await eventually("it is found again", () => database.currentUrl() === primary.url, 5_000);
    const told = lines.filter(({ fields }) => fields.why === "another cluster");
    assert.equal([told.length, told[0]!.fields.server], [1, new URL(stray.url).host]);
  } finally {
    await database.close();
    await Promise.all([primary.close(), stray.close()]);
  }
});

test.run();
