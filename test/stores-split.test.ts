// limit: 120 s, waits
/** The logical databases of a node on servers that were once one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { silentLog } from "../log.ts";
import { openStores } from "../persistence/stores.ts";
import { eventually } from "./helpers/eventually.ts";
import { openPair } from "./helpers/pair.ts";

const dataDir = mkdtempSync(join(tmpdir(), "tocsin-split-"));
const closers: (() => Promise<void>)[] = [];
test.after(async () => {
  for (const close of closers.reverse()) await close();
  rmSync(dataDir, { recursive: true, force: true });
});

test("a database moved to a promoted copy of the server of the others does not make theirs an old primary", async () => {
  const pair = await openPair({ synchronous: false });
  closers.push(pair.close);
  await pair.promote();
  const [premise, core] = pair.urls;
  const slice = { node: "test", dataDir, premise: [premise], meta: [premise], core: [core] };
  for (const start of ["first", "second"]) {
    const opening = openStores(slice, { log: silentLog });
    let opened = false;
    void opening.then(() => {
      opened = true;
    });
    await eventually(`the ${start} start is over`, () => opened, 15_000);
    const stores = await opening;
    closers.push(stores.close);
    await stores.core.run((sql) => sql`create table if not exists written (n integer)`);
    await eventually(
      "both have been looked at a while",
      () => stores.core.servers().servers[0]?.replication != null,
      5_000,
    );
    assert.equal([stores.premise.isUp(), stores.core.isUp()], [true, true]);
    assert.equal(stores.premise.servers().refused, []);
    assert.is(await stores.premise.run((sql) => sql`select 1 as one`).then((rows) => rows.length), 1);
    await stores.close();
    closers.pop();
  }
});

test.run();
