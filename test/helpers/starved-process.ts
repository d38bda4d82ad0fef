/**
 * A process that has a database and then no file or socket left to open: `node test/helpers/starved-process.ts <url>`, forked, with few
 * allowed. Says "up", starves and says "starved"; asked, it says whether a statement goes well.
 */
import { openSync } from "node:fs";
import { silentLog } from "../../log.ts";
import { openDatabase } from "../../persistence/database.ts";

const [url] = process.argv.slice(2) as [string];
const database = openDatabase({ name: "core", urls: [url], node: "starved", connectionsMax: 1 }, { log: silentLog });
await database.untilUp(10_000);
await database.run((sql) => sql`select 1`);

let starved = false;
function starve(): void {
  try {
    for (;;) openSync("/dev/null", "r");
  } catch {
    if (!starved) process.send?.("starved");
    starved = true;
    // What it closes is gone at once, too.
    setImmediate(starve);
  }
}

process.on("disconnect", () => process.exit(0));
process.on("message", () => {
  database
    .run((sql) => sql`select 1`)
    .then(
      () => process.send?.("well"),
      () => process.send?.("refused"),
    );
});
// What runs at first opens files of its own.
setTimeout(starve, 1_000);
