// limit: 120 s, alone
/** The primary is another after a promotion, or has begun anew: what its locks and times say of the nodes is nothing at first. */
import { writeFileSync } from "node:fs";
import { join as pathOf } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { arrange, drivenBy, endAll, endsWith, join, preparePlace, SHARDS, watch } from "./helpers/nodes.ts";
import { together } from "./helpers/together.ts";

async function arranged() {
  const server = await startPostgres();
  endsWith(server.close);
  const place = await preparePlace(server.url);
  const nodes = [await join(place, "one"), await join(place, "two")] as const;
  await arrange(place, nodes);
  await place.sql`delete from moves`;
  return { server, place, nodes };
}

together({
  async "after a promotion nodes that come back one after the other take nothing from each other, and drive what they had"() {
    const { server, place, nodes } = await arranged();
    const [one, two] = nodes;
    const had = nodes.map(drivenBy);
    const [folder] = await place.sql<{ path: string }[]>`select current_setting('data_directory') as path`;
    two.faults.cut = true;
    await server.stop();
    // As a standby would: it recovers what there is, and goes on in a history of its own.
    writeFileSync(pathOf(folder!.path, "standby.signal"), "");
    await eventually("no node drives anything", () => nodes.every((node) => drivenBy(node).length === 0), 5_000);
    await server.start();
    const sql = postgres(server.url, { max: 1, onnotice: () => {} });
    endsWith(() => sql.end({ timeout: 1 }));
    await sql`select pg_promote(true, 10)`;
    const [line] = await sql`select substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8) as line`;
    assert.is(line!.line, "00000002");
    await eventually("the first drives what it had", () => drivenBy(one).join() === had[0]!.join(), 5_000);
    // The other's lock is gone and its lease long over.
    await sleep(200);
    const stop = watch(nodes);
    two.faults.cut = false;
    await eventually("and so does the second", () => drivenBy(two).join() === had[1]!.join(), 5_000);
    await sleep(2_500);
    assert.is(stop().longestMs, 0);
    assert.equal([...(await sql`select * from moves`)], []);
  },

  async "a server that was started anew is given time as well, and a node that does not come back is written off after it"() {
    const { server, nodes } = await arranged();
    const [one, two] = nodes;
    const had = drivenBy(one).length;
    await server.stop();
    await two.kill();
    await sleep(2_500);
    await server.start();
    const up = performance.now();
    await eventually("the first drives what it had", () => drivenBy(one).length === had, 5_000);
    await eventually("it drives everything", () => drivenBy(one).length === SHARDS.length, 6_000);
    assert.ok(performance.now() - up > 1_700, "the second was given time");
  },
});

test.after(endAll);
test.run();
