// limit: 120 s, waits
/** A database that is up and refuses renewals: its disk is full, or it is short of something. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { endAll, join, openPlace, settle } from "./helpers/nodes.ts";

test.after.each(endAll);

test("a node whose renewals were refused for long has its lease again within a second of the end of it", async () => {
  const place = await openPlace();
  const node = await join(place, "one");
  await settle(place, [node]);
  await place.sql.unsafe(`
    create function refuse() returns trigger language plpgsql as $$
    begin raise exception using errcode = '53100', message = 'the disk is full'; end $$;
    create trigger refuse before update on premise_core.nodes for each row execute function refuse()`);
  await eventually("its lease has lapsed", () => !node.leased(), 5_000);
  // A pause that went on doubling would be one of 3 s or 5 s by then.
  await sleep(6_000);
  await place.sql.unsafe("drop trigger refuse on premise_core.nodes");
  await eventually("it holds its lease", () => node.leased(), 1_000);
  assert.is(node.leased(), true);
});

test.run();
