import { test } from "uvu";
import * as assert from "uvu/assert";
import { DatabaseBusy } from "../persistence/database-faults.ts";
import { openTestDatabase } from "./helpers/database.ts";
import { openings, sleeps, works } from "./helpers/tested-database.ts";

const server = await openTestDatabase();
const { openUp, closeAll } = openings(server.url);
test.after.each(closeAll);
test.after(() => server.close());

test("a deadline counts from when a statement is sent: a crowd before a healthy server does not make it look lost", async () => {
  const database = await openUp([server.url], 2);
  const changes: boolean[] = [];
  database.onChange((up) => changes.push(up));
  await Promise.all(Array.from({ length: 16 }, () => sleeps(database, 0.15, 500)));
  assert.equal(changes, []);
});

test("a flood is refused as too much, what was sent is carried out, and the pool stays the same", async () => {
  const database = await openUp([server.url], 2);
  const changes: boolean[] = [];
  database.onChange((up) => changes.push(up));
  const holding = [sleeps(database, 3.5), sleeps(database, 3.5)];
  const ends = await Promise.allSettled(Array.from({ length: 3_000 }, () => works(database)));
  await Promise.all(holding);
  for (const end of ends) if (end.status === "rejected") assert.instance(end.reason, DatabaseBusy);
  assert.ok(
    ends.every((end) => end.status === "rejected"),
    "a full line at once, the others after their wait",
  );
  assert.is(await works(database), true);
  assert.equal(changes, []);
});

test("an urgent statement is sent before a crowd that came first", async () => {
  const database = await openUp([server.url], 1);
  await database.run((sql) => sql`create table flood (id integer generated always as identity, who text)`);
  const writes = (who: string, urgent: boolean) =>
    database.run((sql) => sql`insert into flood (who) select ${who} from pg_sleep(0.005)`, undefined, urgent);
  const crowd = Array.from({ length: 100 }, () => writes("crowd", false));
  await Promise.all([...crowd, writes("page", true)]);
  const [row] = await database.run<{ before: number }>(
    (sql) => sql`select count(*)::integer as before from flood where id < (select id from flood where who = 'page')`,
  );
  assert.ok(row!.before < 10, `${row!.before} of 100 went first`);
});

test.run();
