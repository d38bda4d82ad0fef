import { test } from "uvu";
import * as assert from "uvu/assert";
import { BadData, Conflict } from "../persistence/database.ts";
import { openTestDatabase } from "./helpers/database.ts";
import { downOf, faultOf, openings } from "./helpers/tested-database.ts";

const server = await openTestDatabase();
const { openUp, closeAll } = openings(server.url);
test.after.each(closeAll);
test.after(() => server.close());

test("a value the server cannot hold is bad data and nothing of it is in the error", async () => {
  const database = await openUp();
  const secret = "potassium 6.8";
  const faults = await Promise.all([
    faultOf(database.run((sql) => sql`select ${`${secret}\u0000`}::text`)),
    faultOf(database.run((sql) => sql`select ${JSON.stringify({ text: `${secret}\u0000` })}::text::jsonb`)),
    faultOf(database.run((sql) => sql`select ${secret}::text::integer`)),
  ]);
  for (const fault of faults) {
    assert.instance(fault, BadData);
    assert.not.match(`${fault.message} ${JSON.stringify(fault)} ${fault.stack} ${fault.cause}`, "potassium");
  }
  assert.is(database.isUp(), true);
});

test("a violated constraint is bad data that names the constraint", async () => {
  const database = await openUp();
  await database.run((sql) => sql`create table if not exists bound (id integer constraint positive check (id > 0))`);
  const fault = await faultOf(database.run((sql) => sql`insert into bound values (${-1})`));
  assert.instance(fault, BadData);
  assert.equal([(fault as BadData).code, (fault as BadData).constraint], ["23514", "positive"]);
});

test("a deadlock is a conflict for one, and the database stays", async () => {
  const database = await openUp();
  await database.run((sql) => sql`create table if not exists locked (id integer primary key, at timestamptz)`);
  await database.run((sql) => sql`insert into locked values (1), (2) on conflict do nothing`);
  await database.run(
    (sql) => sql`
    create or replace function lock_both(first integer, second integer) returns void language plpgsql as $$
    begin
      perform from locked where id = first for update;
      perform pg_sleep(0.3);
      perform from locked where id = second for update;
    end $$`,
  );
  const lockBoth = (first: number, second: number) => database.run((sql) => sql`select lock_both(${first}, ${second})`);
  const ends = await Promise.allSettled([lockBoth(1, 2), lockBoth(2, 1)]);
  const failed = ends.flatMap((end) => (end.status === "rejected" ? [end.reason] : []));
  assert.is(failed.length, 1);
  assert.instance(failed[0], Conflict);
  assert.is(database.isUp(), true);
});

test("a fault of ours is the server's own error and no lost database", async () => {
  const database = await openUp();
  const fault = await faultOf(database.run((sql) => sql`select nothing from nowhere`));
  assert.is((fault as { code?: string }).code, "42P01");
  assert.is(database.isUp(), true);
});

test("a full disk, a server short of memory and a cancelled statement are waited out, and the connections stay", async () => {
  const database = await openUp();
  for (const code of ["53100", "53200", "58030", "57014"]) {
    const down = await downOf(
      database.run((sql) => sql.unsafe(`do $$ begin raise exception 'no' using errcode = '${code}'; end $$`) as never),
    );
    assert.is(down.unknown, false, code);
    assert.is(database.isUp(), true, code);
  }
});

test.run();
