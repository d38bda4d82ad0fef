/**
 * A process of its own that uses the embedded Postgres of a folder: prints what it was given, stops when its input ends.
 *
 *   node test/helpers/embedded-user.ts <dataDir>
 */
import { once } from "node:events";
import { silentLog } from "../../log.ts";
import { startEmbeddedPostgres } from "../../persistence/embedded.ts";

const dataDir = process.argv[2];
if (dataDir === undefined) throw new Error("usage: embedded-user.ts <dataDir>");
const { url, adopted, note, stop } = await startEmbeddedPostgres({ dataDir, log: silentLog });
console.log(JSON.stringify({ url, adopted, note }));
process.stdin.resume();
await once(process.stdin, "end");
await stop();
