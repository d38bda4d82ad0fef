// limit: 360 s
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { randomFrom } from "./helpers/random.ts";

/** Kills at each point; many are a part of `npm run soak`. */
const ROUNDS = Number(process.env.ROUNDS ?? 1);
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const server = await startPostgres();
const ordeal = await openOrdeal({
  databaseUrl: server.url,
  random: randomFrom(seed),
  hosts: 2,
  phones: 6,
  pagesPerSecond: 40,
  replies: true,
});
const { node } = ordeal.hospital;
const sql = postgres(server.url, { max: 2, onnotice: () => {} });

/** A trigger that holds every such statement for 0.4 s, and so the instant before its commit open. */
async function holds(what: string, table: string): Promise<void> {
  await sql.unsafe(`
    create or replace function hold() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.4); return null; end $$;
    create trigger hold ${what} on ${table} for each statement execute function hold();`);
}

async function letsGo(table: string): Promise<void> {
  await sql.unsafe(`drop trigger if exists hold on ${table}`);
}

const held = () =>
  eventually(
    "a statement is held",
    async () => (await sql`select from pg_stat_activity where wait_event = 'PgSleep'`).length > 0,
  );
/** In the middle of such a statement. */
async function inside(what: string, table: string): Promise<void> {
  await holds(what, table);
  await held();
}

const since = async (event: string) =>
  Number((await sql`select count(*) from premise_core.message_history where event = ${event}`)[0]!.count);

async function happens(event: string): Promise<void> {
  const before = await since(event);
  await eventually(`${event} is written`, async () => (await since(event)) > before);
}

const POINTS: readonly [string, () => Promise<unknown>, string | null][] = [
  [
    "between a page's bytes and its commit",
    () => inside("after insert", "premise_core.messages"),
    "premise_core.messages",
  ],
  ["just after a page is committed", () => happens("ACCEPTED"), null],
  [
    "between a push request and its commit",
    () => inside("after insert", "premise_core.notifications"),
    "premise_core.notifications",
  ],
  [
    "between a stored notification and its queue row",
    () => inside("before insert", "core.message_queue"),
    "core.message_queue",
  ],
  ["while a push is claimed", () => inside("after update", "core.message_queue"), "core.message_queue"],
  [
    "between a push sent and its outcome",
    () => inside("before update", "premise_core.notifications"),
    "premise_core.notifications",
  ],
  [
    "between a push's outcome and its queue row's end",
    () => inside("before delete", "core.message_queue"),
    "core.message_queue",
  ],
  ["just after ENROUTE", () => happens("ENROUTE"), null],
  [
    "between a phone's receipt, or ENROUTE, and its commit",
    () => inside("after update", "premise_core.messages"),
    "premise_core.messages",
  ],
  ["just after DELIVERED", () => happens("DELIVERED"), null],
  ["just after READ", () => happens("READ"), null],
  ["between a reply and its commit", () => inside("after insert", "premise_core.replies"), "premise_core.replies"],
  ["just after a reply", () => happens("REPLY"), null],
  [
    "while a host is told",
    async () => {
      await holds("before delete", "premise_core.host_outbox");
      await happens("READ");
    },
    "premise_core.host_outbox",
  ],
  [
    "while its links are made known",
    async () => {
      await holds("after insert", "premise_core.host_links");
      await node.kills();
      await node.starts();
      await held();
    },
    "premise_core.host_links",
  ],
];

for (const [when, comes, table] of POINTS) {
  test(`a node killed ${when} loses, doubles and reorders nothing`, async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await comes();
      await node.kills();
      if (table !== null) await letsGo(table);
      await node.starts();
      const before = ordeal.history.accepted();
      await eventually("pages are accepted again", () => ordeal.history.accepted() > before + 5, 30_000);
    }
    assert.equal(ordeal.history.disorders().slice(0, 10), []);
  });
}

test("after all of it every page accepted was shown once and told in order, and every reply told", async () => {
  await ordeal.heals(60_000);
  assert.equal(ordeal.history.faults().slice(0, 10), []);
});

test.after(async () => {
  await sql.end({ timeout: 0 }).catch(() => {});
  await ordeal.close();
  await server.close();
});
test.run();
